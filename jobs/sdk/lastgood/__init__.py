"""The training side of lastgood: `import lastgood`, `lastgood.main(train)`.

This package is all of ours that lives in a training process. It imports the standard library, xxhash and (when a
state is saved or restored) torch, and nothing else of this project: a user's own `jobs` or `monitors` package cannot
shadow it, and it runs the same under plain `python`, `torchrun` and a supervised run.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lastgood.faults import Drill
    from lastgood.run import Run, main

__all__ = ["Drill", "Run", "main"]
OF = {"Drill": "lastgood.faults", "Run": "lastgood.run", "main": "lastgood.run"}


def __getattr__(name: str) -> Any:
    """Imported when somebody trains: what verifies a save or reads a progress file starts in half the time without."""
    if name not in OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(OF[name]), name)
    return value

"""The training side of lastgood: `import lastgood`, `lastgood.main(train)`.

This package is all of ours that lives in a training process. It imports the standard library, xxhash and (when a
state is saved or restored) torch, and nothing else of this project: a user's own `jobs` or `monitors` package cannot
shadow it, and it runs the same under plain `python`, `torchrun` and a supervised run.
"""

from lastgood.faults import Drill
from lastgood.run import Run, main

__all__ = ["Drill", "Run", "main"]

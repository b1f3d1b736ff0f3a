"""How does what goes wrong with one run stay that run's own? It is left alone, which is told; all others go on.

What is left alone trains on: its agents are welcome, their reports are not acknowledged, so that nothing is lost for
the supervisor that can decide about it again.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from orchestrator.core.actions import Alert
from orchestrator.core.policy import Severity
from orchestrator.home import Home
from orchestrator.journal import JournalNewer, JournalUnavailable
from orchestrator.requests import AskError

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOSPC})
"""errors of a process or host that has come to its limits: no run's own"""


@contextmanager
def bulkhead(give_up: Callable[[Exception], None]) -> Iterator[None]:
    """`give_up` gets what went wrong inside; what concerns every run, or answers a person, goes through."""
    try:
        yield
    except Exception as error:
        if not is_of_one_run(error):
            raise
        give_up(error)


def is_of_one_run(error: Exception) -> bool:
    """Not so: a journal that is unavailable, a process that has come to its limits, an answer to a person."""
    if isinstance(error, JournalNewer):  # one run's event, which a newer lastgood wrote
        return True
    if isinstance(error, OSError):
        return error.errno not in EXHAUSTED
    return not isinstance(error, AskError | JournalUnavailable | MemoryError)


def note(home: Home, run: str, error: Exception) -> str:
    """Write down why a run is left alone; returns the reason, or nothing when it was known."""
    why = f"{type(error).__name__}: {error}"
    if unsupervised(home.root, run) == why:
        return ""
    with suppress(OSError):  # who asks is then told less; the log has it
        path = _path(home.root, run)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".writing")
        draft.write_text(json.dumps({"why": why}))
        draft.replace(path)
    return why


def unsupervised(root: Path, run: str) -> str | None:
    """Why no supervisor decides about a run; None for one that is looked after."""
    try:
        return str(json.loads(_path(root, run).read_text())["why"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"the note about it cannot be read: {error}"


def clear(home: Home, run: str) -> None:
    """It is looked after again."""
    with suppress(OSError):
        _path(home.root, run).unlink()


def page(run: str, why: str) -> Alert:
    """What a person is woken with."""
    return Alert(
        severity=Severity.CRITICAL,
        title=f"{run} is unsupervised",
        text=f"{why}; it trains on, but nobody brings it back: see supervisor.log, then `lastgood resume {run}`",
        page=True,
    )


def _path(root: Path, run: str) -> Path:
    return root / "runs" / run / "unsupervised.json"

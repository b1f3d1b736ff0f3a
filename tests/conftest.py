"""What holds for every test: one seed replays everything, and the ways of the shell that started them end here.

Nor may anything under test do what only root may do on a user's machine: lower a nice value, or leave SCHED_IDLE.
"""

from __future__ import annotations

import ctypes
import gc
import re
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples every time: what fails here failed for the change that is being tested, and fails again. Looking for
# new ones is another thing, done on purpose: make test ARGS="-k totality --hypothesis-profile=hunt".
settings.register_profile("same", derandomize=True, database=None)
settings.register_profile("hunt", print_blob=True)
settings.load_profile("same")

PR_CAPBSET_DROP, CAP_SYS_NICE = 24, 23  # linux/prctl.h, linux/capability.h
OURS = ("e2e", "alone", "long", "soak", "browser", "gpu")
"""marks that pyproject.toml says the meaning of"""


def pytest_configure() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C; commands under test would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_NICE)  # refused where it is not held anyway
    gc.disable()


def pytest_collection_finish() -> None:
    """Imports and collecting make a million objects and next to no garbage: looking for it takes a third of the time.

    What is there now stays; no later look goes through it again.
    """
    gc.freeze()
    gc.enable()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A file that says nothing of a mark that is asked for has no such test, and need not be imported to learn that.

    A mark is given by the file or by the `conftest.py` beside it. Where only the end-to-end tests are wanted, or those
    that open pages, collecting the others takes each worker three seconds.
    """
    if collection_path.suffix != ".py":
        return None
    said = [path.read_text() for path in (collection_path, collection_path.with_name("conftest.py")) if path.exists()]
    wanted = [f"mark.{mark}" for mark in _wanted(config.getoption("markexpr"))]
    return True if any(not any(mark in text for text in said) for mark in wanted) else None


def _wanted(marks: str) -> list[str]:
    """Those of ours without which nothing is selected: each stands in its own part of a row of `and`."""
    parts = [] if re.search(r"\bor\b|[()]", marks) else marks.split(" and ")
    return [part.strip() for part in parts if part.strip() in OURS]

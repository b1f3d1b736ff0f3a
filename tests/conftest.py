"""What holds for every test: one seed replays everything, and the ways of the shell that started them end here."""

from __future__ import annotations

import gc
import signal

from hypothesis import settings

# The same examples every time: what fails here failed for the change that is being tested, and fails again. Looking for
# new ones is another thing, done on purpose: make test ARGS="-k totality --hypothesis-profile=hunt".
settings.register_profile("same", derandomize=True, database=None)
settings.register_profile("hunt", print_blob=True)
settings.load_profile("same")


def pytest_configure() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C; commands under test would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()


def pytest_collection_finish() -> None:
    """Imports and collecting make a million objects and next to no garbage: looking for it takes a third of the time.

    What is there now stays; no later look goes through it again.
    """
    gc.freeze()
    gc.enable()

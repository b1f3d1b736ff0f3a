"""What holds for every test: the ways of the shell that started them do not reach them."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C; commands under test would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

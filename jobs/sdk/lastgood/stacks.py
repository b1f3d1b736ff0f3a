"""Where does a rank stand that does not answer? Its main thread's stack, written from inside a signal."""

from __future__ import annotations

import faulthandler
import os
import signal
from pathlib import Path

SIGNAL = signal.SIGRTMIN + 3
"""Makes a rank append the stack of its main thread to `stack.txt`; send it only once that file exists."""


def show_on_order(folder: str | None) -> None:
    """Have the agent's signal write the main thread's stack into this folder."""
    # From C, without the interpreter's help: it answers when Python spins and when it waits inside a collective.
    faulthandler.enable()
    if folder is None:
        return
    stacks = Path(folder) / "stack.txt"
    file = os.open(stacks.with_suffix(".new"), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # The thread that is interrupted, and no other: their frames may change while they are read, which is a crash.
    faulthandler.register(SIGNAL, file=file, all_threads=False)
    stacks.with_suffix(".new").replace(stacks)

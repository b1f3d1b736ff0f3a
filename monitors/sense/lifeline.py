"""How does a process end with the one that started it? The kernel kills it when its parent's thread ends."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with(parent: int) -> bool:
    """Ask for it; False when the parent is gone already.

    The signal comes when the *thread* that started us ends, so a parent starts such children from one that stays.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent

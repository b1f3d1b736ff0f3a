"""How does a process take only the time that nobody else wants, and come back from that?

Whoever is not root, or is root in most containers, can raise a nice value and enter SCHED_IDLE, and never come back.
But a session counts as one where the kernel weighs sessions against each other (autogroup, as Debian has it), it has a
nice value of its own, which counts instead of those of its processes, and one that begins later has none of that.

Where processes are in a control group that weighs them (a job of Slurm, a container with limits), sessions do not
count: there the background is like the foreground.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

LOWEST = 19
TRIES, AGAIN_S = 20, 0.11
_OF_SESSION = "/proc/self/autogroup"


def begin() -> None:
    """Begin a session that yields to all others. A process forked from here can leave it, this one cannot."""
    os.setsid()
    _weigh(LOWEST)


def step_back(niceness: int) -> None:
    """Yield as far as a nice value says, also where sessions are weighed; for a process that began its own session."""
    os.nice(niceness)
    if os.getsid(0) == os.getpid():
        _weigh(niceness)


def leave() -> None:
    """Be as urgent as any process, in a session of its own."""
    os.setsid()


def _weigh(niceness: int) -> None:
    """As far as the kernel lets us; of all who are not root it takes one such word in a tenth of a second."""
    with suppress(OSError), open(_OF_SESSION, "wb", buffering=0) as file:
        for _ in range(TRIES):
            try:
                file.write(str(niceness).encode())
                return
            except BlockingIOError:
                time.sleep(AGAIN_S)

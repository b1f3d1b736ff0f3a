"""What time is it? The one module that reads a clock.

Everything else is told the time: inside a signal, inside an event, or as an argument. Times are seconds since
the epoch as a float, durations are seconds with the suffix `_s`.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time; tests and the simulator hand in one they can move."""

    def now(self) -> float:
        """Seconds since the epoch, never running backwards within one process."""
        ...


class SystemClock:
    """Wall time at construction plus monotonic time since: an NTP step cannot make an event older than its cause."""

    def __init__(self) -> None:
        self._offset_s = time.time() - time.monotonic()

    def now(self) -> float:
        """Seconds since the epoch, never running backwards within one process."""
        return self._offset_s + time.monotonic()


def until_shared(every_s: float) -> float:
    """Seconds until the next multiple of `every_s`: whoever looks at the same moments wakes the host once for all."""
    left_s = every_s - time.monotonic() % every_s
    return left_s if left_s > every_s / 10 else left_s + every_s  # a timer may be early by a hair


def uptime_s() -> float:
    """Seconds since this host's kernel started, as its log counts them."""
    return time.monotonic()

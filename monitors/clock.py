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


def uptime_s() -> float:
    """Seconds since this host's kernel started, as its log counts them."""
    return time.monotonic()

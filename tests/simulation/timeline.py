"""What happens next? Virtual time: a queue of callbacks, and the clock of everything in the simulation."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

Call = Callable[[], None]

EPOCH_S = 1_700_000_000.0
"""where simulated time begins: a real date, so that journals of simulations read like others"""


class Timeline:
    """Callbacks in the order of their times; equal times in the order of their scheduling. A `monitors.clock.Clock`."""

    def __init__(self) -> None:
        self.at = EPOCH_S
        """now, in seconds since the epoch"""
        self._number = count()
        self._queue: list[tuple[float, int, Call]] = []

    def now(self) -> float:
        """Seconds since the epoch."""
        return self.at

    @property
    def next_at(self) -> float:
        """When the next callback is due; infinity when nothing is left to happen."""
        return self._queue[0][0] if self._queue else float("inf")

    def after(self, delay_s: float, call: Call) -> None:
        """Call later; never now, so that nothing is called from inside itself."""
        heappush(self._queue, (self.at + (delay_s if delay_s > 0.001 else 0.001), next(self._number), call))

    def advance(self, at: float) -> None:
        """Move on, at most to the next callback's time."""
        assert at <= self.next_at
        self.at = max(self.at, at)

    def step(self) -> None:
        """Move to the next callback and call it."""
        self.at, _, call = heappop(self._queue)
        call()

"""When is the next look at the ranks? Each wakes a core that training may want, so it is seldom while all is well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from monitors.clock import Clock, until_shared
from monitors.signals import SEEN_EVERY_S

TICK_S = 0.05
STEADY_S = 0.5
"""while every rank trains and has just moved: one look less leaves 2 ms of a core to training"""
REST_S = 1.0
"""while a glance is enough in between: what is told once a second wakes the supervisor once a second"""


class Pulse:
    """Looks for ever from the first beat on."""

    def __init__(
        self, clock: Clock, *, look: Callable[[], bool], glance: Callable[[], bool], seen: Callable[[float], None]
    ) -> None:
        """`look` returns whether all is steady, `glance` whether it still is and nothing but steps would be told.

        `seen` is told now and then that somebody looked, and when.
        """
        self._clock = clock
        self._look = look
        self._glance = glance
        self._seen = seen
        self._seen_at = self._rests_until = float("-inf")
        self._next: asyncio.TimerHandle | None = None

    def beat(self) -> None:
        """Look at once, also where the next look was far; a glance is as good while all is steady."""
        if self._next is not None:
            self._next.cancel()
        now = self._clock.now()
        every_s = STEADY_S if now < self._rests_until and self._glance() else self._looked(now)
        self._next = asyncio.get_running_loop().call_later(until_shared(every_s), self.beat)

    def _looked(self, now: float) -> float:
        steady = self._look()
        # A timer may be early by a hair, and the next look is one of those that are shared.
        self._rests_until = now + until_shared(REST_S) - TICK_S if steady else float("-inf")
        if now - self._seen_at >= SEEN_EVERY_S * 0.9:  # a moment early is better than one look late
            self._seen_at = now
            self._seen(now)
        return STEADY_S if steady else TICK_S

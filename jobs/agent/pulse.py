"""When is the next look at the ranks? Each wakes a core that training may want, so it is seldom while all is well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from monitors.clock import Clock, until_shared
from monitors.signals import SEEN_EVERY_S


class Pulse:
    """Looks for ever from the first beat on. `look` returns how often that should be done now."""

    def __init__(self, clock: Clock, *, look: Callable[[], float], seen: Callable[[float], None]) -> None:
        """`seen` is told now and then that somebody looked, and when."""
        self._clock = clock
        self._look = look
        self._seen = seen
        self._seen_at = float("-inf")
        self._next: asyncio.TimerHandle | None = None

    def beat(self) -> None:
        """Look at once, also where the next look was far."""
        if self._next is not None:
            self._next.cancel()
        every_s = self._look()
        now = self._clock.now()
        if now - self._seen_at >= SEEN_EVERY_S * 0.9:  # a moment early is better than one look late
            self._seen_at = now
            self._seen(now)
        self._next = asyncio.get_running_loop().call_later(until_shared(every_s), self.beat)

"""Are ranks looked at as often as they need, and no more?"""

from __future__ import annotations

import asyncio

from jobs.agent.pulse import Pulse
from monitors.clock import SystemClock
from monitors.signals import SEEN_EVERY_S


class Ranks:
    """Wants a look every so often."""

    def __init__(self, every_s: float) -> None:
        self.every_s = every_s
        self.looks: list[float] = []
        self.said: list[float] = []
        self.clock = SystemClock()
        self.pulse = Pulse(self.clock, look=self.look, seen=self.said.append)

    def look(self) -> float:
        self.looks.append(self.clock.now())
        return self.every_s

    async def live(self, seconds: float) -> None:
        until = self.clock.now() + seconds
        while self.clock.now() < until:
            await asyncio.sleep(0.01)


def test_looks_follow_what_the_ranks_need_and_are_told_four_times_a_second_at_most() -> None:
    async def story() -> tuple[int, int, int]:
        ranks = Ranks(0.02)
        ranks.pulse.beat()
        await ranks.live(1.0)
        often, said = len(ranks.looks), len(ranks.said)
        ranks.every_s = 0.5
        await ranks.live(1.0)
        return often, said, len(ranks.looks) - often

    often, said, seldom = asyncio.run(story())
    assert often > 20
    assert said <= 1.0 / (0.9 * SEEN_EVERY_S) + 1
    assert seldom <= 4


def test_who_wants_a_look_at_once_gets_it_and_moves_the_next() -> None:
    async def story() -> int:
        ranks = Ranks(10.0)
        for _ in range(3):
            ranks.pulse.beat()
        await ranks.live(0.1)
        return len(ranks.looks)

    assert asyncio.run(story()) <= 4  # the shared moment may have been one of these

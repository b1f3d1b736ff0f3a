"""Are ranks looked at as often as they need, and no more?"""

from __future__ import annotations

import asyncio

from jobs.agent.pulse import Pulse
from monitors.clock import SystemClock
from monitors.signals import SEEN_EVERY_S


class Ranks:
    """All is well with them, or not."""

    def __init__(self, *, steady: bool) -> None:
        self.steady = steady
        self.has_more_to_tell = False
        self.looks = 0
        self.glances = 0
        self.said: list[float] = []
        self.clock = SystemClock()
        self.pulse = Pulse(self.clock, look=self.look, glance=self.glance, seen=self.said.append)

    def look(self) -> bool:
        self.looks += 1
        return self.steady

    def glance(self) -> bool:
        self.glances += 1
        return self.steady and not self.has_more_to_tell

    async def live(self, seconds: float) -> tuple[int, int, int]:
        """Looks, glances and words of it in these seconds."""
        before = self.looks, self.glances, len(self.said)
        until = self.clock.now() + seconds
        while self.clock.now() < until:
            await asyncio.sleep(0.01)
        return self.looks - before[0], self.glances - before[1], len(self.said) - before[2]


def test_who_stands_still_is_looked_at_often_and_that_is_told_four_times_a_second() -> None:
    async def story() -> tuple[int, int, int]:
        ranks = Ranks(steady=False)
        ranks.pulse.beat()
        return await ranks.live(1.0)

    looks, glances, said = asyncio.run(story())
    assert looks >= 10
    assert glances == 0
    assert said <= 1.0 / (0.9 * SEEN_EVERY_S) + 1


def test_who_goes_on_is_looked_at_once_a_second_with_a_glance_in_between() -> None:
    async def story() -> tuple[int, int, int]:
        ranks = Ranks(steady=True)
        ranks.pulse.beat()
        return await ranks.live(3.3)

    looks, glances, said = asyncio.run(story())
    assert 2 <= looks <= 4
    assert 2 <= glances <= 4
    assert said <= looks


def test_a_glance_that_sees_trouble_becomes_a_look() -> None:
    async def story() -> tuple[int, int, int]:
        ranks = Ranks(steady=True)
        ranks.pulse.beat()
        ranks.has_more_to_tell = True
        return await ranks.live(3.3)

    looks, _, _ = asyncio.run(story())
    assert looks >= 5


def test_who_wants_a_look_at_once_gets_it_and_moves_the_next() -> None:
    async def story() -> int:
        ranks = Ranks(steady=False)
        ranks.steady = ranks.has_more_to_tell = True
        for _ in range(3):
            ranks.pulse.beat()
        await ranks.live(0.1)
        return ranks.looks

    assert asyncio.run(story()) <= 4  # the shared moment may have been one of these

"""What does a GPU do, as far as its power tells: work, spin in a collective, idle, or nothing that can be read?

Each GPU is held against the level that it had itself in training, so boards, coolings and pipeline stages need no
table. A GPU that spins in a collective is fully used at full clock and draws little: 100 to 160 W of 700 on an H100.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from monitors.hardware import GpuLooked


class Doing(StrEnum):
    """What a GPU does."""

    WORKING = "works"
    SPINNING = "spins"
    """fully used, full clock, little power: it waits in a collective"""
    IDLE = "idles"
    UNREADABLE = "cannot be read"
    UNCLEAR = "is between working and waiting"


LOW = 0.6
"""of its own level: communication and bubbles average out over a poll to more than that"""
HIGH = 0.75
"""of its own level: it works"""
_KEPT, _NEEDED = 48, 5
_BUSY = 0.9
_LOW_TAIL = 0.95
"""of the lowest twentieth of its own history: a sensor that catches communication phases has seen that low before"""
INSTANTS = 24
"""polls that tell what an instant sensor cannot: with half of a step spent waiting, all but one of them fall into a
wait by chance once in 670,000 times"""
RELEARN_POLLS = 90
"""at a level this long while steps go on, it is how the run works now"""


@dataclass(slots=True)
class Level:
    """The power of one GPU in training, in watts, learned."""

    instants: bool = False
    """the samples are instants: most of the higher ones are of computing, the lower ones of waiting"""
    recent: deque[float] = field(default_factory=deque)
    ordered: list[float] = field(default_factory=list)
    refused: int = 0
    known: bool = False
    """enough was seen"""
    middle_w: float = 0.0
    """median; of instants, the middle of those that compute"""
    low_w: float = 0.0
    """below this it waits; an instant in a communication phase looks so too: that it does at every poll tells"""

    def learn(self, power_w: float) -> None:
        """One more poll in which steps went on, or may have."""
        if self.known and not self.instants and power_w < self.low_w:
            self.refused += 1
            if self.refused < RELEARN_POLLS:
                return
            self.recent.clear()
            self.ordered.clear()
        self.refused = 0
        self.recent.append(power_w)
        insort(self.ordered, power_w)
        if len(self.recent) > _KEPT:
            del self.ordered[bisect_left(self.ordered, self.recent.popleft())]
        self._measure()

    def _measure(self) -> None:
        ordered = self.ordered
        self.known = len(ordered) >= _NEEDED
        self.middle_w = ordered[len(ordered) * 3 // 4 if self.instants else len(ordered) // 2]
        self.low_w = LOW * self.middle_w
        if not self.instants:
            self.low_w = min(self.low_w, _LOW_TAIL * ordered[len(ordered) // 20])


@dataclass(slots=True)
class Gpu:
    """One GPU that a rank works on."""

    device: str
    node: int
    index: int
    rank: int
    role: str
    looked: GpuLooked
    level: Level = field(default_factory=Level)
    every_s: float = 0.0
    """between two looks, learned"""
    fresh: bool = True
    """looked at since the last judgement"""
    lost: bool = False
    instants: deque[float] = field(default_factory=lambda: deque(maxlen=INSTANTS))

    @property
    def power_w(self) -> float | None:
        """Mean since the look before; the middle of three instants where the driver counts no energy."""
        if self.looked.power_mean_w is not None:
            return self.looked.power_mean_w
        if self.looked.power_w is None or len(self.instants) < 3:
            return self.looked.power_w
        return sorted((self.instants[-1], self.instants[-2], self.instants[-3]))[1]

    @property
    def share(self) -> float | None:
        """Mean power over its own level; None while that cannot be said."""
        if not self.level.known:
            return None
        if self.looked.power_mean_w is not None:
            return self.looked.power_mean_w / self.level.middle_w
        if len(self.instants) < INSTANTS:
            return None
        return sum(self.instants) / INSTANTS / self.level.middle_w

    def is_low(self, least: float) -> bool:
        """Below the share `least`, and lower than it ever was itself."""
        if self.level.instants:
            return len(self.instants) == INSTANTS and sum(w >= self.level.low_w for w in self.instants) <= 1
        share = self.share
        return share is not None and share < min(least, self.level.low_w / self.level.middle_w)

    def look(self, signal: GpuLooked) -> None:
        """Take the newest look."""
        gap_s = signal.at - self.looked.at
        if gap_s > 0.0:
            self.every_s = gap_s if self.every_s <= 0.0 else min(gap_s, 0.8 * self.every_s + 0.2 * gap_s)
        if signal.limit_w is not None and self.looked.limit_w not in (None, signal.limit_w):
            self.level = Level()  # somebody set another power limit: what it drew before says nothing any more
            self.instants.clear()
        self.looked, self.fresh, self.lost = signal, True, False
        self.level.instants = signal.power_mean_w is None
        if signal.power_w is not None:
            self.instants.append(signal.power_w)

    def doing(self, now: float) -> Doing | None:
        """None: it cannot be judged: its use is not counted (MIG), its look is old, its level is not known."""
        look, power_w = self.looked, self.power_w
        if self.lost:
            return Doing.UNREADABLE
        if self.every_s > 0.0 and now - look.at > 3 * self.every_s:
            return None
        if power_w is None or power_w <= 0.0:
            # A sensor that never answered is one that this board does not have.
            return Doing.UNREADABLE if self.level.known else None
        if look.utilisation is None or not self.level.known:
            return None
        if self._spins(power_w):
            return Doing.SPINNING
        if look.utilisation < 0.1 and power_w < HIGH * self.level.middle_w:
            return Doing.IDLE
        return Doing.WORKING if power_w >= HIGH * self.level.middle_w else Doing.UNCLEAR

    def _spins(self, power_w: float) -> bool:
        look = self.looked
        if (look.utilisation or 0.0) < _BUSY:
            return False
        clock, most = look.sm_clock_mhz, look.sm_clock_max_mhz
        if clock is not None and most is not None and clock < 0.85 * most:
            return False
        return power_w < self.level.low_w

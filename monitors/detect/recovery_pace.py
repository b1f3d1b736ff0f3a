"""Do steps take as long after a recovery as they did before the fault?

One window of usual steps is proof. To be called slow, steps have to be slow from the first window on, without a break,
for longer than a cold cache or a busy neighbour lasts, beside a step time that was steady before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceConfig:
    """Counts are steps."""

    first_steps: int = 5
    """of a world, that count for nothing: caches are cold, kernels are compiled"""
    window_steps: int = 16
    """of a median: half of them would have to be disturbed"""
    slow_windows: int = 2
    slow_s: float = 20.0
    """at least, in slow steps: what passes by itself costs less than a person's time, and steps of milliseconds wait
    for whatever else the machine does"""
    kept_steps: int = 256
    known_steps: int = 48
    """three windows: fewer show no noise"""
    factor: float = 1.3
    """a node without turbo, a loader from a cold disk, kernels that were not compiled cost more"""
    beyond: float = 1.1
    """times what 9 of 10 steps took at most: steps of two lengths are not slow because the long ones come first"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What the steps since a recovery say."""

    slow: bool
    now_s: float
    """median"""
    steps: int
    """of that median"""
    before_s: float
    """median"""
    most_s: float
    """9 of 10 steps before the fault took at most as long"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Usual:
    """The steps before the fault."""

    middle_s: float
    most_s: float
    steady: bool
    """windows differ by less than what would be called slow"""


class PaceCheck:
    """One for a run. O(1) for each step, but where a window ends."""

    def __init__(self, config: PaceConfig | None = None) -> None:
        self.config = config or PaceConfig()
        self._steps: deque[float] = deque(maxlen=self.config.kept_steps)
        """seconds of the newest steps, over the worlds"""
        self.world_began()

    def world_began(self) -> None:
        """What was seen until now is what was usual before the fault."""
        self._first = self.config.first_steps
        self._usual = self._measured()
        self._window: list[float] = []
        self._slow: list[float] = []

    def forget(self) -> None:
        """What the steps took says nothing of those to come: a person may have changed the script."""
        self._steps.clear()
        self._usual = None

    def excuse(self) -> None:
        """Something else is known to slow this world: its steps prove nothing."""
        self._usual = None

    def took(self, step_s: float) -> Pace | None:
        """One more undisturbed step; says something at most once in a world."""
        if not 0.0 < step_s < float("inf"):
            return None
        if self._first > 0:
            self._first -= 1
            return None
        self._steps.append(step_s)
        if self._usual is None:
            return None
        self._window.append(step_s)
        return self._judged(self._usual) if len(self._window) == self.config.window_steps else None

    def _judged(self, usual: _Usual) -> Pace | None:
        config, window = self.config, self._window
        self._window = []
        limit_s = max(config.factor * usual.middle_s, config.beyond * usual.most_s)
        slow = median(window) > limit_s
        self._slow += window
        long_enough = len(self._slow) >= config.slow_windows * config.window_steps and sum(self._slow) >= config.slow_s
        if slow and not long_enough:
            return None
        self._usual = None  # it is known, or will never be
        if slow and not usual.steady:
            return None
        steps = self._slow if slow else window
        return Pace(slow=slow, now_s=median(steps), steps=len(steps), before_s=usual.middle_s, most_s=usual.most_s)

    def _measured(self) -> _Usual | None:
        steps, size = list(self._steps), self.config.window_steps
        if len(steps) < self.config.known_steps:
            return None
        middles = [median(steps[end - size : end]) for end in range(len(steps), size - 1, -size)]
        steady = max(middles) <= self.config.factor * min(middles)
        return _Usual(middle_s=median(steps), most_s=_most(steps), steady=steady)


def _most(steps: Sequence[float]) -> float:
    return sorted(steps)[len(steps) * 9 // 10]

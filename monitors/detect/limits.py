"""How long may a rank stay in a phase before silence means something? Learned from the run's own history."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from monitors.signals import Phase

FIRST_STEP = "first step"
"""of a world after its start: caches are cold, kernels are compiled, so it is a phase of its own"""
_STEPS = Phase.STEP
STARTS = frozenset({Phase.STARTING, Phase.RESTORING})
"""covered by the limit for the whole start, not by one of their own"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """When silence is a hang."""

    floor_s: float = 1.0
    """for steps; measured: no false alarm in 29 runs of 0.1 s steps, facts/recovery section 6"""
    factor: float = 6.0
    """times the 99th percentile: a step five times as slow as usual is still no hang"""
    unlearned_s: float = 300.0
    """for a phase seen too seldom, and the least for everything but steps: saves and evaluations have no typical
    duration (the last save of a run waits for the whole write), so what was learned only raises their limit"""
    samples_min: int = 5
    """the 99th percentile of fewer is just their maximum"""
    samples_kept: int = 512
    """of each phase: a run whose steps grow longer is followed within some hundred steps"""


class Limits:
    """One limit for each phase. Durations and limits in seconds."""

    def __init__(self, config: LimitsConfig) -> None:
        self.config = config
        self._recent: dict[str, deque[float]] = {}
        self._sorted: dict[str, list[float]] = {}
        self._limit: dict[str, float] = dict.fromkeys(STARTS, inf)

    def learn(self, phase: str, took_s: float) -> None:
        """A rank left this phase, or finished this step, after `took_s`; nonsense is ignored."""
        if not 0.0 <= took_s < inf:
            return
        recent, ordered = self._recent.get(phase), self._sorted.get(phase)
        if recent is None or ordered is None:
            recent, ordered = self._recent[phase], self._sorted[phase] = deque(), []
        recent.append(took_s)
        insort(ordered, took_s)
        if len(ordered) > self.config.samples_kept:
            del ordered[bisect_left(ordered, recent.popleft())]
        if len(ordered) >= self.config.samples_min:
            self._limit[phase] = self._limit_of(phase, ordered)

    def learn_all(self, phase: str, took_s: Iterable[float]) -> None:
        """The same for many, oldest first."""
        recent = self._recent.setdefault(phase, deque())
        recent.extend(one for one in took_s if 0.0 <= one < inf)
        while len(recent) > self.config.samples_kept:
            recent.popleft()
        self._sorted[phase] = sorted(recent)
        if len(recent) >= self.config.samples_min:
            self._limit[phase] = self._limit_of(phase, self._sorted[phase])

    def _limit_of(self, phase: str, ordered: Sequence[float]) -> float:
        floor_s = self.config.floor_s if phase == _STEPS else self.config.unlearned_s
        return max(floor_s, self.config.factor * ordered[(len(ordered) * 99) // 100])

    def limit(self, phase: str) -> float:
        """Seconds of silence in this phase that are still fine."""
        return self._limit.get(phase, self.config.unlearned_s)

    def p99(self, phase: str) -> float:
        """99th percentile of what was learned of a phase; 0 for one never seen."""
        ordered = self._sorted.get(phase)
        return _p99(ordered) if ordered else 0.0

    def explained(self, phase: str) -> str:
        """Where the limit comes from, for evidence."""
        seen = len(self._sorted.get(phase, ()))
        if seen < self.config.samples_min:
            return f"the limit for a {phase} is {self.limit(phase):.1f} s until {self.config.samples_min} were seen"
        return (
            f"the limit for a {phase} is {self.limit(phase):.1f} s: 99 % of the last {seen} took at most "
            f"{self.p99(phase):.2f} s"
        )


def _p99(ordered: Sequence[float]) -> float:
    return ordered[(len(ordered) * 99) // 100]

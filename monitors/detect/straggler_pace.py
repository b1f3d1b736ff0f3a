"""Did the run's steps become slower, and since which step?

A cumulative sum of how far each step lies above what is usual: one long step (an evaluation, a save) is forgotten
after a few normal ones, three slow ones in a row are a change. What is usual is learned from the run, with its spread,
and where steps have different numbers of tokens, from what a step of so many tokens takes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass
from statistics import correlation, linear_regression

_HARMLESS_MOST = 12
"""steps: what made a run slow for longer and passed must not make us wait for as long the next time"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceConfig:
    """How fast a change is believed."""

    first_steps: int = 3
    """of a world: caches are cold, kernels are compiled"""
    learn_steps: int = 16
    kept_steps: int = 64
    noise_floor: float = 0.03
    """of a usual step: a run whose steps are all equal must not alarm at a thousandth"""
    clip: float = 3.0
    """most that one step counts, in spreads"""
    slack: float = 1.0
    """spreads above the usual that are still usual"""
    alarm: float = 6.0
    """three steps at the clip"""


class Pace:
    """Step times of a run, in seconds, in the order of the steps."""

    def __init__(self, config: PaceConfig | None = None) -> None:
        self.config = config or PaceConfig()
        self._usual: deque[tuple[float, float | None]] = deque(maxlen=self.config.kept_steps)
        self._sorted: list[float] = []
        self._line: tuple[float, float] | None = None
        self._longest_harmless = 0
        self._first = 0
        self._reset()

    def _reset(self) -> None:
        self._sum = 0.0
        self._alarmed = False
        self._above = 0
        """steps above the usual since then"""
        self._since: int | None = None
        self._slow: list[tuple[float, float | None]] = []

    @property
    def known(self) -> bool:
        """Enough steps were seen to know what is usual."""
        return len(self._usual) >= self.config.learn_steps

    @property
    def usual_s(self) -> float:
        """A usual step, 0 while not known."""
        return self._sorted[len(self._sorted) // 2] if self._sorted else 0.0

    @property
    def now_s(self) -> float:
        """The middle of the steps since they became slower, or what is usual."""
        took = sorted(self._scaled(*one) for one in self._slow)
        return took[len(took) // 2] if took else self.usual_s

    @property
    def slow_since(self) -> int | None:
        """First slow step, once the change is believed."""
        return self._since if self._alarmed else None

    @property
    def slow_steps(self) -> int:
        """Steps since then."""
        return len(self._slow)

    @property
    def _needed(self) -> float:
        # A run of slow steps that ended by itself (the disk was busy after a save) will come again.
        gain = self.config.clip - self.config.slack
        return max(self.config.alarm, gain * (self._longest_harmless + 1))

    def world_began(self) -> None:
        """The next steps are the first of a world."""
        self._first = self.config.first_steps
        self._reset()

    def took(self, step: int, step_s: float, tokens: float | None = None) -> None:
        """One more step; nonsense is ignored."""
        if not 0.0 < step_s < float("inf"):
            return
        if self._first > 0:
            self._first -= 1
            return
        if not self.known:
            self._learn(step_s, tokens)
            return
        usual_s = self.usual_s
        excess = (self._scaled(step_s, tokens) - usual_s) / self._spread(usual_s)
        grown = self._sum + max(-self.config.clip, min(excess, self.config.clip)) - self.config.slack
        if grown <= (self._needed / 2 if self._alarmed else 0.0):
            self._recovered()
            self._learn(step_s, tokens)
            return
        self._sum = min(grown, self._needed + self.config.clip)
        self._alarmed = self._alarmed or self._sum >= self._needed
        self._above += excess > self.config.slack
        self._since = step if self._since is None else self._since
        self._slow.append((step_s, tokens))
        del self._slow[: -self.config.kept_steps]

    def accept(self) -> None:
        """It is how the run works now, as far as can be told: learn it anew."""
        slow = self._slow
        self._usual.clear()
        self._sorted.clear()
        self._line = None
        self._reset()
        for one in slow:
            self._learn(*one)

    def _recovered(self) -> None:
        if self._alarmed:
            self._longest_harmless = max(self._longest_harmless, min(self._above, _HARMLESS_MOST))
        else:  # they are part of what is usual
            for one in self._slow:
                self._learn(*one)
        self._reset()

    def _learn(self, step_s: float, tokens: float | None) -> None:
        if len(self._usual) == self._usual.maxlen:
            old_s, _ = self._usual[0]
            del self._sorted[bisect_left(self._sorted, old_s)]
        self._usual.append((step_s, tokens))
        insort(self._sorted, step_s)
        if tokens is not None and len(self._usual) % 8 == 0:
            self._fit()

    def _fit(self) -> None:
        """Seconds of a step by its tokens, where they explain most of the difference."""
        known = [(tokens, step_s) for step_s, tokens in self._usual if tokens is not None and tokens > 0]
        self._line = None
        counts = [tokens for tokens, _ in known]
        if len(known) < self.config.learn_steps or max(counts) <= 1.02 * min(counts):
            return
        took = [step_s for _, step_s in known]
        if max(took) > min(took) and correlation(counts, took) > 0.7:
            line = linear_regression(counts, took)
            self._line = line.slope, line.intercept

    def _scaled(self, step_s: float, tokens: float | None) -> float:
        """What the step would have taken with the usual number of tokens."""
        if self._line is None or tokens is None:
            return step_s
        slope, intercept = self._line
        expected_s = slope * tokens + intercept
        return step_s * self.usual_s / expected_s if expected_s > 0.2 * self.usual_s else step_s

    def _spread(self, usual_s: float) -> float:
        """From the upper half: what lies above the usual is what must not alarm."""
        scaled = self._sorted if self._line is None else sorted(self._scaled(*one) for one in self._usual)
        upper_s = scaled[len(scaled) * 9 // 10] - scaled[len(scaled) // 2]
        return max(upper_s / 1.28, self.config.noise_floor * usual_s)

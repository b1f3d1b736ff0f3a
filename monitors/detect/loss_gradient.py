"""Is the gradient norm another one since some step, while the loss shows nothing? And whose?

One rank of many that computes garbage leaves no trace in the loss: averaging and Adam hide it. Its gradient norm steps
up and stays up. Bursts mean nothing (half of them come with no event at all), so only a level that lasts is told, and
nothing is done about it by itself. Where ranks report norms of their own, the one that left the others is named.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import exp, isfinite, log
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientConfig:
    """Counts are rows."""

    usual_rows: int = 64
    """whose median is the level"""
    learn_rows: int = 48
    rise: float = 3.0
    """times the level: one broken rank of four gave 5"""
    noise_factor: float = 4.0
    """and this many deviations of the logarithm"""
    rows: int = 24
    share: float = 20 / 24
    """of them that must be high"""
    renew_rows: int = 16
    """accepted rows after which the level is measured anew"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shifted:
    """A gradient norm left its level and stays away."""

    rank: int | None
    """the one that left the others; None when all did, or only one reports"""
    onset_step: int
    onset_at: float
    usual: float
    now: float


class _Level:
    """The norm of one rank, in logarithms. O(1) for most rows."""

    __slots__ = ("_accepted", "_at", "_config", "_high", "_known", "_limit", "_since", "_usual", "concluded")

    def __init__(self, config: GradientConfig) -> None:
        self._config = config
        self._usual: deque[tuple[int, float]] = deque(maxlen=config.usual_rows)
        self._high: deque[tuple[int, float, float] | None] = deque(maxlen=config.rows)
        self._accepted = 0
        self._at = float("-inf")
        self._known: float | None = None
        self._limit = float("inf")
        self.concluded = False

    def is_high(self, share: float) -> bool:
        """For this share of the last rows."""
        return sum(row is not None for row in self._high) >= share * self._config.rows

    def see(self, step: int, at: float, norm: float) -> Shifted | None:
        """One norm above 0. Returns a shift once."""
        if at <= self._at:
            return None  # told again
        self._at = at
        value = log(norm)
        high = value > self._limit
        self._high.append((step, at, value) if high else None)
        self.concluded = self.concluded and self.is_high(0.5)
        if self.concluded or not high:
            self._accept(step, value)  # what was told is the usual level from then on
            return None
        return self._conclude()

    def rewound(self, step: int) -> None:
        """Steps after this one never happened."""
        kept = [one for one in self._usual if one[0] <= step]
        self._usual.clear()
        self._usual.extend(kept)
        self._high.clear()
        self.concluded = False
        self._measure()

    def _conclude(self) -> Shifted | None:
        if not self.is_high(self._config.share):
            return None
        self.concluded = True
        rows = [row for row in self._high if row is not None]
        usual = exp(self._known or 0.0)
        step, at, _ = rows[0]
        return Shifted(rank=None, onset_step=step, onset_at=at, usual=usual, now=exp(median(row[2] for row in rows)))

    def _accept(self, step: int, value: float) -> None:
        self._usual.append((step, value))
        self._accepted += 1
        if self._accepted % self._config.renew_rows == 0:
            self._measure()

    def _measure(self) -> None:
        values = [value for _, value in self._usual]
        if len(values) < self._config.learn_rows:
            self._known, self._limit = None, float("inf")
            return
        self._known = median(values)
        deviation = 1.4826 * median(abs(value - self._known) for value in values)
        self._limit = self._known + max(log(self._config.rise), self._config.noise_factor * deviation)


class Gradients:
    """The gradient norms of all ranks that report one."""

    def __init__(self, config: GradientConfig) -> None:
        self.config = config
        self._ranks: dict[int, _Level] = {}

    def see(self, rank: int, step: int, at: float, norm: float) -> Shifted | None:
        """One norm; those that are not finite, or 0, are another detector's."""
        if not (isfinite(norm) and norm > 0):
            return None
        level = self._ranks.get(rank)
        if level is None:
            level = self._ranks[rank] = _Level(self.config)
        shifted = level.see(step, at, norm)
        return None if shifted is None else self._named(rank, shifted)

    def rewound(self, step: int) -> None:
        """Steps after this one never happened."""
        for level in self._ranks.values():
            level.rewound(step)

    def _named(self, rank: int, shifted: Shifted) -> Shifted | None:
        """Whose it is: norms that all ranks share rise on all of them, and are told once."""
        others = [level for number, level in self._ranks.items() if number != rank]
        if any(level.concluded for level in others):
            return None
        # Half is enough to go with it: the others' rows of this step may be under way.
        high = sum(level.is_high(0.5) for level in others)
        alone = bool(others) and 2 * high < len(others)
        return Shifted(
            rank=rank if alone else None,
            onset_step=shifted.onset_step,
            onset_at=shifted.onset_at,
            usual=shifted.usual,
            now=shifted.now,
        )

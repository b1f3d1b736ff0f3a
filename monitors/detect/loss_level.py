"""Which loss is normal now?

The level is the median of the last normal rows, the noise comes from how far each of them lay from the level before
it. Rows that look wrong never enter either: a spike must not teach the detector that spikes are normal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from monitors.detect.running_median import RunningMedian

_MAD_TO_SIGMA = 1.4826
_Q90_TO_SIGMA = 1 / 1.645
"""both for a normal distribution"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelConfig:
    """Tuned on 58 public curves (279,000 rows) and made ones. Each of the constants here, in `SpikeConfig` and in
    `DriftConfig` may move by a fifth: 16 of 17 serious events stay found, and nothing new is acted on.

    But: at `mild_sigmas` 2.6 three stretches are acted on that should not be, at `level_rows` 12 one; at
    `strong_sigmas` 4.8 there are three times as many suspicions.
    """

    level_rows: int = 15
    """of the median; shorter follows the fast descent of early training better"""
    noise_rows: int = 45
    """longer would keep the steep first rows of a run as noise and hide a jump of a third"""
    noise_rows_min: int = 15
    mild_sigmas: float = 3.25
    """counts toward persistence"""
    strong_sigmas: float = 6.0
    """suspicious by itself"""
    floor: float = 0.03
    """of the level: bf16 losses take few distinct values, their noise can be 0"""


class Reading(NamedTuple):
    """One loss beside what was expected. A tuple, for one is made of every row, again at every rewind."""

    level: float
    excess: float
    """loss above the level"""
    sigmas: float = 0.0
    """the same in units of the noise; 0 where it is too small to matter"""
    mild: bool = False
    strong: bool = False


class Level:
    """The baseline of one loss curve. O(window) for each row; the noise is only looked at when a row is high."""

    def __init__(self, config: LevelConfig) -> None:
        self.config = config
        self._rows = RunningMedian(config.level_rows)
        self._residuals: deque[float] = deque(maxlen=config.noise_rows)
        self._spread: tuple[float, float] | None = None
        self.is_known = False
        """enough rows were seen to judge one"""

    @property
    def has_zeros(self) -> bool:
        """Exact zeros are normal for this loss, or nothing is known yet."""
        rows = self._rows.rows
        return len(rows) < self.config.level_rows or 0.0 in rows

    @property
    def median(self) -> float:
        """Of the last normal rows."""
        return self._rows.median

    @property
    def usual(self) -> float:
        """Median residual: below 0 on the way down."""
        return self._measured()[0]

    @property
    def sigma(self) -> float:
        """Noise of one row, in units of the loss."""
        return self._measured()[1]

    def read(self, loss: float) -> Reading | None:
        """Judge a loss; None while too few rows were seen."""
        if not self.is_known:
            return None
        config, level = self.config, self._rows.median
        floor = max(config.floor * abs(level), 1e-9)
        if not loss - level > floor:
            return Reading(level, loss - level)
        # On the way down residuals are negative; that must not make a flat piece look high.
        excess = loss - level - max(0.0, self.usual)
        sigmas = excess / max(self.sigma, 1e-12) if excess > floor else 0.0
        return Reading(
            level=level,
            excess=loss - level,
            sigmas=sigmas,
            mild=sigmas > config.mild_sigmas,
            strong=sigmas > config.strong_sigmas,
        )

    def accept(self, loss: float) -> None:
        """This row is normal."""
        if len(self._rows.rows) == self.config.level_rows:
            self._residuals.append(loss - self._rows.median)
            self.is_known = len(self._residuals) >= self.config.noise_rows_min
        self._rows.append(loss)
        self._spread = None

    def relearn(self, losses: Iterable[float]) -> None:
        """Forget what was normal: these are."""
        self._rows.clear()
        self._residuals.clear()
        self.is_known = False
        for loss in losses:
            self.accept(loss)

    def _measured(self) -> tuple[float, float]:
        """Median and robust deviation, the larger of two: bimodal losses have a small MAD and wide shoulders."""
        if self._spread is None:
            usual = median(self._residuals)
            away = sorted([abs(residual - usual) for residual in self._residuals])
            shoulder = away[int(0.9 * len(away))]
            self._spread = usual, max(_MAD_TO_SIGMA * away[len(away) // 2], _Q90_TO_SIGMA * shoulder)
        return self._spread

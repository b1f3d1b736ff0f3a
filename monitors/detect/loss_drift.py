"""Does the loss creep up, too slowly to be a jump?

The median of the last rows is compared with the lowest it was, and with where the run began: a learning rate that was
warmed up twice, or a run that leaves its path, rises by a fifth over fifty rows and never looks like a spike.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from monitors.detect.loss_level import Level
from monitors.detect.loss_spike import began_before
from monitors.detect.running_median import RunningMedian


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftConfig:
    """Counts are rows."""

    rows: int = 25
    """of the median"""
    back_rows: int = 400
    """over which its lowest value is remembered"""
    rise: float = 0.17
    """of the lowest: curricula and data order move a healthy loss by a tenth"""
    rise_sigmas: float = 6.0
    slack_sigmas: float = 1.0
    """above the lowest median, which noise alone makes lower than most: only beyond it has the loss risen"""
    hold_rows: int = 12
    """for which it must stay above"""
    falling: float = 0.97
    """lower than this share of itself `hold_rows` ago: it comes back"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drifted:
    """The loss crept up."""

    onset: int
    """rows ago that the loss left its lowest level"""
    lowest: float
    now: float


class Drift:
    """Follows one loss curve. O(window) for each row."""

    def __init__(self, config: DriftConfig) -> None:
        self.config = config
        self._rows = RunningMedian(config.rows)
        self._medians: deque[float] = deque(maxlen=config.back_rows)
        self._lowest: deque[tuple[int, float]] = deque()
        """candidates for the lowest median, rising, each with its number: a later lower one rules out an earlier"""
        self._seen = 0
        self._first: float | None = None
        self._high_rows = 0
        self._told = False

    @property
    def suspected_for(self) -> int:
        """Rows since the loss has been suspicious; 0 when it is not."""
        return self._high_rows + self.config.rows - 1 if self._high_rows and not self._told else 0

    def see(self, loss: float, level: Level) -> Drifted | None:
        """One normal loss, and the level that knows the curve's noise. Returns once for each drift."""
        self._rows.append(loss)
        if len(self._rows.rows) < self.config.rows:
            return None
        now = self._rows.median
        drifted = self._judge(now, level)
        self._remember(now)
        if self._first is None:
            self._first = now
        return drifted

    def forget(self) -> None:
        """The level is another one from now on."""
        self._rows.clear()
        self._medians.clear()
        self._lowest.clear()
        self._first = None
        self._high_rows = 0
        self._told = False

    def _remember(self, now: float) -> None:
        self._medians.append(now)
        self._seen += 1
        while self._lowest and self._lowest[-1][1] >= now:
            self._lowest.pop()
        self._lowest.append((self._seen, now))
        if self._lowest[0][0] <= self._seen - self.config.back_rows:
            self._lowest.popleft()

    def _judge(self, now: float, level: Level) -> Drifted | None:
        config = self.config
        lowest = self._lowest[0][1] if self._lowest else now
        lowest = lowest if self._first is None else min(lowest, self._first)
        rise = now - lowest
        if not (rise > config.rise * abs(lowest) and rise > config.rise_sigmas * level.sigma):
            self._high_rows, self._told = 0, False
            return None
        self._high_rows += 1
        if self._told or self._high_rows < config.hold_rows or self._falls(now):
            return None
        self._told = True
        onset = self._rising_for(lowest, level) + config.rows // 2
        return Drifted(onset=onset, lowest=lowest, now=now)

    def _rising_for(self, lowest: float, level: Level) -> int:
        """Rows since the median left its lowest value for good."""
        heights = [median - lowest for median in self._medians]
        since = max((row for row, height in enumerate(heights) if height <= 0), default=-1)
        return began_before(heights[since + 1 :], self.config.slack_sigmas * level.sigma)

    def _falls(self, now: float) -> bool:
        back = self.config.hold_rows
        return len(self._medians) >= back and now < self.config.falling * self._medians[-back]

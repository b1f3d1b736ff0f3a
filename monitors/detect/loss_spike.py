"""Did the loss jump, and did it stay up?

A jump opens an episode. Most come back by themselves, so an episode is judged by persistence: 10 of the last 12 rows
still high after a large jump, 20 of 24 after a small one, and no longer falling. An episode that comes back is only
noted. Checked against PaLM's, BLOOM's and IDEFICS' logbooks: what recovers is instant and falls at once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from statistics import median

from monitors.detect.loss_level import Level, Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikeConfig:
    """Counts are rows, one for each reported step."""

    persist_rows: int = 12
    """over which a large jump must stay"""
    share: float = 10 / 12
    """of those rows that must be high"""
    small_factor: int = 2
    """times as many rows for a small jump: it costs less to wait, and data order makes small ones"""
    raised_sigmas: float = 2.0
    """rows above this, leading without a break to the jump, belong to it: the onset is the first"""
    large: float = 0.25
    """of the level: a jump above this is large"""
    falling: float = 0.9
    """four rows' median excess below this share of the four before: it is on its way back"""
    patience_rows: int = 60
    """falling for longer than this is not recovering"""
    quiet_rows: int = 6
    """in a row that are normal again end an episode"""
    relearn_rows: int = 40
    """after a conclusion the new level is accepted once it lasted this long"""
    episode_rows_max: int = 120
    """an episode that is neither over nor conclusive by then is just how this loss behaves"""


class Outcome(Enum):
    """What became of a jump."""

    RECOVERED = "recovered"
    STAYED = "stayed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spike:
    """The end of an episode's uncertainty."""

    outcome: Outcome
    onset: int
    """rows ago that it began"""
    level: float
    """median before it"""
    sigma: float
    peak: float
    now: float
    """median of the last four rows"""
    hot_rows: int


@dataclass(slots=True)
class _Episode:
    """A jump that is not over. Excess is above the level at its beginning."""

    level: float
    sigma: float
    excess: list[float] = field(default_factory=list)
    hot_rows: int = 0
    concluded_at: int | None = None
    """length when it was concluded that the loss stays up"""

    def falls(self, ratio: float) -> bool:
        """The last four rows lie clearly below the four before them."""
        return len(self.excess) >= 8 and median(self.excess[-4:]) < ratio * median(self.excess[-8:-4])

    def spike(self, outcome: Outcome) -> Spike:
        """What it is by now."""
        return Spike(
            outcome=outcome,
            onset=len(self.excess) - 1,
            level=self.level,
            sigma=self.sigma,
            peak=self.level + max(self.excess),
            now=self.level + median(self.excess[-4:]),
            hot_rows=self.hot_rows,
        )


class Spikes:
    """Follows one loss curve, and keeps its level clean."""

    def __init__(self, config: SpikeConfig, level: Level) -> None:
        self.config = config
        self._level = level
        self._long_rows = config.persist_rows * config.small_factor
        self._mild: deque[bool] = deque(maxlen=self._long_rows)
        self._excess: deque[float] = deque(maxlen=self._long_rows)
        self._losses: deque[float] = deque(maxlen=self._long_rows)
        self._episode: _Episode | None = None

    @property
    def suspected_for(self) -> int:
        """Rows since the loss has been suspicious, the first one counted; 0 when it is not."""
        return len(self._episode.excess) if self._episode is not None else 0

    def see(self, loss: float) -> Spike | None:
        """One finite loss. Returns a spike once when it recovered, or once when it is clear that it stays."""
        reading = self._level.read(loss)
        mild = reading is not None and reading.mild
        self._mild.append(mild)
        self._excess.append(0.0 if reading is None else reading.excess)
        self._losses.append(loss)
        if not mild:
            self._level.accept(loss)
        if self._episode is None:
            if reading is None or not self._opens(reading):
                return None
            self._episode = self._open(reading)
        else:
            self._episode.excess.append(loss - self._episode.level)
        self._episode.hot_rows += mild
        return self._judge(self._episode)

    def _opens(self, reading: Reading) -> bool:
        return reading.strong or (reading.mild and self._persists(self.config.persist_rows))

    def _open(self, reading: Reading) -> _Episode:
        """Begin at the first of the raised rows that led here, one dip allowed: that is the onset."""
        rows, dips = 1, 0
        raised_from, sigma = self.config.raised_sigmas * self._level.sigma, self._level.sigma
        for back, excess in enumerate(reversed(self._excess), start=1):
            raised = excess > raised_from
            dips = 0 if raised else dips + 1
            rows = back if raised else rows
            if dips == 2:
                break
        began = list(self._losses)[-rows:]
        hot = sum(list(self._mild)[-rows:-1])
        return _Episode(level=reading.level, sigma=sigma, excess=[loss - reading.level for loss in began], hot_rows=hot)

    def _judge(self, episode: _Episode) -> Spike | None:
        config = self.config
        if episode.concluded_at is not None:
            if len(episode.excess) - episode.concluded_at >= config.relearn_rows:
                self._accept_level(episode)
            elif self._quiet():
                self._episode = None
            return None
        if self._stays(episode):
            episode.concluded_at = len(episode.excess)
            return episode.spike(Outcome.STAYED)
        if self._quiet():
            self._episode = None
            return episode.spike(Outcome.RECOVERED)
        if len(episode.excess) >= config.episode_rows_max:
            self._accept_level(episode)
        return None

    def _stays(self, episode: _Episode) -> bool:
        config = self.config
        rows = episode.excess[-config.persist_rows :]
        large = self._persists(config.persist_rows) and median(rows) > config.large * abs(episode.level)
        if not large and not self._persists(self._long_rows):
            return False
        return not episode.falls(config.falling) or len(episode.excess) > config.patience_rows

    def _persists(self, rows: int) -> bool:
        hot = sum(self._mild) if rows >= len(self._mild) else sum(list(self._mild)[-rows:])
        return hot >= round(self.config.share * rows)

    def _quiet(self) -> bool:
        return not any(list(self._mild)[-self.config.quiet_rows :])

    def _accept_level(self, episode: _Episode) -> None:
        """The new level is the level from now on."""
        self._level.relearn(episode.level + excess for excess in episode.excess[-self.config.relearn_rows :])
        self._mild.clear()
        self._episode = None

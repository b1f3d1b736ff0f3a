"""Did the loss jump, and did it stay up?

A jump opens an episode. Most come back by themselves, so an episode is judged by persistence, one test after the other:
a large jump that does not fall at all is sure after 6 rows, one that hardly falls after 12, a small one after 24. Where
jumps of that height came back before, they are waited for. An episode that comes back is only noted. Checked against
PaLM's, BLOOM's and IDEFICS' logbooks: what recovers is instant and falls at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from math import inf
from statistics import median

from monitors.detect.loss_level import Level, Reading
from monitors.detect.loss_recovery import Recoveries, RecoveryConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Persistence:
    """What makes sure that a jump stays: any of them is enough."""

    rows: float
    """times `persist_rows`: the last rows that are looked at"""
    height: float
    """of the level: their median must be above this"""
    clear_sigmas: float = 0.0
    """and above this many times the noise: in a few noisy rows a fall can not be told from a plateau"""
    flat: float
    """the later rows' median must be above this share of the earlier ones': else it is on its way back"""
    steady: float = inf
    """the highest of the rows is at most so many times the lowest but one: odd batches in a row are of every height,
    damaged weights of one"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikeConfig:
    """Counts are rows, one for each reported step."""

    persist_rows: int = 12
    """over which a large jump must stay"""
    share: float = 10 / 12
    """of those rows that must be high"""
    episode_share: float = 0.6
    """of all rows since the jump: losses that hop between two levels are high for a while now and then"""
    persistence: tuple[Persistence, ...] = (
        Persistence(rows=0.5, height=0.25, flat=0.97, clear_sigmas=8.0, steady=1.25),
        Persistence(rows=1.0, height=0.25, flat=0.90),
        Persistence(rows=1.75, height=0.08, flat=0.97),
        Persistence(rows=2.0, height=0.0, flat=0.97),
    )
    """a small jump costs less while one waits, and data order makes small ones"""
    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)
    slack_sigmas: float = 2.0
    """a row above this is evidence of a jump, one below it is evidence against"""
    row_sigmas_max: float = 6.0
    """the most that one row can say"""
    evidence_sigmas: float = 8.0
    """cumulated over the rows: opens an episode, as a single strong row does"""
    raised_sigmas: float = 2.0
    """rows above this, leading without a break to the jump, belong to it: the onset is the first"""
    trail_rows: int = 30
    """searched backwards for the beginning"""
    trail_slack_sigmas: float = 1.0
    """of the level of its own time: a row above it says that the rise had begun, one below it that it had not"""
    large: float = 0.25
    """of the level: a jump above this is noted even when it lasted a single row"""
    patience_rows: int = 60
    """falling for longer than this is not recovering"""
    raised_height: float = 0.08
    """of the level before the episode: with `lasting_sigmas`, a row above both is still high, whatever the level has
    learned since"""
    lasting_sigmas: float = 2.5
    quiet_rows: int = 6
    """in a row that are normal again end an episode"""
    relearn_rows: int = 40
    """after a conclusion the new level is accepted once it lasted this long"""
    episode_rows_max: int = 120
    """an episode that is neither over nor conclusive by then is just how this loss behaves"""


_LEVEL_MIN = 1e-12
_NOW_ROWS = 8
_HALF_ROWS_MAX = 4
_ROWS_MIN = 4
"""odd batches come in twos and threes"""


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
    rows: int
    """since the jump itself; the rise may have begun before it"""


@dataclass(slots=True)
class _Episode:
    """A jump that is not over. Excess is above the level at its beginning."""

    level: float
    sigma: float
    excess: list[float] = field(default_factory=list)
    lead: int = 0
    """rows before the first of `excess` in which the rise was already under way"""
    hot_rows: int = 0
    concluded_at: int | None = None
    """length when it was concluded that the loss stays up"""

    @property
    def heights(self) -> list[float]:
        """Row by row, relative to the level."""
        return [excess / max(abs(self.level), _LEVEL_MIN) for excess in self.excess]

    def spike(self, outcome: Outcome) -> Spike:
        """What it is by now."""
        return Spike(
            outcome=outcome,
            onset=self.lead + len(self.excess) - 1,
            level=self.level,
            sigma=self.sigma,
            peak=self.level + max(self.excess),
            now=self.level + median(self.excess[-4:]),
            hot_rows=self.hot_rows,
            rows=len(self.excess),
        )


class Spikes:
    """Follows one loss curve, and keeps its level clean."""

    def __init__(self, config: SpikeConfig, level: Level) -> None:
        self.config = config
        self._level = level
        rows = max(self._rows(test) for test in config.persistence)
        self._hot: deque[bool] = deque(maxlen=rows)
        self._excess: deque[float] = deque(maxlen=config.trail_rows)
        self._losses: deque[float] = deque(maxlen=rows)
        self._recoveries = Recoveries(config.recovery)
        self._episode: _Episode | None = None
        self._evidence = 0.0

    @property
    def suspected_for(self) -> int:
        """Rows since the loss has been suspicious, the first one counted; 0 when it is not."""
        episode = self._episode
        return episode.lead + len(episode.excess) if episode is not None else 0

    def see(self, loss: float) -> Spike | None:
        """One finite loss. Returns a spike once when it recovered, or once when it is clear that it stays."""
        reading, episode = self._level.read(loss), self._episode
        hot = (reading is not None and reading.mild) or (episode is not None and self._still_high(episode, loss))
        self._hot.append(hot)
        self._excess.append(0.0 if reading is None else reading.excess)
        self._losses.append(loss)
        if not hot:
            self._level.accept(loss)
        sigmas = 0.0 if reading is None else reading.sigmas
        if sigmas or self._evidence:
            self._weigh(sigmas)
        if episode is not None:
            episode.excess.append(loss - episode.level)
        elif reading is None or not (hot and self._opens(reading)):
            return None
        else:
            episode = self._episode = self._open(reading)
        episode.hot_rows += hot
        return self._judge(episode)

    def _still_high(self, episode: _Episode, loss: float) -> bool:
        config = self.config
        excess = loss - episode.level
        return excess > config.lasting_sigmas * episode.sigma and excess > config.raised_height * abs(episode.level)

    def _opens(self, reading: Reading) -> bool:
        return reading.strong or self._evidence > self.config.evidence_sigmas

    def _weigh(self, sigmas: float) -> None:
        """Cumulated sum (Page's test): a small shift that lasts says as much as a large one of one row."""
        sigmas = min(sigmas, self.config.row_sigmas_max)
        self._evidence = max(0.0, self._evidence + sigmas - self.config.slack_sigmas)

    def _open(self, reading: Reading) -> _Episode:
        """Begin at the first of the raised rows that led here, one dip allowed; the rise may have begun before it."""
        rows, dips = 1, 0
        raised_from, sigma = self.config.raised_sigmas * self._level.sigma, self._level.sigma
        for back, excess in enumerate(islice(reversed(self._excess), len(self._losses)), start=1):
            raised = excess > raised_from
            dips = 0 if raised else dips + 1
            rows = back if raised else rows
            if dips == 2:
                break
        began = list(self._losses)[-rows:]
        return _Episode(
            level=reading.level,
            sigma=sigma,
            excess=[loss - reading.level for loss in began],
            lead=began_before([*self._excess][:-rows], self.config.trail_slack_sigmas * sigma),
            hot_rows=sum(list(self._hot)[-rows:-1]),
        )

    def _judge(self, episode: _Episode) -> Spike | None:
        config = self.config
        if episode.concluded_at is not None:
            if len(episode.excess) - episode.concluded_at >= config.relearn_rows:
                self._accept_level(episode)
            elif self._quiet():
                self._over(episode)
            return None
        if self._stays(episode):
            episode.concluded_at = len(episode.excess)
            return episode.spike(Outcome.STAYED)
        if self._quiet():
            self._over(episode)
            return episode.spike(Outcome.RECOVERED)
        if len(episode.excess) >= config.episode_rows_max:
            self._accept_level(episode)
        return None

    def _stays(self, episode: _Episode) -> bool:
        if episode.hot_rows < self.config.episode_share * len(episode.excess):
            return False
        tests = [test for test in self.config.persistence if self._persists(self._rows(test))]
        if not tests:
            return False
        heights = episode.heights
        waited_long = len(heights) > self.config.patience_rows
        noise = episode.sigma / max(abs(episode.level), _LEVEL_MIN)
        if not any(_holds(heights, self._rows(test), test, noise, waited_long=waited_long) for test in tests):
            return False
        return waited_long or not self._recoveries.explain(heights, median(heights[-_NOW_ROWS:]))

    def _rows(self, test: Persistence) -> int:
        return max(_ROWS_MIN, round(test.rows * self.config.persist_rows))

    def _persists(self, rows: int) -> bool:
        hot = sum(self._hot) if rows >= len(self._hot) else sum(list(self._hot)[-rows:])
        return hot >= round(self.config.share * rows)

    def _quiet(self) -> bool:
        return not any(list(self._hot)[-self.config.quiet_rows :])

    def _over(self, episode: _Episode) -> None:
        self._recoveries.learn(episode.heights)
        self._close()

    def _accept_level(self, episode: _Episode) -> None:
        """The new level is the level from now on."""
        self._level.relearn(episode.level + excess for excess in episode.excess[-self.config.relearn_rows :])
        self._hot.clear()
        self._close()

    def _close(self) -> None:
        self._episode = None
        self._excess.clear()  # the rows of this jump are not the beginning of another


def began_before(excess: Sequence[float], slack: float) -> int:
    """How many of the last rows already belong to a rise: where the sum of what they say is largest (Page)."""
    most = total = 0.0
    rows = 0
    for back, value in enumerate(reversed(excess), start=1):
        total += value - slack
        if total > most:
            most, rows = total, back
    return rows


def _holds(heights: Sequence[float], rows: int, test: Persistence, noise: float, *, waited_long: bool) -> bool:
    """High enough, steady enough, and not on its way back."""
    last = sorted(heights[-rows:])
    if median(last) <= max(test.height, test.clear_sigmas * noise) or last[-1] > test.steady * last[1 % len(last)]:
        return False
    half = min(_HALF_ROWS_MAX, rows // 2, len(heights) // 2)
    if half == 0:
        return False
    return waited_long or median(heights[-half:]) >= test.flat * median(heights[-2 * half : -half])

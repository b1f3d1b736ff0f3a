"""What is wrong with this loss curve, and since which step?

One curve, row by row: numbers that broke, a jump that stayed, a slow rise, a jump that came back, or a fall that is too
good. Steps that are trained again replace what was seen of them, so that a restart leaves no seam.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from math import inf, isfinite
from statistics import median
from typing import NamedTuple

from monitors.detect.loss_drift import Drift, DriftConfig, Drifted
from monitors.detect.loss_level import Level, LevelConfig
from monitors.detect.loss_nonfinite import Nonfinite, NonfiniteConfig
from monitors.detect.loss_spike import Outcome, Spike, SpikeConfig, Spikes
from monitors.detect.loss_too_good import TooGoodConfig, too_good
from monitors.incidents import Kind

ROWS_KEPT = 512
"""enough to rebuild every window after a rewind: the drift looks back 425 rows"""
_LEAD_ROWS = 10
"""before a jump, in which gradients already ran high: 4 to 5 in BLOOM's logbook"""
_LEAD_FACTOR = 3.0
_LEAD_USUAL_ROWS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveConfig:
    """The parts' own."""

    level: LevelConfig = field(default_factory=LevelConfig)
    spike: SpikeConfig = field(default_factory=SpikeConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    nonfinite: NonfiniteConfig = field(default_factory=NonfiniteConfig)
    too_good: TooGoodConfig = field(default_factory=TooGoodConfig)


class Row(NamedTuple):
    """One step of the curve; None for what was not reported. A tuple, for one is made of every row."""

    at: float
    step: int
    loss: float | None = None
    grad_norm: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something is wrong, since a row."""

    kind: Kind
    onset: Row
    evidence: tuple[str, ...]


class Curve:
    """The loss of one run along its present line of steps."""

    def __init__(self, config: CurveConfig) -> None:
        self.config = config
        self._too_good_rows = config.too_good.rows_needed
        self._rows: deque[Row] = deque(maxlen=ROWS_KEPT)
        self._start: tuple[int, float] | None = None
        self._reset()

    def _reset(self) -> None:
        level = Level(self.config.level)
        self._level = level
        self._spikes = Spikes(self.config.spike, level)
        self._drift = Drift(self.config.drift)
        self._nonfinite = Nonfinite(self.config.nonfinite)
        self._judged: deque[Row] = deque(maxlen=ROWS_KEPT)
        self._calm: deque[Row] = deque(maxlen=ROWS_KEPT)
        self._fell: Row | None = None

    @property
    def last_step(self) -> int | None:
        """Newest step on the line."""
        return self._rows[-1].step if self._rows else None

    @property
    def suspicious_since_step(self) -> int | None:
        """First step of what looks wrong by now and is not over."""
        jumped, crept, broke = (one.suspected_for for one in (self._spikes, self._drift, self._nonfinite))
        if not (jumped or crept or broke):
            return None
        looked = ((self._judged, jumped), (self._calm, crept), (self._rows, broke))
        return min((_ago(rows, count - 1).step for rows, count in looked if count and rows), default=None)

    def started(self) -> None:
        """The ranks are new ones."""
        self._nonfinite.started()

    def rewound(self, step: int) -> None:
        """Steps after this one never happened."""
        if not self._rows or self._rows[-1].step <= step:
            return
        kept = [row for row in self._rows if row.step <= step]
        if self._start is not None and self._start[0] > step:
            self._start = None
        self._rows.clear()
        self._reset()
        self.recall(kept)
        self.started()

    def recall(self, rows: Iterable[Row]) -> None:
        """Rebuild from rows that were judged before."""
        for row in rows:
            self.see(row)

    def see(self, row: Row) -> list[Finding]:
        """The next step of the line."""
        self._rows.append(row)
        zeros = row.loss != 0.0 or self._level.has_zeros  # which is asked of zeros only
        broken = self._nonfinite.see(row.loss, row.grad_norm, zeros_are_normal=zeros)
        if broken is not None:
            onset = self._suspected() or _ago(self._rows, broken.onset)
            return [Finding(kind=Kind.NONFINITE_LOSS, onset=onset, evidence=(f"{broken.what} at step {row.step}",))]
        if row.loss is None or not isfinite(row.loss) or (row.loss == 0.0 and not zeros):
            return []
        return self._judge(row, row.loss)

    def broke(self, row: Row) -> list[Finding]:
        """A rank that does not speak for the run reports a broken loss: told once, and not part of the line."""
        broken = self._nonfinite.see(row.loss, None, zeros_are_normal=True)
        if broken is None:
            return []
        onset = self._suspected() or row
        return [Finding(kind=Kind.NONFINITE_LOSS, onset=onset, evidence=(f"{broken.what} at step {row.step}",))]

    def _suspected(self) -> Row | None:
        """Where the jump began that ended in broken numbers."""
        count = self._spikes.suspected_for
        return _ago(self._judged, count - 1) if count else None

    def _judge(self, row: Row, loss: float) -> list[Finding]:
        self._judged.append(row)
        spike = self._spikes.see(loss)
        if spike is not None:
            return self._spiked(spike)
        if self._spikes.suspected_for:
            return []
        self._calm.append(row)
        drifted = self._drift.see(loss, self._level) if self._level.is_known else None
        return self._fallen(row, loss) if drifted is None else [self._drifted(drifted)]

    def _spiked(self, spike: Spike) -> list[Finding]:
        onset = _ago(self._judged, spike.onset)
        if spike.outcome is Outcome.STAYED:
            self._drift.forget()
            self._calm.clear()
            said = _stayed(spike, onset)
            return [Finding(kind=Kind.LOSS_SPIKE, onset=self._root(self._led(onset)), evidence=said)]
        large = spike.peak - spike.level > self.config.spike.large * abs(spike.level)
        if spike.hot_rows < 2 and not large:
            return []  # one odd batch
        return [Finding(kind=Kind.LOSS_TRANSIENT, onset=onset, evidence=_recovered(spike, onset))]

    def _drifted(self, drifted: Drifted) -> Finding:
        onset = _ago(self._calm, drifted.onset)
        said = (
            f"the median loss of the last {self.config.drift.rows} rows is {drifted.now:.4g}; it was down at "
            f"{drifted.lowest:.4g}, and the rise began near step {onset.step}"
        )
        return Finding(kind=Kind.LOSS_DIVERGENCE, onset=self._root(onset), evidence=(said,))

    def _fallen(self, row: Row, loss: float) -> list[Finding]:
        config = self.config.too_good
        if len(self._judged) < self._too_good_rows or (self._fell is not None and self._is_recent(self._fell)):
            return []
        before = self._judged[-config.rows - config.gap_rows].loss or 0.0
        if loss >= config.fall * before:
            return []  # the usual: no more than this is spent on it
        rows = [one.loss or 0.0 for one in islice(reversed(self._judged), config.rows_needed)]
        found = too_good(rows[::-1], config)
        if found is None:
            return []
        self._fell = onset = _ago(self._judged, found.onset)
        said = (
            f"the loss fell from {found.usual:.4g} to {found.now:.4g} since step {onset.step}, to step {row.step}",
            f"its scatter is {found.scatter:.2g} of what it was: the batches are no longer different",
        )
        return [Finding(kind=Kind.LOSS_TOO_GOOD, onset=onset, evidence=said)]

    def _root(self, onset: Row) -> Row:
        """A loss that was too good before it rose: the harm began with the fall."""
        fell, self._fell = self._fell, None
        return fell if fell is not None and self._is_recent(fell) else onset

    def _is_recent(self, row: Row) -> bool:
        return row.step >= self._judged[0].step

    def _led(self, onset: Row) -> Row:
        """The gradients often run high some steps before the loss does."""
        rows = [(row, row.grad_norm) for row in self._judged if row.step < onset.step]
        usual = [norm for _, norm in rows[-_LEAD_USUAL_ROWS:] if norm is not None and isfinite(norm)]
        high = _LEAD_FACTOR * median(usual) if usual else inf
        lead = takewhile(lambda one: one[1] is not None and one[1] > high, reversed(rows[-_LEAD_ROWS:]))
        return min((row for row, _ in lead), key=lambda row: row.step, default=onset)


def _ago(rows: Sequence[Row] | deque[Row], count: int) -> Row:
    return rows[max(0, len(rows) - 1 - count)]


def _stayed(spike: Spike, onset: Row) -> tuple[str, ...]:
    rows = spike.rows
    noise = f"(noise {spike.sigma:.2g})"
    return (
        f"the loss jumped at step {onset.step} from {spike.level:.4g} {noise}; after {rows} rows it is {spike.now:.4g}",
        f"{spike.hot_rows} of the {rows} rows are high, the highest {spike.peak:.4g}; it is not coming back",
    )


def _recovered(spike: Spike, onset: Row) -> tuple[str, ...]:
    noise = f"(noise {spike.sigma:.2g})"
    return (
        f"the loss jumped at step {onset.step} from {spike.level:.4g} {noise} up to {spike.peak:.4g}",
        f"it was high for {spike.hot_rows} rows and came back by itself",
    )

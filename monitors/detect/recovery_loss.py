"""Does the loss go on after a recovery where it was before the fault?

Two ways of knowing. A step that is trained again, from the same state on the same data, shows its loss again: exactly
where kernels are deterministic, else but for the order of their sums, which is less than a hundredth of the loss. And
what differs more than that is held against the scatter of the loss from batch to batch: a loader that shuffles anew
differs by about that, in both directions; weights that are not those that were left, by more, and upwards. Where
fewer than three steps are trained again, the first new steps must lie where those before the fault lay.

Only a higher loss is wrong. A lower one on the same data more likely says that the steps before the fault computed
wrongly already, which may be why there was one; nothing is proved then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from math import isfinite, sqrt
from statistics import median
from typing import NamedTuple

_MAD_TO_SIGMA = 1.4826
"""for a normal distribution"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Counts are rows."""

    steps_kept: int = 8192
    """how far back a rewind can still be compared, at least"""
    rows_min: int = 32
    """before the fault: fewer show no noise"""
    near_rows: int = 128
    """before the fault, that noise and level are taken from"""
    replayed_min: int = 3
    """with which the replay decides, and the new steps need not"""
    replayed_most: int = 16
    apart_rows: int = 3
    """in a row that are clearly higher: other weights. Were the data shuffled anew, 3 of 100 million replays would"""
    apart_sigmas: float = 4.0
    apart_share: float = 0.03
    """of the loss: losses in bf16 have steps of 0.4 %, their noise can be 0"""
    shifted_rows: int = 12
    """all of them higher, by little: something was lost in the restore (the optimizer's state)"""
    shifted_sigmas: float = 0.5
    shifted_share: float = 0.01
    new_rows: int = 8
    """the detector of spikes needs 10: a loss that is high from the first step on is no spike, its data are well"""
    band_sigmas: float = 4.0
    band_changes: float = 1.5
    """times the largest change between neighbouring medians of so many rows"""
    odd_share: float = 0.25
    """of the way up the band that each row must lie: other weights spare no batch, a few odd ones in a row do"""


class Shown(NamedTuple):
    """What one step showed."""

    loss: float
    fed: int | None
    """index of its batch"""
    rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuity:
    """What the losses since a recovery say."""

    wrong: bool
    said: str


class _Band(NamedTuple):
    low: float
    level: float
    high: float


class LossCheck:
    """One for a run. O(1) for each row, but for the few that are compared."""

    def __init__(self, config: LossConfig | None = None) -> None:
        self.config = config or LossConfig()
        self._line: dict[int, Shown] = {}
        """by step: the run until the newest world"""
        self._rows: dict[int, Shown] = {}
        """of the newest world"""
        self._parted: int | None = None
        """first step that the newest world trained on other data than the line did"""
        self._doubted = False
        self._begin()

    def _begin(self) -> None:
        self._open = False
        self._noise: float | None = None
        self._changes: list[tuple[float, float]] = []
        """of the steps trained again: how much higher the loss is now, and what it was"""
        self._new: list[float] = []
        self._band: _Band | None = None

    def world_began(self, *, keep: bool, doubted: bool) -> None:
        """Another world follows.

        `keep`: what the one before showed belongs to the run. `doubted`: the numbers until now may be what was wrong;
        then only equal ones say something.
        """
        if keep and self._rows:
            self._grow()
        self._rows, self._parted = {}, None
        self._doubted = doubted
        self._begin()

    def _grow(self) -> None:
        """The newest world's rows take the place of older ones; what was on other data, or in doubt, is gone."""
        end = self._parted if self._parted is not None else max(self._rows) + 1 if self._doubted else None
        if end is not None:
            self._line = {step: one for step, one in self._line.items() if step < end}
        for step, one in self._rows.items():
            self._line.pop(step, None)
            self._line[step] = one
        self._line = _newest(self._line, self.config.steps_kept)

    def forget(self) -> None:
        """What was shown says nothing of what comes: another start, or a person may have changed the script."""
        self._line.clear()
        self._open = False

    def restored(self) -> None:
        """The world goes on from something that the run left."""
        self._open = bool(self._line)

    def ignore(self) -> None:
        """Something else is known to be wrong with the loss of this world."""
        self._open = False

    def see(self, step: int, row: Shown) -> Continuity | None:
        """One more row; says something at most once in a world."""
        self._rows[step] = row
        if len(self._rows) > 2 * self.config.steps_kept:
            self._rows = _newest(self._rows, self.config.steps_kept)
        was = self._line.get(step)
        if was is not None and was.fed != row.fed and self._parted is None:
            self._parted = step
        if not self._open:
            return None
        found = self._compare(step, row, was)
        if found is not None:
            self._open = False
        return found

    def _compare(self, step: int, row: Shown, was: Shown | None) -> Continuity | None:
        if not isfinite(row.loss):
            self._open = False
            return None
        if was is not None and self._parted is None and row.fed is not None:
            return self._replayed(step, row, was)
        if len(self._changes) >= self.config.replayed_min:
            return self._ended()
        if self._doubted or self._parted is not None:
            self._open = False
            return None
        return self._onward(step, row)

    # Steps that are trained again

    def _replayed(self, step: int, row: Shown, was: Shown) -> Continuity | None:
        if row.rank != was.rank or not isfinite(was.loss):
            return None
        if self._noise is None:
            self._noise = _noise(self._around(step, step + self.config.replayed_most))
        if self._noise is None:
            self._open = False
            return None
        self._changes.append((row.loss - was.loss, was.loss))
        if self._is_higher(self._noise):
            self._open = False
            return None if self._doubted else self._other(step, row.loss, was.loss)
        return self._ended() if len(self._changes) >= self.config.replayed_most else None

    def _is_higher(self, noise: float) -> bool:
        config = self.config
        last = self._changes[-config.apart_rows :]
        slack = config.apart_sigmas * noise
        if len(last) == config.apart_rows and all(
            change > max(slack, config.apart_share * abs(was)) for change, was in last
        ):
            return True
        rises = [change for change, _ in self._changes[-config.shifted_rows :]]
        rise = median(rises)
        least = max(config.shifted_sigmas * noise, config.shifted_share * abs(self._changes[-1][1]))
        scatter = median(abs(change - rise) for change in rises)
        return len(rises) == config.shifted_rows and min(rises) > 0 and rise > max(least, 3 * scatter)

    def _other(self, step: int, now: float, was: float) -> Continuity:
        rise = median(change for change, _ in self._changes[-self.config.shifted_rows :])
        said = (
            f"on the same data step {step} has a loss of {now:.5g}, before the fault {was:.5g}; "
            f"{len(self._changes)} steps trained again lie {rise:.3g} higher"
        )
        return Continuity(wrong=True, said=said)

    def _ended(self) -> Continuity | None:
        """All that will be compared was: none was wrong; was each as before?"""
        self._open = False
        noise = self._noise or 0.0
        slack = self.config.apart_sigmas * noise
        alike = all(abs(change) <= max(slack, self.config.apart_share * abs(was)) for change, was in self._changes)
        middle, usual = median(change for change, _ in self._changes), median(abs(was) for _, was in self._changes)
        if not alike or abs(middle) > max(self.config.shifted_sigmas * noise, self.config.shifted_share * usual):
            return None
        most = max(abs(change) for change, _ in self._changes)
        as_before = "exactly as before" if most == 0.0 else f"as before but for {most:.2g} at most"
        return Continuity(wrong=False, said=f"the loss of {len(self._changes)} steps trained again {as_before}")

    # Steps that are new

    def _onward(self, step: int, row: Shown) -> Continuity | None:
        config = self.config
        if not self._new:
            self._band = self._banded(step)
        if self._band is None:
            self._open = False
            return None
        self._new.append(row.loss)
        if len(self._new) < config.new_rows:
            return None
        self._open = False
        low, level, high = self._band
        middle = median(self._new)
        # High from its first step on and ever since, or it has nothing to do with the recovery.
        least = level + config.odd_share * (high - level)
        if middle > high and self._new[0] > high and min(self._new) > least:
            said = f"the first {len(self._new)} steps have a loss of {middle:.5g}, those before the fault {level:.5g}"
            return Continuity(wrong=True, said=f"{said}, and at most {high:.5g} was to be expected")
        if not low <= middle <= high:
            return None
        return Continuity(wrong=False, said=f"loss {middle:.4g} within {low:.4g} to {high:.4g}")

    def _banded(self, step: int) -> _Band | None:
        """Where the next few losses lie, as the steps before the fault say; None when they say nothing.

        The level, as far as it drifts until then, and the scatter: of a row, and of medians, which is more where losses
        wander. A falling loss need not fall further, so the fall only moves the lower end.
        """
        config = self.config
        losses = self._around(step, step)
        noise = _noise(losses)
        if noise is None:
            return None
        size = config.new_rows
        middles = [median(losses[end - size : end]) for end in range(len(losses), size - 1, -size)]
        change = max(abs(later - sooner) for later, sooner in pairwise(middles))
        level = median(losses[-2 * size :])
        drift = level - median(losses[-4 * size : -2 * size])
        margin = max(config.band_sigmas * noise, config.band_changes * change, config.apart_share * abs(level))
        band = _Band(low=level + min(0.0, drift) - margin, level=level, high=level + max(0.0, drift) + margin)
        # A loss that was leaving already is the fault's, or the data's.
        return None if max(losses[-3:]) > band.high else band

    def _around(self, step: int, end: int) -> list[float]:
        """Losses of the line in the order of the steps, from some before `step` until before `end`."""
        near = (self._line.get(at) for at in range(step - self.config.near_rows, end))
        losses = [one.loss for one in near if one is not None]
        return losses if len(losses) >= self.config.rows_min and all(map(isfinite, losses)) else []


def _noise(losses: Sequence[float]) -> float | None:
    """Scatter of one row: from the differences of neighbours, which no trend moves."""
    if not losses:
        return None
    return _MAD_TO_SIGMA * _median_size(later - sooner for sooner, later in pairwise(losses)) / sqrt(2)


def _median_size(numbers: Iterable[float]) -> float:
    return median(abs(number) for number in numbers)


def _newest(rows: dict[int, Shown], kept: int) -> dict[int, Shown]:
    return rows if len(rows) <= kept else dict(islice(rows.items(), len(rows) - kept, None))

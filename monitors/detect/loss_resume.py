"""After a restart, is the learning rate where it was?

Steps that are trained again must show the rate that they showed before. A warm-up that began anew leaves the loss fine
for hours. Loss and data of a recovery are judged in `recovery.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, pairwise
from math import isfinite
from statistics import median

from monitors.signals import StepReported


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeConfig:
    """Counts are rows."""

    steps_kept: int = 8192
    """how far back a rewind can still be compared, at least"""
    rows: int = 2
    """in a row that must differ: the first row after a restart may carry what it was restored with"""
    lr_share: float = 0.01
    """more is another schedule; the values of the steps beside it are allowed as well, trainers count differently"""
    lr_jump: float = 1.5
    """factor between neighbouring steps over a restart at the very step, where steps changed it far less before"""
    lr_rows: int = 16
    """before the restart, that show how fast the schedule moves"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """A learning rate that is not what it was."""

    what: str
    since: StepReported


class Resumes:
    """Remembers the rows of a run, and compares after each restart. O(1) for each row."""

    def __init__(self, config: ResumeConfig) -> None:
        self.config = config
        self._rows: dict[int, StepReported] = {}
        self._begin(None)

    def _begin(self, world: int | None) -> None:
        self._world = world
        self._told = not self._rows  # the first world has nothing to be compared with
        self._differs: list[StepReported] = []
        self._last = next(reversed(self._rows.values()), None)
        self._behind: StepReported | None = None
        """of the step before, what was reported before the restart"""

    def see(self, row: StepReported) -> Mismatch | None:
        """One row of the rank that speaks for the run."""
        if row.world != self._world:
            self._begin(row.world)
        found = None if self._told else self._compare(row)
        self._told = self._told or found is not None
        self._keep(row)
        return found

    def _keep(self, row: StepReported) -> None:
        self._rows.pop(row.step, None)
        self._rows[row.step] = row
        if len(self._rows) > 2 * self.config.steps_kept:
            self._rows = dict(islice(self._rows.items(), self.config.steps_kept, None))

    def _compare(self, row: StepReported) -> Mismatch | None:
        was = self._rows.get(row.step)
        if was is None or was.world >= row.world:
            return self._compare_onward(row)
        behind, self._behind = self._behind, was
        return self._lasting(row, self._lr(row, (behind, was, self._rows.get(row.step + 1))))

    def _lasting(self, row: StepReported, said: str) -> Mismatch | None:
        rows = self._differs
        if not said:
            rows.clear()
            return None
        rows.append(row)
        return Mismatch(what=said, since=rows[0]) if len(rows) >= self.config.rows else None

    def _lr(self, row: StepReported, before: tuple[StepReported | None, ...]) -> str:
        known = [one.lr for one in before if one is not None and one.lr is not None]
        if row.lr is None or not known or not isfinite(row.lr):
            return ""
        slack = self.config.lr_share * max(abs(row.lr), *map(abs, known))
        if min(known) - slack <= row.lr <= max(known) + slack:
            return ""
        return f"the learning rate at step {row.step} is {row.lr:.4g}; before the restart it was {median(known):.4g}"

    def _compare_onward(self, row: StepReported) -> Mismatch | None:
        """No step is trained again: the schedule must go on from where it was."""
        last, self._last = self._last, None
        if last is None or not (_moves(row) and _moves(last)) or row.step != last.step + 1:
            return None
        assert row.lr is not None
        assert last.lr is not None
        usual = max([self.config.lr_jump, *(step * step * step for step in self._lr_steps(last))])
        if max(row.lr / last.lr, last.lr / row.lr) <= usual:
            return None
        what = f"the learning rate went from {last.lr:.4g} to {row.lr:.4g} with the restart at step {row.step}"
        return Mismatch(what=what, since=row)

    def _lr_steps(self, last: StepReported) -> list[float]:
        """Factors between neighbouring steps before the restart, above 1."""
        behind = [self._rows.get(last.step - back) for back in range(1, self.config.lr_rows)]
        rows = [last, *(row for row in behind if row is not None and row.world <= last.world)]
        rates = [row.lr for row in rows if row.lr is not None and _moves(row)]
        return [max(a / b, b / a) for a, b in pairwise(rates)]


def _moves(row: StepReported) -> bool:
    return row.lr is not None and isfinite(row.lr) and row.lr > 0

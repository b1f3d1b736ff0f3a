"""After a recovery, does the run prove itself: step time, loss and data position as before the fault?

Numbers that are wrong are one incident (`recovery_wrong`), steps that take longer another (`recovery_slow`). When all
three match, the story says so, once for a recovery. What cannot be compared is unknown, and nothing is said: a
supervisor that was started anew in between, too few steps before the fault, a script that tells no data index.
"""

from __future__ import annotations

from dataclasses import dataclass

from lastgood.skips import Skips
from monitors.detect.probes import Note
from monitors.detect.recovery_loss import Continuity, LossCheck, Shown
from monitors.detect.recovery_pace import Pace, PaceCheck
from monitors.incidents import Incident, Kind
from monitors.signals import RankRestored, Signal, StepReported

OF_LOSS = frozenset({Kind.NONFINITE_LOSS, Kind.LOSS_SPIKE, Kind.LOSS_DIVERGENCE})
OWN = frozenset({Kind.RECOVERY_WRONG, Kind.RECOVERY_SLOW})


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """What whoever ordered a world knows of how it goes on."""

    skips: tuple[tuple[int, int], ...] | None = None
    """windows of data that it is never to be fed; None: not known"""
    doubted: bool = False
    """the numbers before it may be wrong: of a loss, or of memory that failed"""
    asked: bool = False
    """a person let the run go on, and may have changed anything"""


class Recovery:
    """One for a run."""

    def __init__(self, *, loss_enabled: bool = True) -> None:
        self._loss_enabled = loss_enabled
        self._pace = PaceCheck()
        self._loss = LossCheck()
        self._told: set[Kind] = set()
        self._rows_before = False
        """an older world of the run was seen to train"""
        self._world = 0
        self._rows = 0
        self._begin(Resumption())

    def _begin(self, how: Resumption) -> None:
        self._rows_before = self._rows_before or self._rows > 0
        self._rows = 0
        self._skips = Skips(how.skips) if how.skips is not None else None
        self._told = set()
        self._first: StepReported | None = None
        self._base: int | None = None
        """step that it went on from"""
        self._speaker: int | None = None
        self._step = 0
        self._placed = self._disturbed = False
        self._well: Pace | None = None
        self._goes_on: Continuity | None = None
        self._quiet = not self._rows_before
        """it will not be called proved"""

    def world_began(self, world: int, how: Resumption | None = None) -> None:
        """Another set of ranks was ordered."""
        how = how or Resumption()
        wrong = Kind.RECOVERY_WRONG in self._told
        self._world = world
        # What was wrong was the world before, which is forgotten: this one is compared with the one before that.
        self._loss.world_began(keep=not wrong, doubted=how.doubted and not wrong)
        self._pace.world_began()
        self._begin(how)
        if how.asked:
            self._quiet = True
            self._loss.forget()
            self._pace.forget()

    def disturbed(self) -> None:
        """Somebody measures devices of the run: the step that ends next says nothing of its pace."""
        self._disturbed = True

    def heard(self, incident: Incident) -> None:
        """Something was concluded of this world: slow steps may be its doing."""
        if incident.world != self._world or incident.kind in OWN:
            return
        self._quiet = True
        self._pace.excuse()
        if incident.kind in OF_LOSS:
            self._loss.ignore()

    def see(self, signal: Signal) -> tuple[list[Incident], list[Note]]:
        """A rank restored something, or a step was finished; what is wrong, and what was learned."""
        match signal:
            case RankRestored():
                self._restored(signal)
            case StepReported() if self._is_news(signal):
                return self._row(signal)
            case _:
                pass
        return [], []

    def _restored(self, signal: RankRestored) -> None:
        if self._base is not None:
            return
        self._base = signal.step
        if signal.checkpoint is None and signal.copied_in is None:
            self._loss.forget()  # from scratch: weights may be drawn anew
        elif self._rows_before and self._loss_enabled:
            self._loss.restored()

    def _is_news(self, row: StepReported) -> bool:
        """The lowest rank speaks for the run."""
        if self._speaker is None or row.rank < self._speaker:
            self._speaker = row.rank
        return row.rank == self._speaker and row.step > self._step

    def _row(self, row: StepReported) -> tuple[list[Incident], list[Note]]:
        self._step = row.step
        self._rows += 1
        self._first = self._first or row
        found = []
        if (said := self._misplaced(row)) and Kind.RECOVERY_WRONG not in self._told:
            found.append(self._wrong(row, said, confidence=1.0))
        if row.loss is not None:
            found += self._lossy(row, Shown(row.loss, row.data_index, row.rank))
        found += self._timed(row)
        return found, self._proved(row)

    def _misplaced(self, row: StepReported) -> str:
        """Why the data of a step are not those that it was to be fed; empty when they are, or nobody knows."""
        if row.data_index is None or self._skips is None or not self._rows_before or row.step < 1:
            return ""
        wanted = self._skips.data_index(row.step)
        self._placed = row.data_index == wanted
        if self._placed:
            return ""
        return f"step {row.step} was fed batch {row.data_index}; with what is left out it had to be batch {wanted}"

    def _lossy(self, row: StepReported, shown: Shown) -> list[Incident]:
        found = self._loss.see(row.step, shown)
        if found is None or not found.wrong:
            self._goes_on = self._goes_on or found
            return []
        return [] if Kind.RECOVERY_WRONG in self._told else [self._wrong(row, found.said, confidence=0.9)]

    def _timed(self, row: StepReported) -> list[Incident]:
        disturbed, self._disturbed = self._disturbed, False
        pace = None if row.step_s is None or disturbed else self._pace.took(row.step_s)
        if pace is None or not pace.slow:
            self._well = self._well or pace
            return []
        self._told.add(Kind.RECOVERY_SLOW)
        now = f"since the recovery a step takes {pace.now_s:.3g} s (median of {pace.steps})"
        said = (
            f"{now}; before the fault it took {pace.before_s:.3g} s",
            f"9 of 10 steps before the fault took {pace.most_s:.3g} s at most",
        )
        return [self._incident(Kind.RECOVERY_SLOW, row, said, confidence=0.8)]

    def _wrong(self, row: StepReported, said: str, *, confidence: float) -> Incident:
        self._told.add(Kind.RECOVERY_WRONG)
        return self._incident(Kind.RECOVERY_WRONG, row, (said,), confidence=confidence)

    def _incident(self, kind: Kind, row: StepReported, said: tuple[str, ...], *, confidence: float) -> Incident:
        """It is so since the world's first step."""
        first = self._first or row
        since = first.step if self._base is None else min(self._base + 1, first.step)
        return Incident(
            kind=kind,
            at=row.at,
            onset=min(first.at, row.at),
            world=self._world,
            onset_step=since,
            step=row.step,
            confidence=confidence,
            fingerprint=f"{kind}:{since}",
            evidence=said,
        )

    def _proved(self, row: StepReported) -> list[Note]:
        well, goes_on = self._well, self._goes_on
        if self._quiet or self._told or not self._placed or well is None or goes_on is None:
            return []
        self._quiet = True
        sentence = (
            f"world {self._world} proved itself: step time {well.now_s:.3g} s ({well.before_s:.3g} before), "
            f"{goes_on.said}, data position as expected"
        )
        return [Note(at=row.at, world=self._world, sentence=sentence, proof=True)]

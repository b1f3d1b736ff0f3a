"""Where does a rank stand? Read from its progress file and notes; from its output and CPU use when it writes none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastgood.progress import PHASES, Reader, Row, Saved, Standing
from monitors import wire
from monitors.sense.logs import Found, Logs
from monitors.sense.selection import Selection
from monitors.sense.utterances import Utterances
from monitors.signals import (
    SEEN_EVERY_S,
    Blind,
    CheckpointRefused,
    DrillDone,
    Phase,
    RankEntered,
    RankProgress,
    RankRestored,
    RankSaid,
    SaveCommitted,
    SaveFailed,
    Signal,
    StepReported,
)

PATIENCE_STEPS = 1.5
"""times the newest step; who names the one that hangs asks for more from 1.8 times the usual step on"""
ROWS_RESTED = 200
"""steps that nobody has read: the ring holds some thousand, and many at once take long"""
_TRAINS = (Phase.STEP, Phase.SAVE, Phase.EVAL, Phase.DATA)


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Which rank."""

    node: int
    world: int
    rank: int


class RankSense:
    """Everything that one rank tells, as signals."""

    def __init__(
        self,
        where: Where,
        *,
        progress: Path,
        folder: Path,
        pattern: str | None,
        at: float,
        selection: Selection | None = None,
        noted: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """`progress` must exist; `folder` is the rank's own, with its notes and its output; `at` is now.

        `noted` hears every note as it is, for what is the node's own affair.

        `selection` is that of all ranks of the node, and chooses what is told of the rows of each.
        """
        self._where = where
        self._selection = selection or Selection(node=where.node, world=where.world, ranks_here=1, ranks=1)
        self._reader = Reader(str(progress))
        self._notes = Notes(where, folder / "notes.jsonl", noted)
        self._logs = Logs(folder, pattern)
        self._utterances = Utterances(folder, node=where.node, world=where.world, rank=where.rank)
        self._heard: list[RankSaid] = []
        """at glances"""
        self._has_pattern = pattern is not None
        self._rows_read = 0
        self._row_at = float("-inf")
        self._step_s = self._longest_s = 0.0
        """when the newest of them was finished, and how long it took"""
        self._uses_sdk = False
        self._stood: tuple[int, Phase] = (0, Phase.STARTING)
        self._mark = _mark(self._reader.look())
        self._looked_at = self._moved_at = at
        self._glanced_at = 0.0
        self._sent_at, self._silences = float("-inf"), 0.0
        self._is_news = True

    @property
    def step(self) -> int:
        """Last finished step, as of the last look."""
        return self._stood[0]

    @property
    def is_mute(self) -> bool:
        """It says nothing of what it does just now: its CPU use tells whether it does anything."""
        return not self._uses_sdk or self._stood[1] is Phase.STARTING

    def just_moved(self, now: float) -> bool:
        """It trains, moved so lately that nobody need look before long, and will say itself when it moves next.

        Of output nothing tells how many steps it was and when each ended, but a look at each.
        """
        if not self._uses_sdk:
            return False
        patience_s = max(SEEN_EVERY_S, PATIENCE_STEPS * self._step_s)
        return self._stood[1] in _TRAINS and now - self._moved_at < patience_s

    def goes_on(self, now: float) -> bool:
        """At a glance, for a part of a look: it trains, has just done a step, and has no more to tell than steps."""
        standing = self._reader.look()
        moves = Phase(standing.phase) in _TRAINS and abs(now - self._reader.newest()) < SEEN_EVERY_S
        unread = standing.notes != self._notes.read_bytes or standing.head - self._rows_read > ROWS_RESTED
        if not (self._uses_sdk and moves) or unread:
            return False
        self._glanced_at = now
        self._heard += self._utterances.look(now, standing.step)
        return not self._heard

    def look(self, now: float, *, busy: bool = False, final: bool = False) -> list[Signal]:
        """What is new. `busy`: it used the CPU lately. `final`: it has ended, so read all there is."""
        standing = self._reader.look()
        notes = self._notes.read(now, None if final else standing.notes)
        self._uses_sdk = self._uses_sdk or bool(notes) or _touched(standing)
        if self._uses_sdk:
            steps = self._rows(now)
            self._follow(now, standing, busy=busy)
            spent_s = standing.spent_s
        else:
            steps = self._output(now, busy)
            spent_s = ()
        self._looked_at = now
        said, self._heard = self._heard, []
        said += self._utterances.end(now, self.step) if final else self._utterances.look(now, self.step)
        return [*notes, *steps, *said, *self._progress(now, spent_s, due=final)]

    def order_save_every(self, steps: int) -> None:
        """Tell the rank how many steps should lie between durable saves."""
        self._reader.order_save_every(steps)

    def order_stop_after(self, step: int) -> None:
        """Ask the rank to save and end after `step`."""
        self._reader.order_stop_after(step)

    def order_drill(self, number: int) -> None:
        """Tell the rank of the drill in its folder."""
        self._reader.order_drill(number)

    def tell_saver(self, saver: str, saved: Saved) -> None:
        """Tell the rank whether its node has a saver (one of SAVERS), and what became of the saves of this world."""
        self._reader.tell_saved(saved)
        self._reader.tell_saver(saver)

    def close(self) -> None:
        """No look after this."""
        self._reader.close()

    def _follow(self, now: float, standing: Standing, *, busy: bool) -> None:
        """The rank says itself when it moved; looks are seldom while it does."""
        phase = Phase(standing.phase)
        before, self._mark = self._mark, _mark(standing)
        moved_at = max(self._row_at, now - standing.phase_for_s) if self._mark != before else None
        self._stand(standing.step, phase, now if busy and phase is Phase.STARTING else moved_at, now)

    def _stand(self, step: int, phase: Phase, moved_at: float | None, now: float) -> None:
        """It stands there; `moved_at`: when it came to, or moved on the way, None if it has not since the last look."""
        changed = (step, phase) != self._stood
        self._stood = (step, phase)
        self._is_news = self._is_news or changed
        if moved_at is not None:  # after the last look, whatever its clock says
            self._moved_at = min(now, max(self._looked_at, moved_at))

    def _rows(self, now: float) -> list[Signal]:
        head, rows = self._reader.rows(self._rows_read)
        missed = head - self._rows_read - len(rows)
        self._rows_read = head
        if rows:
            self._row_at, self._step_s = rows[-1].at, rows[-1].step_s
            self._longest_s = max(self._longest_s, *(row.step_s for row in rows))
        signals: list[Signal] = []
        for row in rows:
            self._selection.put(self._where.rank, row)
            if self._selection.tells(self._where.rank, row):
                signals.append(self._reported(row))
        if missed > 0:
            why = f"rank {self._where.rank} wrote {missed} rows faster than they were read"
            signals.append(Blind(at=now, node=self._where.node, sense="progress", why=why))
        return signals

    def _reported(self, row: Row) -> StepReported:
        return StepReported(
            at=row.at,
            node=self._where.node,
            world=self._where.world,
            rank=self._where.rank,
            step=row.step,
            loss=row.loss,
            grad_norm=row.grad_norm,
            lr=row.lr,
            tokens=row.tokens,
            data_index=row.data_index if row.data_index >= 0 else None,
            step_s=row.step_s,
            loss_scale=row.loss_scale,
        )

    def _output(self, now: float, busy: bool) -> list[Signal]:
        wrote, found = self._logs.read()
        step, phase = self._stood
        if found:
            step, phase = found[-1].step, Phase.STEP
        elif wrote and not self._has_pattern:
            phase = Phase.STEP  # with nothing to learn the step from, output is all the progress there is
        moved = wrote or busy or (step, phase) != self._stood
        self._stand(step, phase, now if moved else None, now)
        return [self._read_off(now, one) for one in found]

    def _read_off(self, now: float, found: Found) -> StepReported:
        return StepReported(
            at=now,
            node=self._where.node,
            world=self._where.world,
            rank=self._where.rank,
            step=found.step,
            loss=found.loss,
            grad_norm=found.grad_norm,
        )

    def _progress(self, now: float, spent_s: tuple[float, ...], *, due: bool) -> list[Signal]:
        # Counted from when it moved: a rank that has been silent for the 1 s of the lowest limit is told of just then.
        silences = (now - self._moved_at) // SEEN_EVERY_S
        same = silences == self._silences and (silences > 0 or now - self._sent_at < SEEN_EVERY_S)
        if not due and not self._is_news and same:
            return []
        self._sent_at, self._silences, self._is_news = now, silences, False
        longest_s, self._longest_s = self._longest_s, 0.0
        glanced_at, self._glanced_at = self._glanced_at, 0.0
        step, phase = self._stood
        return [
            RankProgress(
                at=now,
                node=self._where.node,
                world=self._where.world,
                rank=self._where.rank,
                step=step,
                phase=phase,
                moved_at=self._moved_at,
                spent_s=spent_s,
                longest_s=longest_s,
                glanced_at=glanced_at,
                speaks=self._uses_sdk,
            )
        ]


def _touched(standing: Standing) -> bool:
    return standing.speaks or standing.head > 0 or standing.step != 0 or standing.phase != PHASES[0]


def _mark(standing: Standing) -> tuple[int, int, float]:
    """Differs when it moved."""
    return standing.head, standing.step, standing.phase_since_s


class Notes:
    """The notes file of one rank, read as far as the rank says it is whole."""

    def __init__(self, where: Where, path: Path, noted: Callable[[dict[str, Any]], None] | None = None) -> None:
        self._place = {"node": where.node, "world": where.world, "rank": where.rank}
        self._path = path
        self._noted = noted
        self.read_bytes = 0
        """of the file"""

    def read(self, now: float, whole_bytes: int | None) -> list[Signal]:
        """Signals of the notes up to `whole_bytes`; None: to the end, where a half line is no note."""
        if whole_bytes is not None and whole_bytes <= self.read_bytes:
            return []
        try:
            with self._path.open("rb") as file:
                file.seek(self.read_bytes)
                body = file.read() if whole_bytes is None else file.read(whole_bytes - self.read_bytes)
        except FileNotFoundError:
            return []
        lines = body[: body.rfind(b"\n") + 1]
        self.read_bytes += len(lines)
        return [signal for line in lines.splitlines() for signal in self._signals(now, line)]

    def _signals(self, now: float, line: bytes) -> list[Signal]:
        try:
            note = json.loads(line)
            if self._noted is not None:
                self._noted(note)
            cls = _NOTES.get(note["note"])
            if cls is None:  # of a newer SDK
                return []
            return [wire.decode({wire.TAG: cls.__name__, **note, **self._place}, _SIGNALS)]
        except (ValueError, KeyError, TypeError) as error:
            why = f"rank {self._place['rank']} wrote a note that cannot be read: {line[:200]!r}: {error}"
            return [Blind(at=now, node=self._place["node"], sense="notes", why=why)]


_NOTES: dict[str, type[Signal]] = {
    "entered": RankEntered,
    "restored": RankRestored,
    "refused": CheckpointRefused,
    "committed": SaveCommitted,
    "save_failed": SaveFailed,
    "drilled": DrillDone,
    "copies": Blind,
    "unstaged": Blind,
}
"""A note and its signal have the same fields, but for the place."""
_SIGNALS = wire.by_name(*_NOTES.values())

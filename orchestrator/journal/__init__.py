"""What happened, and what was decided? One SQLite file that the supervisor alone writes and everybody reads.

An event and the decision it led to are one row, written in one transaction together with the actions to perform and
the state decided on: none is ever there without the others. Readers never block the writer, nor it them (WAL).
A journal is never edited; rows are only added, actions marked as performed, and superseded states dropped.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from monitors import wire
from monitors.signals import StepReported
from orchestrator.core import actions, events
from orchestrator.core.actions import Action
from orchestrator.core.events import Event
from orchestrator.core.state import Decision, Opened, Phase, State
from orchestrator.journal import pages
from orchestrator.journal.file import File, JournalNewer, JournalUnavailable, code_version

__all__ = ["FILE_NAME", "Entry", "Journal", "JournalNewer", "JournalUnavailable", "Submission"]

FILE_NAME = "journal.db"
EVENTS = wire.by_name(*events.Event.__args__)
ACTIONS = wire.by_name(*actions.Action.__args__)
OPENED = wire.by_name(Opened)
STATES = wire.by_name(State)
_ENTRIES = "SELECT id, event, phase, reason, opened, closed FROM entries WHERE run = ? AND id > ? ORDER BY id"
_THINNED = """SELECT id, event, phase, reason, opened, closed FROM entries WHERE id IN (SELECT id FROM (
    SELECT id, kind, LAG(kind) OVER course AS before, LEAD(kind) OVER course AS after,
        reason = '' AND opened = '[]' AND closed = '[]'
        AND LAG(CAST(at / 60 AS INTEGER)) OVER course IS CAST(at / 60 AS INTEGER) AS dull
    FROM entries WHERE run = ? AND id > ? WINDOW course AS (ORDER BY id))
    WHERE NOT (dull AND kind = 'Progressed' AND before IS 'Progressed' AND after IS 'Progressed')) ORDER BY id"""
_AFTER = "SELECT run, id, event, phase, reason, opened, closed FROM entries WHERE id > ? ORDER BY id LIMIT ?"
_VALUES = ("loss", "grad_norm", "lr", "tokens", "step_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A run as it was handed in."""

    run: str
    name: str
    submitted_at: float
    spec: dict[str, Any]
    """resolved"""
    spec_yaml: str
    """as the user wrote it"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event and what was decided about it."""

    id: int
    """grows within a run; unique in the journal"""
    event: Event
    phase: Phase
    """of the run once decided"""
    reason: str = ""
    actions: tuple[Action, ...] = ()
    opened: tuple[Opened, ...] = ()
    closed: tuple[str, ...] = ()


class Journal:
    """The journal of every run of one state folder.

    One thread uses one Journal. Everything raises JournalUnavailable when the file cannot be read or written.
    """

    def __init__(self, path: str | Path, *, read_only: bool = False) -> None:
        self._file = File(Path(path), read_only=read_only)
        self.beat_at = float("-inf")
        """the newest heartbeat written here"""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; safe to do twice."""
        self._file.close()

    # Writing

    def submit(self, run: str, name: str, spec: dict[str, Any], spec_yaml: str, at: float) -> None:
        """Take in a run. Raises sqlite3.IntegrityError when the id is taken."""
        with self._file.transaction() as db:
            db.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?)", (run, name, at, json.dumps(spec), spec_yaml))

    def record(
        self,
        run: str,
        event: Event,
        decision: Decision,
        *,
        rows: Sequence[StepReported] = (),
        alive_at: float | None = None,
        snapshot: bool = False,
        submission: Submission | None = None,
    ) -> int:
        """Write an event, its decision and the actions to perform, all or nothing; returns the id of the entry.

        The state decided on is always written, in place of the one before; `snapshot` keeps it for good, as a point
        that `load` can fall back to and a replay can start from. A run is taken in with its first event: `submission`.
        `rows` as for `add_rows`, `alive_at` as for `heartbeat`: each wait for the disk takes a core from training.
        """
        opened = json.dumps([wire.encode(o) for o in decision.opened])
        closed = json.dumps(decision.closed)
        values = (run, event.at, type(event).__name__, wire.dumps(event), decision.reason, decision.state.phase)
        with self._file.transaction() as db:
            if (new := submission) is not None:
                self.submit(new.run, new.name, new.spec, new.spec_yaml, new.submitted_at)
            cursor = db.execute(
                "INSERT INTO entries (run, at, kind, event, reason, phase, opened, closed)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*values, opened, closed),
            )
            entry = cursor.lastrowid
            assert entry is not None
            bodies = [(entry, n, run, wire.dumps(action)) for n, action in enumerate(decision.actions)]
            db.executemany("INSERT INTO actions VALUES (?, ?, ?, ?, NULL)", bodies)
            self._keep(db, run, entry, decision.state, snapshot)
            if rows:
                self.add_rows(run, rows)
            if alive_at is not None:
                self.heartbeat(alive_at)
        return entry

    def _keep(self, db: sqlite3.Connection, run: str, entry: int, state: State, kept: bool) -> None:
        db.execute("DELETE FROM snapshots WHERE run = ? AND NOT kept", (run,))
        values = (run, entry, kept, state.policy.version, code_version(), wire.dumps(state))
        db.execute("INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?)", values)

    def mark(self, entry: int, position: int, at: float) -> None:
        """The action was performed: it will not be performed again after a crash."""
        with self._file.transaction() as db:
            db.execute(
                "UPDATE actions SET done_at = ? WHERE entry = ? AND position = ? AND done_at IS NULL",
                (at, entry, position),
            )

    def add_rows(self, run: str, rows: Iterable[StepReported]) -> None:
        """Keep the progress of steps, one row for each step of a world: that of the lowest rank that reported it.

        Safe to do twice. Rows of steps that were rolled back stay: their world tells them from those that count.
        """
        values = [_to_columns(run, row) for row in rows]
        updates = ", ".join(f"{name} = excluded.{name}" for name in ("at", "node", "rank", *_VALUES, "data_index"))
        with self._file.transaction() as db:
            db.executemany(
                "INSERT INTO steps VALUES (?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (run, world, step)"
                f" DO UPDATE SET {updates} WHERE excluded.rank <= steps.rank",
                values,
            )

    def heartbeat(self, at: float) -> None:
        """The supervisor is alive."""
        with self._file.transaction() as db:
            db.execute("INSERT OR REPLACE INTO alive VALUES ('supervisor', ?)", (at,))
        self.beat_at = at

    def leave(self, at: float) -> None:
        """The supervisor ends because it was told to, or has nothing to do: its absence is no fault."""
        with self._file.transaction() as db:
            db.execute("INSERT OR REPLACE INTO alive VALUES ('left', ?)", (at,))

    # Reading

    def runs(self) -> list[Submission]:
        """Every run, oldest first."""
        found = self._file.select(
            "SELECT run, name, submitted_at, spec, spec_yaml FROM runs ORDER BY submitted_at, run"
        )
        return [
            Submission(run=run, name=name, submitted_at=at, spec=json.loads(spec), spec_yaml=spec_yaml)
            for run, name, at, spec, spec_yaml in found
        ]

    def unmarked(self, run: str) -> list[tuple[int, int, Action]]:
        """(entry, position, action) of every action decided on and not known to be performed, oldest first."""
        sql = "SELECT entry, position, body FROM actions WHERE run = ? AND done_at IS NULL ORDER BY entry, position"
        return [(entry, position, wire.loads(body, ACTIONS)) for entry, position, body in self._file.select(sql, run)]

    def phase(self, run: str) -> str | None:
        """Where a run stands, without its state being read; None before the first event."""
        found = self._file.select("SELECT phase FROM entries WHERE run = ? ORDER BY id DESC LIMIT 1", run)
        return str(found[0][0]) if found else None

    def state(self, run: str) -> State | None:
        """The newest state that this code can read; None before the first event."""
        return self._newest_state(run)[0]

    def load(self, run: str) -> tuple[State | None, list[Event]]:
        """The newest state that this code can read, and the events to decide again after it (as a rule none).

        (None, []) for a run that has no events yet. Raises JournalNewer when an event to decide again is unknown.
        """
        state, since = self._newest_state(run)
        sql = "SELECT kind, event FROM entries WHERE run = ? AND id > ? ORDER BY id"
        return state, [self._must_read(kind, body) for kind, body in self._file.select(sql, run, since)]

    def _newest_state(self, run: str) -> tuple[State | None, int]:
        for entry, body in self._file.select(
            "SELECT entry, state FROM snapshots WHERE run = ? ORDER BY entry DESC", run
        ):
            try:
                return wire.loads(body, STATES), entry
            except (KeyError, ValueError):  # written by a code whose State differs too much: decide again since before
                continue
        return None, 0

    def _must_read(self, kind: str, body: str) -> Event:
        event = _event(body)
        if event is None:
            raise JournalNewer(
                f"{self._file.path}: this lastgood ({code_version()}) does not know the event {kind}: upgrade"
            )
        return event

    def events(self, run: str, since: int = 0, *, kind: type[Event] | None = None) -> list[tuple[int, Event]]:
        """(id, event) after entry `since`, in the order they were decided; of one kind when given.

        Kinds unknown to this code are left out.
        """
        sql = "SELECT id, event FROM entries WHERE run = ? AND id > ? ORDER BY id"
        values: tuple[object, ...] = (run, since)
        if kind is not None:
            sql = "SELECT id, event FROM entries WHERE run = ? AND id > ? AND kind = ? ORDER BY id"
            values = (run, since, kind.__name__)
        read = ((entry, _event(body)) for entry, body in self._file.select(sql, *values))
        return [(entry, event) for entry, event in read if event is not None]

    def newest(self, run: str, kind: type[Event]) -> Event | None:
        """The newest event of one kind; None before the first."""
        sql = "SELECT event FROM entries WHERE run = ? AND kind = ? ORDER BY id DESC LIMIT 1"
        found = self._file.select(sql, run, kind.__name__)
        return _event(found[0][0]) if found else None

    def entries(self, run: str, since: int = 0, *, thin: bool = False) -> list[Entry]:
        """Events with their decisions after entry `since`. Kinds unknown to this code are left out.

        `thin` leaves out progress in the middle of uneventful minutes: a month of training has millions of it, and
        what comes later repeats it, as steps, times spent and energy are running totals.
        """
        acts = self._actions(run, since)
        found = self._file.select(_THINNED if thin else _ENTRIES, run, since)
        return [entry for row in found if (entry := _entry(row, acts.get(row[0], ())))]

    def page(
        self,
        run: str,
        *,
        after: int = 0,
        before: int = pages.ENDLESS,
        limit: int = 100,
        newest_first: bool = False,
        dull: bool = True,
        kinds: Sequence[str] = (),
    ) -> list[Entry]:
        """At most `limit` entries of a run between two ids; `dull`: also progress about which nothing was decided."""
        found = pages.entries(
            self._file, run, after=after, before=before, limit=limit, newest_first=newest_first, dull=dull, kinds=kinds
        )
        acts = _by_entry(pages.actions(self._file, [row[0] for row in found]))
        return [entry for row in found if (entry := _entry(row, acts.get(row[0], ()))) is not None]

    def worlds(self, run: str, since: int = 0) -> list[int]:
        """Worlds from `since` on of which steps were reported."""
        return pages.worlds(self._file, run, since)

    def columns(self, run: str, world: int, after: int = -1) -> Sequence[pages.Row]:
        """What `rows` has of one world after a step, the next of it, bare: a chart reads a million of them."""
        return pages.rows(self._file, run, world, after)

    def _actions(self, run: str, since: int) -> dict[int, tuple[Action, ...]]:
        sql = "SELECT entry, body FROM actions WHERE run = ? AND entry > ? ORDER BY entry, position"
        return _by_entry(self._file.select(sql, run, since))

    def after(self, entry: int, limit: int = 1000) -> list[tuple[int, str, Entry | None]]:
        """(id, run, entry) of the next `limit` entries of all runs after `entry`, in the order they were decided.

        An entry of a kind unknown to this code is None, so that a reader's place moves past it.
        """
        found = self._file.select(_AFTER, entry, limit)
        if not found:
            return []
        sql = "SELECT entry, body FROM actions WHERE entry > ? AND entry <= ? ORDER BY entry, position"
        acts = _by_entry(self._file.select(sql, entry, found[-1][0]))
        return [(row[0], run, _entry(row, acts.get(row[0], ()))) for run, *row in found]

    def newest_id(self) -> int:
        """Of the newest entry of all runs; 0: there is none."""
        found = self._file.select("SELECT MAX(id) FROM entries")
        return int(found[0][0] or 0)

    def version(self) -> int:
        """Another number whenever another connection has written anything: asking costs some microseconds."""
        return int(self._file.select("PRAGMA data_version")[0][0])

    def rows(
        self, run: str, *, since_step: int = 0, limit: int | None = None, world: int | None = None
    ) -> list[StepReported]:
        """Progress after `since_step`, by world and step; the newest `limit` of them, of one world when given."""
        columns = "world, step, at, node, rank, loss, grad_norm, lr, tokens, data_index, step_s"
        sql = (
            f"SELECT {columns} FROM steps WHERE run = ? AND step > ? AND (? IS NULL OR world = ?)"
            " ORDER BY world DESC, step DESC LIMIT ?"
        )
        found = self._file.select(sql, run, since_step, world, world, -1 if limit is None else limit)
        return [_from_columns(row) for row in reversed(found)]

    def rows_after(self, run: str, world: int, step: int, limit: int = 1000) -> list[StepReported]:
        """Progress of one world after a step, in order, some at a time: for who reads along."""
        columns = "world, step, at, node, rank, loss, grad_norm, lr, tokens, data_index, step_s"
        sql = f"SELECT {columns} FROM steps WHERE run = ? AND world = ? AND step > ? ORDER BY step LIMIT ?"
        return [_from_columns(row) for row in self._file.select(sql, run, world, step, limit)]

    def last_heartbeat(self) -> float | None:
        """When the supervisor was last known alive; None: never."""
        found = self._file.select("SELECT at FROM alive WHERE who = 'supervisor'")
        return float(found[0][0]) if found else None

    def has_left(self) -> bool:
        """The supervisor that was known alive last ended in good order."""
        sql = "SELECT 1 FROM alive l, alive s WHERE l.who = 'left' AND s.who = 'supervisor' AND l.at >= s.at"
        return bool(self._file.select(sql))


def _by_entry(found: Sequence[tuple[Any, ...]]) -> dict[int, tuple[Action, ...]]:
    acts: dict[int, tuple[Action, ...]] = {}
    for entry, body in found:
        action = _read(body, ACTIONS)
        if action is not None:
            acts[entry] = (*acts.get(entry, ()), action)
    return acts


def _read(body: str, classes: dict[str, type]) -> Any:
    """The value, or None when this code does not know its class or one of its enum members."""
    try:
        return wire.loads(body, classes)
    except (KeyError, ValueError):
        return None


def _event(body: str) -> Event | None:
    event: Event | None = _read(body, EVENTS)
    return event


def _entry(row: Sequence[Any], acts: tuple[Action, ...]) -> Entry | None:
    entry, body, phase, reason, opened, closed = row
    try:
        return Entry(
            id=entry,
            event=wire.loads(body, EVENTS),
            phase=Phase(phase),
            reason=reason,
            actions=acts,
            opened=tuple(wire.decode(o, OPENED) for o in json.loads(opened)) if opened != "[]" else (),
            closed=tuple(json.loads(closed)) if closed != "[]" else (),
        )
    except (KeyError, ValueError):  # of a newer version: a kind of event, of incident, or a phase
        return None


def _to_columns(run: str, row: StepReported) -> tuple[Any, ...]:
    loss, grad_norm, lr, tokens, step_s = (_to_column(getattr(row, name)) for name in _VALUES)
    where = (run, row.world, row.step, row.at, row.node, row.rank)
    return (*where, loss, grad_norm, lr, tokens, row.data_index, step_s)


def _to_column(value: float | None) -> float | str | None:
    return "nan" if value is not None and math.isnan(value) else value


def _from_columns(row: tuple[Any, ...]) -> StepReported:
    world, step, at, node, rank, loss, grad_norm, lr, tokens, data_index, step_s = row
    values = zip(_VALUES, (loss, grad_norm, lr, tokens, step_s), strict=True)
    named = {name: None if value is None else float(value) for name, value in values}
    return StepReported(at=at, node=node, world=world, rank=rank, step=step, data_index=data_index, **named)

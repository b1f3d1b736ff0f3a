"""What survives a crash of the supervisor? A journal in memory with the promises of the real one, through real JSON.

It stands where `orchestrator.journal.Journal` does, minus SQLite (which has tests of its own).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple

from monitors import wire
from monitors.signals import StepReported
from orchestrator.core import actions, events
from orchestrator.core.state import Decision, State

EVENTS = wire.by_name(*events.Event.__args__)
ACTIONS = wire.by_name(*actions.Action.__args__)
STATES = wire.by_name(State)
ROWS_KEPT = 200

Decide = Callable[[State | None, events.Event], Decision]


class Crashed(Exception):
    """The supervisor's process is gone, in the middle of whatever it did."""


class Entry(NamedTuple):
    """One event and what was decided."""

    event: events.Event
    decision: Decision

    def line(self) -> str:
        """As the journal stores it."""
        acts = ",".join(wire.dumps(action) for action in self.decision.actions)
        return f"{wire.dumps(self.event)} {self.decision.state.phase} {self.decision.reason} [{acts}]"


@dataclass(slots=True)
class MemoryJournal:
    """Entries, actions not yet marked, rows."""

    entries: list[Entry] = field(default_factory=list)
    rows: list[StepReported] = field(default_factory=list)
    recorded: Callable[[State | None, events.Event, Decision], None] | None = None
    """told of every entry that is kept, with the state before it: what a crash takes with it never was"""
    crash_in: int | None = None
    """writes until the supervisor dies at one"""
    _unmarked: dict[tuple[int, int], actions.Action] = field(default_factory=dict)
    _snapshot: str | None = None
    _snapshot_at: int = 0

    def record(
        self,
        run: str,
        event: events.Event,
        decision: Decision,
        *,
        rows: Iterable[StepReported] = (),
        alive_at: float | None = None,  # noqa: ARG002
        snapshot: bool = False,  # noqa: ARG002
        submission: object = None,  # noqa: ARG002
    ) -> int:
        """Write an event, its decision and the steps heard before, all or nothing."""
        self._maybe_crash()
        entry = len(self.entries)
        before = self.entries[-1].decision.state if self.entries else None
        self.entries.append(Entry(event, decision))
        if self.recorded is not None:
            self.recorded(before, event, decision)
        self.add_rows(run, rows)
        if decision.actions:
            self._unmarked |= {(entry, position): action for position, action in enumerate(decision.actions)}
        self._maybe_crash()
        return entry

    def mark(self, entry: int, position: int, at: float) -> None:  # noqa: ARG002
        """The action was performed."""
        self._maybe_crash()
        self._unmarked.pop((entry, position), None)

    def unmarked(self, run: str) -> list[tuple[int, int, actions.Action]]:  # noqa: ARG002
        """Actions decided on and not known to be performed, oldest first."""
        unmarked = sorted(self._unmarked.items(), key=itemgetter(0))
        return [(entry, n, wire.loads(wire.dumps(action), ACTIONS)) for (entry, n), action in unmarked]

    def add_rows(self, run: str, rows: Iterable[StepReported]) -> None:  # noqa: ARG002
        """Keep the newest steps of the line that counts: what is trained again takes the place of what it undoes."""
        for row in rows:
            while self.rows and self.rows[-1].step >= row.step:
                self.rows.pop()
            self.rows.append(row)
        del self.rows[:-ROWS_KEPT]

    def load(self, decide: Decide) -> State | None:
        """The state, from the last snapshot and what was decided since, all of it through JSON.

        Raises AssertionError when that is not the state that was decided on.
        """
        state = None if self._snapshot is None else wire.loads(self._snapshot, STATES)
        for entry in self.entries[self._snapshot_at :]:
            state = decide(state, wire.loads(wire.dumps(entry.event), EVENTS)).state
        lived = self.entries[-1].decision.state if self.entries else None
        assert state == lived, f"6: the journal replays to {_difference(state, lived)}"
        if state is not None:
            self._snapshot, self._snapshot_at = wire.dumps(state), len(self.entries)
        return state

    def lines(self) -> str:
        """The whole journal as text."""
        return "\n".join(entry.line() for entry in self.entries)

    def _maybe_crash(self) -> None:
        if self.crash_in is None:
            return
        if self.crash_in == 0:
            self.crash_in = None
            raise Crashed
        self.crash_in -= 1


def _difference(one: Any, other: Any) -> str:
    if one is None or other is None:
        return f"{one} instead of {other}"
    names = [name for name in type(one).__dataclass_fields__ if getattr(one, name) != getattr(other, name)]
    return ", ".join(f"{name}: {getattr(one, name)!r} instead of {getattr(other, name)!r}" for name in names)

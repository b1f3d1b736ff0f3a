"""Where does every run stand now? A row for each, kept up by the journal's newest entries.

Progress changes a number; anything that was decided has its run read again, once for all that was decided since.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from orchestrator import contract
from orchestrator.api import attention
from orchestrator.core import events as e
from orchestrator.core.policy import Rung
from orchestrator.core.state import CheckpointState, State
from orchestrator.home import Home
from orchestrator.journal import Entry, Journal, Submission

CHECKPOINTS = (
    e.CheckpointCommitted,
    e.CheckpointVerified,
    e.CheckpointRefused,
    e.CheckpointDeleted,
    e.CheckpointPinned,
)
SAID = (e.IncidentAcknowledged, e.IncidentNoted, e.IncidentJudged, e.IncidentResolved)


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What only the desk knows of a run."""

    goodput: float | None = None
    restarts_24h: int = 0
    sparkline: tuple[float, ...] = ()
    acknowledged: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Run:
    submission: Submission
    status: dict[str, Any]
    step: int = 0
    step_at: float | None = None
    world: int = 0
    good_at: float | None = None
    incidents: tuple[tuple[str, str, str], ...] = ()
    books: Books = field(default_factory=Books)
    stale: bool = True
    """something was decided since it was read"""
    row: dict[str, Any] = field(default_factory=dict)


class Board:
    """All runs of one state folder."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._runs: dict[str, _Run] = {}
        self.moved: set[str] = set()
        """runs that only went on since they were told"""
        self.parts: dict[str, set[str]] = {}
        """run to what was decided about since it was told"""
        self.alive = False
        self.seen_at: float | None = None

    @property
    def runs(self) -> tuple[str, ...]:
        """Ids, oldest first."""
        return tuple(self._runs)

    def knows(self, run: str) -> bool:
        """Whether there is such a run."""
        return run in self._runs

    def place(self, run: str) -> list[Any]:
        """`[run, step, step_at, world]`."""
        known = self._runs[run]
        return [run, known.step, known.step_at, known.world]

    def load(self, journal: Journal) -> None:
        """Runs that are new."""
        for submission in journal.runs():
            if submission.run not in self._runs:
                self._runs[submission.run] = _Run(submission=submission, status={})
                self.parts.setdefault(submission.run, {"summary"})

    def take(self, run: str, entry: Entry | None) -> None:
        """An entry that is new; None: of a newer lastgood."""
        known = self._runs.get(run)
        if known is None:
            return
        if entry is None or _is_decided(entry):
            known.stale = True
            self.parts.setdefault(run, set()).update(_parts(entry))
        if entry is not None and isinstance(entry.event, e.Progressed):
            known.step, known.step_at, known.world = entry.event.step, entry.event.at, entry.event.world
            if run not in self.parts:
                self.moved.add(run)

    def heard(self, journal: Journal, now: float) -> bool:
        """Look at the supervisor's heartbeat; whether it came or went."""
        self.seen_at = journal.last_heartbeat()
        alive = self.seen_at is not None and now - self.seen_at < contract.ALIVE_S
        changed, self.alive = alive != self.alive, alive
        return changed

    def learn(self, run: str, books: Books) -> bool:
        """What the desk found out; whether that is new."""
        known = self._runs[run]
        changed = known.books != books
        known.books = books
        return changed

    def read(self, run: str, journal: Journal, now: float) -> None:
        """Read where a run stands."""
        known = self._runs[run]
        state = journal.state(run)
        known.status = contract.described(self._home.root, journal, known.submission, state, now)
        known.stale = False
        known.incidents = _open(state)
        saves = state.checkpoints if state else ()
        known.good_at = max((save.saved_at for save in saves if save.state is CheckpointState.GOOD), default=None)
        if known.step_at is None:
            newest = journal.newest(run, e.Progressed)
            known.step_at = newest.at if newest is not None else None
        known.step, known.world = known.status["step"], known.status["world"]

    def row(self, run: str, journal: Journal, now: float) -> dict[str, Any]:
        """The row of a run, read first where it must be."""
        known = self._runs[run]
        if known.stale:
            self.read(run, journal, now)
        known.row = self._row(known, now)
        return known.row

    def turned(self, now: float) -> list[str]:
        """Runs whose reasons for attention are not those of their row any more, by the clock alone."""
        return [
            run
            for run, known in self._runs.items()
            if known.row and not known.stale and self._reasons(known, now) != known.row["attention"]
        ]

    def rows(self, journal: Journal, now: float) -> list[Any]:
        """Every row, in the order of the home page."""
        return attention.order([self.row(run, journal, now) for run in self._runs])

    def speed(self, runs: Iterable[str], journal: Journal) -> None:
        """Loss and speed of runs that went on: these come with no entry."""
        for run in runs:
            known = self._runs[run]
            if known.status:
                known.status |= contract.speed(journal, run, known.world)

    def _reasons(self, known: _Run, now: float) -> list[dict[str, Any]]:
        facts = attention.Facts(
            step_at=known.step_at,
            good_at=known.good_at,
            incidents=known.incidents,
            acknowledged=known.books.acknowledged,
            budgets=tuple((use["what"], 1.0 - use["share"]) for use in known.status.get("budget", ())),
        )
        return attention.reasons(known.status | {"supervisor": {"alive": self.alive}}, facts, now)

    def _row(self, known: _Run, now: float) -> dict[str, Any]:
        status = {name: part for name, part in known.status.items() if name not in ("nodes", "supervisor")}
        nodes = known.status["nodes"]
        return status | {
            "step": max(known.step, 0),
            "sentence": f"{status['state']}, {' '.join(str(status['reason']).split())}",
            "attention": self._reasons(known, now),
            "step_at": known.step_at,
            "steps": status.get("target_step"),
            "eta": _eta(status.get("forecast")),
            "goodput": known.books.goodput,
            "restarts_24h": known.books.restarts_24h,
            "last_good_at": known.good_at,
            "hosts": sum(1 for node in nodes if node["joined_at"] is not None and node["gone_at"] is None),
            "nodes": len(nodes),
            "tracker": None,
            "sparkline": list(known.books.sparkline),
        }


def _eta(forecast: dict[str, Any] | None) -> float | None:
    """When half of the courses that the run may take are over."""
    return None if forecast is None else float(forecast["finish"]["p50"])


def _is_decided(entry: Entry) -> bool:
    """It changed more than a number of steps."""
    dull = isinstance(entry.event, e.Progressed | e.TimePassed)
    return not dull or bool(entry.reason or entry.opened or entry.closed or entry.actions)


def _parts(entry: Entry | None) -> set[str]:
    """What of a run's pages an entry changes."""
    if entry is None or entry.opened or entry.closed or isinstance(entry.event, SAID):
        return {"summary", "timeline", "incidents", "checkpoints"}
    if isinstance(entry.event, CHECKPOINTS):
        return {"summary", "checkpoints"}
    return {"summary", "timeline", "checkpoints"}


def _open(state: State | None) -> tuple[tuple[str, str, str], ...]:
    if state is None:
        return ()
    return tuple(
        (opened.id, opened.incident.kind.value, state.policy.responses[opened.incident.kind].severity.value)
        for opened in state.open
        if opened.rung is not Rung.OBSERVE
    )

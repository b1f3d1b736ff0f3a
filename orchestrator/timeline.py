"""Which attempts, worlds and incidents did a run have, and when did each begin, turn and end?

One walk over the journal, event by event; the story, the ledger and the JSON contract read what it leaves behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from monitors.incidents import Incident
from orchestrator import provoked, remarks
from orchestrator.core import events as e
from orchestrator.core.actions import Action, Alert, Launch, StartWorld
from orchestrator.core.policy import Rung
from orchestrator.core.state import Opened
from orchestrator.journal import Entry
from orchestrator.remarks import NOTHING_SAID, Remarks


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One submission to the scheduler. Times are None until they happened."""

    number: int
    ordered_at: float
    launched_at: float | None = None
    handle: str | None = None
    ended_at: float | None = None
    why: str | None = None
    """it ended, or could not be launched"""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One set of ranks training together. Times are None until they happened."""

    number: int
    attempt: int
    ordered_at: float
    skips: tuple[tuple[int, int], ...] = ()
    entered_at: float | None = None
    """None for ever when the script does not use the SDK"""
    restored_at: float | None = None
    checkpoint: str | None = None
    """restored; None: fresh, or by the script's own means"""
    from_step: int | None = None
    """the step whose state it began with; None: not known"""
    copied_in: int | None = None
    """the world that left the copies in memory which it took; None: it took none"""
    from_peer: int = 0
    """ranks whose copies were brought from another node"""
    first_step_at: float | None = None
    step: int | None = None
    """last step that every rank is known to have finished; None before the first"""
    ended_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One incident, from its onset to the run being past it. Times are None until they happened."""

    id: str
    incident: Incident
    rung: Rung
    decided_at: float
    drill: str | None = None
    """the drill that provoked it; None: nobody asked for it"""
    actions: tuple[tuple[float, Action], ...] = ()
    """(when, what) was ordered from the decision to the first step after it; what was ordered again is in it once"""
    stopped_at: float | None = None
    """the world it struck, or its attempt, was gone"""
    world: int | None = None
    """newest world started because of it"""
    over_at: float | None = None
    """the first step after it"""
    resolved_at: float | None = None
    """the run passed its best step before the fault again"""
    steps_lost: int = 0
    """finished before, and to be trained again"""
    remarks: Remarks = NOTHING_SAID
    """what people said about it"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What a run went through, each in order of its beginning."""

    attempts: tuple[Attempt, ...]
    worlds: dict[int, World]
    cases: tuple[Case, ...]
    steps_lost: int
    """by every rewind, those a person asked for included"""


def walk(entries: Iterable[Entry]) -> Timeline:
    """The timeline of one run from its entries, oldest first. Total: any order of events gives one."""
    course = Course()
    for entry in entries:
        course.see(entry)
    return course.timeline()


class Course:
    """The walk, standing somewhere in the journal."""

    def __init__(self) -> None:
        self.attempts: dict[int, Attempt] = {}
        self.worlds: dict[int, World] = {}
        self.cases: dict[str, Case] = {}
        self.steps_lost = 0
        self._world = 0
        self._top = 0
        """furthest step on the present line of training"""
        self._recovering: list[str] = []
        """cases whose first step has not come yet, oldest first"""
        self.drills: list[e.DrillRequested | e.DrillDone] = []

    def timeline(self) -> Timeline:
        """What the run went through until now."""
        return Timeline(
            attempts=tuple(self.attempts.values()),
            worlds=dict(self.worlds),
            cases=_explained(self),
            steps_lost=self.steps_lost,
        )

    def see(self, entry: Entry) -> None:
        """The next entry."""
        self._happened(entry.event)
        for opened in entry.opened:
            self._open(opened, entry.event.at)
        for action in entry.actions:
            self._order(action, entry.event.at)
        for case in entry.closed:
            self._amend(case, resolved_at=entry.event.at)
        self._said(entry)
        self._recovering = [case for case in self._recovering if case not in entry.closed]

    def _said(self, entry: Entry) -> None:
        """What people said; that something is over counts where it was for them to say."""
        match entry.event:
            case e.IncidentResolved(incident=id_) if id_ not in entry.closed:
                pass
            case e.IncidentAcknowledged() | e.IncidentResolved() | e.IncidentNoted() | e.IncidentJudged() as said:
                if (case := self.cases.get(said.incident)) is not None:
                    self._amend(said.incident, remarks=remarks.after(case.remarks, said))
            case _:
                pass

    def _happened(self, event: e.Event) -> None:
        match event:
            case e.Launched():
                self._attempt(event.attempt, launched_at=event.at, handle=event.handle)
            case e.LaunchFailed():
                self._attempt(event.attempt, why=event.why)
            case e.AttemptEnded():
                self._attempt(event.attempt, ended_at=event.at, why=event.why or None)
                self._stopped(event.at)
            case e.NodeStopped():
                self._seen(event.world, ended_at=event.at)
                self._stopped(event.at)
            case e.WorldEntered():
                self._seen(event.world, entered_at=event.at)
            case e.WorldRestored():
                self._restored(event)
            case e.Progressed():
                self._progressed(event)
            case e.DrillRequested() | e.DrillDone():
                self.drills.append(event)
            case _:
                pass

    def _attempt(self, number: int, **changes: Any) -> None:
        if number in self.attempts:
            self.attempts[number] = replace(self.attempts[number], **changes)

    def _seen(self, number: int, **changes: Any) -> None:
        if number in self.worlds:
            self.worlds[number] = replace(self.worlds[number], **changes)

    def _amend(self, case: str, **changes: Any) -> None:
        if case in self.cases:
            self.cases[case] = replace(self.cases[case], **changes)

    def _stopped(self, at: float) -> None:
        for case in self._recovering:
            if self.cases[case].world is None:
                self._amend(case, stopped_at=at)

    def _restored(self, event: e.WorldRestored) -> None:
        if event.world != self._world:
            return
        self._seen(
            event.world,
            restored_at=event.at,
            checkpoint=event.checkpoint,
            from_step=event.step,
            copied_in=event.copied_in,
            from_peer=event.from_peer,
        )
        self._rolled_back(event.step)

    def _rolled_back(self, step: int) -> None:
        lost = max(0, self._top - step)
        self.steps_lost += lost
        self._top = step
        if self._recovering:
            first = self._recovering[0]
            self._amend(first, steps_lost=self.cases[first].steps_lost + lost)

    def _progressed(self, event: e.Progressed) -> None:
        world = self.worlds.get(event.world)
        if world is None or event.world != self._world:
            return
        if world.first_step_at is None:
            if world.restored_at is None:  # it resumed by its own means: its first step says where
                self._rolled_back(max(0, event.step - 1))
            self._first_step(event)
        self._top = max(self._top, event.step)
        self._seen(event.world, step=max(event.step, world.step or 0))

    def _first_step(self, event: e.Progressed) -> None:
        self._seen(event.world, first_step_at=event.at)
        over = [case for case in self._recovering if self.cases[case].world == event.world]
        for case in over:
            self._amend(case, over_at=event.at)
        self._recovering = [case for case in self._recovering if case not in over]

    def _open(self, opened: Opened, at: float) -> None:
        incident = opened.incident
        if incident.world == self._world:
            # Progress is heard about once a second; the incident knows the last step better.
            self._top = max(self._top, incident.step)
        if opened.id in self.cases:
            # The same one, better understood: when something was first decided about it stays.
            self._amend(opened.id, incident=incident, rung=opened.rung)
            return
        # An incident that is understood better keeps its name, and what was done about it so far.
        known = self.cases.get(opened.id, Case(id=opened.id, incident=incident, rung=opened.rung, decided_at=at))
        self.cases[opened.id] = replace(known, incident=incident, rung=opened.rung)
        if opened.rung is not Rung.OBSERVE and opened.id not in self._recovering:
            self._recovering.append(opened.id)

    def _order(self, action: Action, at: float) -> None:
        match action:
            case Launch():
                self.attempts.setdefault(action.attempt, Attempt(number=action.attempt, ordered_at=at))
            case StartWorld():
                self._start(action, at)
            case _:
                pass
        for case in self._recovering:
            known = self.cases[case].actions
            if isinstance(action, Alert) or all(action != before for _, before in known):
                self._amend(case, actions=(*known, (at, action)))

    def _start(self, order: StartWorld, at: float) -> None:
        if order.world in self.worlds:  # ordered again: nobody answered the first time
            return
        self._world = order.world
        self.worlds[order.world] = World(number=order.world, attempt=order.attempt, ordered_at=at, skips=order.skips)
        for case in self._recovering:
            self._amend(case, world=order.world)


def _explained(course: Course) -> tuple[Case, ...]:
    """The cases, each with the drill that provoked it: what a drill does may be heard of before the drill is."""
    cases = tuple(course.cases.values())
    drills = provoked.by(course.drills, [case.incident for case in cases])
    return tuple(replace(case, drill=drill) for case, drill in zip(cases, drills, strict=True))

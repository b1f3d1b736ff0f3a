"""What is wrong with a run, as far as somebody should know? The journal's entries, added up into troubles.

A trouble is an incident, or what has none: a run that is held for another reason, a budget that is nearly spent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from monitors.incidents import Incident, Kind
from orchestrator.alerts.rules import Guide
from orchestrator.core import events as e
from orchestrator.core.actions import Alert, StartWorld
from orchestrator.core.policy import Rung, Severity
from orchestrator.core.state import Opened, Phase, State

HELD = frozenset({Phase.HOLDING, Phase.HELD})
GONE = frozenset({Phase.SUCCEEDED, Phase.STOPPED})
GOES = frozenset({Phase.LAUNCHING, Phase.STARTING, Phase.TRAINING})
INCIDENTS = frozenset(kind.value for kind in Kind)
NOTED = frozenset({"run_started", "run_succeeded", "run_stopped"})
"""what is no trouble, for who asked to be told of it"""
DONE_MOST = 8
NOTES_MOST = 4
STRIKES_MOST = 300
"""more than the largest budget has"""
DRILL_S = 120.0
"""what goes wrong so soon after a drill was asked for is probably what was asked for"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One thing that is wrong, or was."""

    id: str
    """of the incident; `WORD-N` for what is none"""
    kind: str
    severity: Severity
    """as its runbook says"""
    since: float
    told_at: float
    """when it was concluded"""
    paged: bool = False
    """the policy wants a person"""
    answered: bool = False
    """the world was ended for it; False: it is only watched"""
    momentary: bool = False
    """nothing will say that it is over"""
    node: int | None = None
    rank: int | None = None
    device: str | None = None
    attempt: int = 0
    world: int = 0
    step: int = 0
    text: str = ""
    """one sentence: why the run is where it is"""
    evidence: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    """what lastgood did, oldest first"""
    drill: str = ""
    trains_at: float | None = None
    """the first step after it"""
    steps_lost: int = 0
    over_at: float | None = None
    acknowledged_by: str = ""
    notes: tuple[str, ...] = ()
    """what people wrote about it"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One run, as far as alerts must know it. `run` is empty for lastgood itself."""

    run: str
    ranks: int = 1
    phase: Phase = Phase.LAUNCHING
    attempt: int = 0
    world: int = 0
    top: int = 0
    """furthest step on the present line of training"""
    step_s: float = 0.0
    hosts: dict[int, str] = field(default_factory=dict)
    strikes: tuple[tuple[str, float], ...] = ()
    """(kind, when) of incidents that the world was ended for"""
    drill: tuple[str, float] = ("", 0.0)
    """newest one asked for"""
    troubles: dict[str, Trouble] = field(default_factory=dict)
    count: int = 0
    """of what is no incident, to number it"""

    def found(self, word: str) -> Trouble | None:
        """The open trouble of a kind that is no incident."""
        return next((t for t in self.troubles.values() if t.kind == word and t.over_at is None), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """An entry of the journal."""

    at: float
    run: str
    event: e.Event
    phase: Phase
    reason: str = ""
    alerts: tuple[Alert, ...] = ()
    started: tuple[StartWorld, ...] = ()
    done: tuple[str, ...] = ()
    """orders, in the past tense"""
    opened: tuple[Opened, ...] = ()
    closed: tuple[str, ...] = ()
    guides: Mapping[str, Guide] = field(default_factory=dict)
    """of the kinds that it opened"""


def adopted(state: State, hosts: Mapping[int, str]) -> Course:
    """The course of a run that was under way before alerts were asked for; `guides` come with the desk's rules."""
    course = Course(
        run=state.run,
        ranks=state.plan.nodes * state.plan.ranks_per_node,
        phase=state.phase,
        attempt=state.attempt,
        world=state.world,
        top=state.best_step,
        step_s=state.step_s or 0.0,
        hosts=dict(hosts),
        strikes=tuple((strike.kind.value, strike.at) for strike in state.strikes),
    )
    for opened in state.open if state.phase is not Phase.PAUSED else ():
        trouble = _of_incident(course, opened, state.reason, state.policy.responses[opened.incident.kind].severity)
        cause = state.phase in HELD and (opened.rung is Rung.HOLD or opened.incident.kind is state.hold_kind)
        course = _put(course, replace(trouble, paged=cause))
    if state.phase in HELD and not any(t.paged for t in course.troubles.values()):
        course = arisen(course, "held", state.since, Severity.CRITICAL, state.reason, paged=True)
    return course


def heard(course: Course, entry: Heard) -> Course:
    """The course after one more entry."""
    before = course.phase
    course = _happened(replace(course, phase=entry.phase), entry)
    for opened in entry.opened:
        course = _opened(course, opened, entry)
    for order in entry.started:
        course = replace(course, world=max(course.world, order.world), attempt=max(course.attempt, order.attempt))
    course = _did(course, entry)
    for alert in entry.alerts:
        course = _alerted(course, alert, entry)
    for id_ in entry.closed:
        course = _closed(course, id_, entry)
    return _left(course, before, entry)


def arisen(
    course: Course, word: str, at: float, severity: Severity, text: str, *, paged: bool = False, momentary: bool = False
) -> Course:
    """Something that is no incident began, or is still so: one at a time of each kind."""
    known = course.found(word)
    if known is not None:
        return _put(course, replace(known, text=text, paged=known.paged or paged))
    trouble = Trouble(
        id=f"{word}-{course.count + 1}",
        kind=word,
        severity=severity,
        since=at,
        told_at=at,
        paged=paged,
        momentary=momentary,
        attempt=course.attempt,
        world=course.world,
        step=course.top,
        text=text,
        over_at=at if momentary else None,
    )
    return _put(replace(course, count=course.count + 1), trouble)


def over(course: Course, word: str, at: float) -> Course:
    """What is no incident has ended, if it ever began."""
    known = course.found(word)
    return course if known is None else _put(course, replace(known, over_at=at))


def _put(course: Course, trouble: Trouble) -> Course:
    return replace(course, troubles={**course.troubles, trouble.id: trouble})


def _open(course: Course) -> Iterator[Trouble]:
    return (trouble for trouble in course.troubles.values() if trouble.over_at is None)


def _happened(course: Course, entry: Heard) -> Course:
    match entry.event:
        case e.RunSubmitted(plan=plan):
            course = replace(course, ranks=plan.nodes * plan.ranks_per_node)
            return arisen(course, "run_started", entry.at, Severity.INFO, "submitted", momentary=True)
        case e.AgentJoined(node=node, host=host) if course.hosts.get(node) != host:
            return replace(course, hosts={**course.hosts, node: host})
        case e.DrillRequested(drill=drill):
            return replace(course, drill=(drill, entry.at))
        case e.WorldRestored(world=world, step=step) if world == course.world:
            return _restored(course, step)
        case e.Progressed(world=world) if world == course.world:
            return _progressed(course, entry)
        case _:
            return _said(course, entry)


def _said(course: Course, entry: Heard) -> Course:
    """What a person said about an incident."""
    event = entry.event
    if not isinstance(event, e.IncidentAcknowledged | e.IncidentResolved | e.IncidentNoted):
        return course
    trouble = course.troubles.get(event.incident)
    if trouble is None:
        return course
    if isinstance(event, e.IncidentNoted):
        return _put(course, replace(trouble, notes=(*trouble.notes, f"{event.by}: {event.text}")[-NOTES_MOST:]))
    # What nothing will say the end of is over when somebody knows of it.
    ends = trouble.over_at is None and (trouble.momentary or isinstance(event, e.IncidentResolved))
    return _put(course, replace(trouble, acknowledged_by=event.by, over_at=entry.at if ends else trouble.over_at))


def _restored(course: Course, step: int) -> Course:
    lost = max(0, course.top - step)
    course = replace(course, top=step)
    first = next((t for t in _open(course) if t.answered and t.trains_at is None), None)
    return course if first is None else _put(course, replace(first, steps_lost=first.steps_lost + lost))


def _progressed(course: Course, entry: Heard) -> Course:
    assert isinstance(entry.event, e.Progressed)
    top, step_s = max(course.top, entry.event.step), entry.event.step_s or course.step_s
    course = replace(course, top=top, step_s=step_s)
    if entry.phase is not Phase.TRAINING:
        return course
    for trouble in tuple(_open(course)):
        if trouble.answered and trouble.trains_at is None and trouble.world < entry.event.world:
            course = _put(course, replace(trouble, trains_at=entry.at))
    return over(course, "needs_a_look", entry.at)


def _opened(course: Course, opened: Opened, entry: Heard) -> Course:
    guide = entry.guides.get(opened.incident.kind)
    severity = guide.severity if guide is not None else Severity.ERROR
    trouble = _of_incident(course, opened, entry.reason, severity)
    known = course.troubles.get(opened.id)
    if known is not None:  # the same incident, better understood
        trouble = replace(
            trouble,
            since=min(known.since, trouble.since),
            told_at=known.told_at,
            done=known.done,
            notes=known.notes,
            acknowledged_by=known.acknowledged_by,
        )
    if trouble.answered:
        course = replace(course, strikes=(*course.strikes, (trouble.kind, entry.at))[-STRIKES_MOST:])
    if opened.incident.world == course.world:
        course = replace(course, top=max(course.top, opened.incident.step))
    return _put(course, replace(trouble, momentary=opened.id in entry.closed))


def _of_incident(course: Course, opened: Opened, reason: str, severity: Severity) -> Trouble:
    incident: Incident = opened.incident
    drill, asked_at = course.drill
    return Trouble(
        id=opened.id,
        kind=incident.kind.value,
        severity=severity,
        since=incident.onset,
        told_at=incident.at,
        answered=opened.rung is not Rung.OBSERVE,
        node=incident.subject.node,
        rank=incident.subject.rank,
        device=incident.subject.device,
        attempt=course.attempt,
        world=incident.world,
        step=incident.step,
        text=reason,
        evidence=incident.evidence,
        drill=drill if drill and abs(incident.onset - asked_at) < DRILL_S else "",
    )


def _did(course: Course, entry: Heard) -> Course:
    for trouble in tuple(_open(course)) if entry.done else ():
        if trouble.answered and trouble.trains_at is None:
            new = tuple(text for text in entry.done if text not in trouble.done)
            course = _put(course, replace(trouble, done=(*trouble.done, *new)[-DONE_MOST:]))
    return course


def _alerted(course: Course, alert: Alert, entry: Heard) -> Course:
    """The core wants somebody to know: of an incident, or of what is none."""
    known = course.troubles.get(alert.incident or "")
    if known is not None:
        text = alert.text if entry.phase in HELD else known.text
        return _put(course, replace(known, paged=known.paged or alert.page, text=text))
    word = _word(course, alert)
    if entry.phase in HELD and word not in BUDGETS.values():
        word = "held"
    return arisen(course, word, entry.at, alert.severity, alert.text, paged=alert.page, momentary=not alert.page)


BUDGETS = {
    "is spent, the run is held": "budget_spent",
    "budget is nearly spent": "budget_nearly_spent",
    "budget is blind": "budget_blind",
    "budget is spent to": "budget_used",
}
"""what the core says of a budget of the run, and what that is called here"""


def _word(course: Course, alert: Alert) -> str:
    """`needs_a_look` from the title `RUN needs a look`."""
    for said, word in BUDGETS.items():
        if said in alert.title:
            return word
    rest = alert.title.replace(course.run, " ")
    letters = "".join(letter if letter.isalnum() else " " for letter in rest.lower())
    return "_".join(letters.split())[:40] or "alert"


def _closed(course: Course, id_: str, entry: Heard) -> Course:
    trouble = course.troubles.get(id_)
    if trouble is None or trouble.over_at is not None or (trouble.momentary and trouble.paged):
        return course
    return _put(course, replace(trouble, over_at=entry.at))


def _left(course: Course, before: Phase, entry: Heard) -> Course:
    """What ends with a run that ends, or that a person lets go on."""
    if entry.phase not in HELD:
        course = over(course, "held", entry.at)
    if entry.phase in GOES:
        course = over(course, "budget_spent", entry.at)
    if isinstance(entry.event, e.BudgetChanged):
        course = over(course, "budget_nearly_spent", entry.at)
    if entry.phase is before:
        return course
    if entry.phase is Phase.PAUSED:  # nothing is to be recovered until it goes on
        for trouble in tuple(_open(course)):
            if trouble.answered and not trouble.paged:
                course = _put(course, replace(trouble, over_at=entry.at))
    if entry.phase not in GONE:
        return course
    for trouble in tuple(_open(course)):
        course = _put(course, replace(trouble, over_at=entry.at))
    word = "run_succeeded" if entry.phase is Phase.SUCCEEDED else "run_stopped"
    return arisen(course, word, entry.at, Severity.INFO, entry.reason or word.replace("_", " "), momentary=True)


def lost_gpu_s(course: Course, trouble: Trouble, now: float) -> float:
    """GPU-seconds that a trouble cost so far, one GPU a rank: standing still, and training again what was lost."""
    if not trouble.answered:
        return 0.0
    until = trouble.trains_at or trouble.over_at or now
    return course.ranks * (max(0.0, until - trouble.since) + trouble.steps_lost * course.step_s)


def is_incident(trouble: Trouble) -> bool:
    """Whether it has a runbook, and a page of its own."""
    return trouble.kind in INCIDENTS

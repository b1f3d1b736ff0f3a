"""What is told, to whom, and when? `decide(state, event, rules) -> (state, messages)`: pure, time only inside events.

Entries of the journal only change what is known; messages come of looking at it: whatever a channel should have been
told by now and was not. So what was missed (a night of quiet hours, an alerting process that was down) is told late,
and nothing twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from orchestrator.alerts import course as courses
from orchestrator.alerts import wording
from orchestrator.alerts.course import Course, Heard, Trouble
from orchestrator.alerts.message import RANK, Act, Message
from orchestrator.alerts.rules import NODE_DOWN, ON_A_NODE, Route, Rules, matches
from orchestrator.alerts.surroundings import Looked, budgets, observed, with_course
from orchestrator.alerts.threads import State, Thread, Told, guide, is_over, joined, members, severity
from orchestrator.core.policy import Severity
from orchestrator.core.state import Phase
from orchestrator.core.state import State as RunState

DIGEST_MOST = 1000
"""lines; a machine that does nothing but recover fills no memory"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """A run was under way before anybody asked for alerts."""

    at: float
    state: RunState
    hosts: Mapping[int, str] = field(default_factory=dict)


Event = Adopted | Heard | Looked
Decision = tuple[State, tuple[Message, ...]]


def decide(state: State, event: Event, rules: Rules) -> Decision:
    """The state after an event, and what is to be told because of it."""
    match event:
        case Adopted():
            return joined(with_course(state, courses.adopted(event.state, event.hosts)), event.at, rules), ()
        case Heard():
            return _hear(state, event, rules), ()
        case Looked():
            state = observed(state, event)
            for run in state.courses:
                state = with_course(state, budgets(state, state.courses[run], event.at, rules))
            return _tell(joined(state, event.at, rules), event, rules)


def _hear(state: State, entry: Heard, rules: Rules) -> State:
    if entry.run not in state.courses and entry.phase is Phase.SUCCEEDED:
        return state  # somebody's note about a run that is over and told
    own = {f"{entry.run}/{kind}": said for kind, said in entry.guides.items() if said != rules.guides.get(kind)}
    if any(state.guides.get(key) != said for key, said in own.items()):
        state = replace(state, guides={**state.guides, **own})
    if state.courses.get(entry.run, Course(run="")).troubles:
        state = joined(state, entry.at, rules)  # how bad it was until now, before this entry ends it
    before = state.courses.get(entry.run, Course(run=entry.run))
    after = courses.heard(before, entry)
    state = with_course(state, after)
    return state if after.troubles == before.troubles else joined(state, entry.at, rules)


def view_of(state: State, thread: Thread, at: float, rules: Rules) -> wording.View:
    """A thread as it stands at a time."""
    return wording.View(
        members=tuple(members(state, thread)),
        peak=thread.peak,
        severity=max((severity(t, at, rules) for _, t in members(state, thread)), key=RANK.__getitem__),
        guide=guide(state, rules, thread.run, thread.kind),
        acknowledged_by=_is_acknowledged(state, thread),
        at=at,
        dashboard=rules.dashboard,
    )


def _is_acknowledged(state: State, thread: Thread) -> str:
    """By whom; empty: by nobody, or something of it is newer than that."""
    standing = [trouble for _, trouble in members(state, thread) if trouble.over_at is None]
    names = [trouble.acknowledged_by for trouble in standing]
    return names[-1] if names and all(names) else ""


# Telling


def _tell(state: State, seen: Looked, rules: Rules) -> Decision:
    messages: list[Message] = []
    threads: dict[str, Thread] = {}
    gone: list[Thread] = []
    for key, thread in state.threads.items():
        told, new = _told(state, thread, seen, rules)
        messages += new
        ends = is_over(state, told) and all(last.resolved for last in told.told.values())
        if ends:
            gone.append(told)
        else:
            threads[key] = told
    if threads != state.threads:
        state = replace(state, threads=threads)
    state = _forget(state, gone)
    state, digest = _digest(state, seen, rules)
    return state, (*messages, *digest)


def _told(state: State, thread: Thread, seen: Looked, rules: Rules) -> tuple[Thread, list[Message]]:
    """The thread, told to every channel that should know by now."""
    view = view_of(state, thread, seen.at, rules)
    blocked = _is_blocked(state, thread, seen)
    messages = []
    for channel in dict.fromkeys(route.to for route in rules.routes):
        last = thread.told.get(channel)
        wanted = last is not None or any(_wants(thread, r, view, seen) for r in rules.routes if r.to == channel)
        act = _act(thread, last, view, seen, rules, blocked=blocked) if wanted else None
        if act is None:
            continue
        number = last.number + 1 if last is not None else 1
        messages.append(wording.message(view, thread.key, channel, number, act))
        now = Told(
            number=number,
            at=seen.at,
            severity=view.severity,
            shown=wording.shown(view),
            resolved=act in (Act.RESOLVED, Act.NOTE),
        )
        thread = replace(thread, told={**thread.told, channel: now})
    stale = [name for name in thread.told if all(route.to != name for route in rules.routes)]
    if stale:  # a channel that is no more
        thread = replace(thread, told={name: last for name, last in thread.told.items() if name not in stale})
    return thread, messages


def _wants(thread: Thread, route: Route, view: wording.View, seen: Looked) -> bool:
    if not route.is_for(thread.run, thread.kind) or RANK[thread.peak] < RANK[route.severity]:
        return False
    if thread.kind == f"channel_down:{route.to}":
        return False
    if route.after_s == 0:
        return True
    # The next step of an escalation: it still stands, and nobody said that he knows.
    since = min(at for level, at in thread.risen.items() if RANK[level] >= RANK[route.severity])
    return not view.acknowledged_by and not view.is_over and seen.at - since >= route.after_s


def _act(
    thread: Thread, last: Told | None, view: wording.View, seen: Looked, rules: Rules, *, blocked: bool
) -> Act | None:
    """What has to be said now; None: nothing."""
    pages = view.peak is Severity.CRITICAL
    held_back = blocked or (seen.quiet and not pages)
    if last is None:
        if held_back:
            return None
        if view.is_over:
            return Act.NOTE
        waited = pages or seen.at - thread.opened_at >= rules.wait_s
        return Act.OPENED if waited else None
    if last.resolved:
        return None
    if view.is_over:
        # Whoever was told that it began is told that it is over; only a night's rest puts that off.
        return None if seen.quiet and not pages else Act.RESOLVED
    if held_back:
        return None
    worse = RANK[view.severity] > RANK[last.severity]
    changed = wording.shown(view) != last.shown and (worse or seen.at - last.at >= rules.interval_s)
    again = seen.at - last.at >= rules.repeat_s and not view.acknowledged_by
    return Act.UPDATED if changed or again else None


def _is_blocked(state: State, thread: Thread, seen: Looked) -> bool:
    """A person silenced it, or it is the consequence of a node that is down."""
    for silence in seen.silences:
        if seen.at < silence.until and matches(silence.run, thread.run) and matches(silence.kind, thread.kind):
            return True
    if thread.peak is Severity.CRITICAL:
        return False
    return all(_is_inhibited(course, trouble) for course, trouble in members(state, thread))


def _is_inhibited(course: Course, trouble: Trouble) -> bool:
    """Its node is down; or was until both were over."""
    return trouble.kind in ON_A_NODE and any(
        other.kind in NODE_DOWN and other.node == trouble.node and other.id != trouble.id and not other.momentary
        for other in course.troubles.values()
        if other.node is not None
        and (other.over_at is None or (trouble.over_at is not None and other.over_at >= trouble.told_at))
    )


def _forget(state: State, gone: list[Thread]) -> State:
    """What is over and told to the end is not known any more; what a channel was not told goes into its digest."""
    if not gone:
        return state
    lines = list(state.digest)
    kept = dict(state.courses)
    for thread in gone:
        for run, id_ in thread.members:
            course, trouble = kept[run], kept[run].troubles[id_]
            if trouble.kind not in courses.NOTED:
                lines.append(wording.line(course, trouble, thread.told))
            kept[run] = replace(course, troubles={k: t for k, t in course.troubles.items() if k != id_})
    kept = {run: course for run, course in kept.items() if course.troubles or course.phase is not Phase.SUCCEEDED}
    return replace(state, courses=kept, digest=tuple(lines[-DIGEST_MOST:]))


def _digest(state: State, seen: Looked, rules: Rules) -> Decision:
    if seen.digest == state.digests:
        return state, ()
    first = state.digests == 0
    after = replace(state, digests=seen.digest)
    if first or not state.digest or not rules.digest_to:
        return after, ()
    messages = []
    for channel in rules.digest_to:
        lines = [line for line in state.digest if channel not in line.told]
        if lines:
            messages.append(wording.digest(lines, channel, f"lastgood/{rules.home}/digest-{seen.digest}", seen.at))
    return replace(after, digest=()), tuple(messages)

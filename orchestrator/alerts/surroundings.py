"""What is wrong that no entry of the journal says? The supervisor is silent, a channel down, a budget all but spent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from orchestrator.alerts import course as courses
from orchestrator.alerts.course import Course
from orchestrator.alerts.rules import Rules, Silence
from orchestrator.alerts.threads import State, guide
from orchestrator.core.policy import Severity
from orchestrator.core.state import ENDED, Phase

NEARLY, AT_EASE = 0.8, 0.5
"""shares of a budget of restarts: it is nearly spent, and it is not any more"""
BUDGET = "restarts_nearly_spent"
LEAST = 5
"""strikes of a budget that can be nearly spent: of a smaller one every strike but the last recovers"""
WELL_S = 300.0
"""a supervisor that was alive for so long after it failed is well again"""
SILENT_S = 30.0
"""its agents start it anew within seconds of its death"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """How things stand now, as far as no entry of the journal says it."""

    at: float
    quiet: bool = False
    """it is a time at which only pages are told"""
    digest: int = 0
    """grows by one at every time at which a digest is due"""
    alive_at: float | None = None
    """when the supervisor was last known alive"""
    left: bool = False
    """it ended in good order"""
    failure: tuple[float, str] | None = None
    """when and of what a supervisor failed last, as far as that was written down"""
    unsupervised: Mapping[str, str] = field(default_factory=dict)
    """why nobody decides about a run, by its id"""
    blind: str = ""
    """why the journal cannot be read"""
    down: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    """channels that cannot be reached: since when, and why"""
    silences: tuple[Silence, ...] = ()


def with_course(state: State, course: Course) -> State:
    """The state with this course in the place of the one before."""
    if state.courses.get(course.run) == course:
        return state
    return replace(state, courses={**state.courses, course.run: course})


def observed(state: State, seen: Looked) -> State:
    """The state with what is seen to be wrong now, and without what is not any more."""
    ours = _of_ourselves(state.courses.get("", Course(run="")), state, seen)
    state = with_course(state, ours)
    for run, course in state.courses.items():
        if why := seen.unsupervised.get(run):
            alone = courses.arisen(course, "unsupervised", seen.at, Severity.CRITICAL, why, paged=True)
        else:
            alone = courses.over(course, "unsupervised", seen.at)
        state = with_course(state, alone)
    return state


def _of_ourselves(course: Course, state: State, seen: Looked) -> Course:
    course = _of_supervisor(course, state, seen)
    if seen.blind:
        course = courses.arisen(course, "journal_unreadable", seen.at, Severity.CRITICAL, seen.blind, paged=True)
    else:
        course = courses.over(course, "journal_unreadable", seen.at)
    for channel, (since, why) in seen.down.items():
        text = f"nothing reaches {channel}: {why}; it is kept, and told when it can be"
        course = courses.arisen(course, f"channel_down:{channel}", since, Severity.ERROR, text)
    for trouble in tuple(course.troubles.values()):
        word, _, channel = trouble.kind.partition(":")
        if word == "channel_down" and channel not in seen.down:
            course = courses.over(course, trouble.kind, seen.at)
    return course


def _of_supervisor(course: Course, state: State, seen: Looked) -> Course:
    """It failed, and said so; or it says nothing any more, while a run needs it."""
    if seen.failure is not None and seen.at - seen.failure[0] < WELL_S:
        at, why = seen.failure
        course = courses.arisen(course, "supervisor_failed", at, Severity.CRITICAL, why, paged=True)
    else:
        course = courses.over(course, "supervisor_failed", seen.at)
    needed = any(c.run and c.phase not in ENDED for c in state.courses.values())
    if seen.alive_at is None or seen.left or not needed:
        return courses.over(course, "supervisor_lost", seen.at)
    silent_s = seen.at - seen.alive_at
    if silent_s < SILENT_S:
        return courses.over(course, "supervisor_lost", seen.at)
    text = (
        f"nothing was heard of the supervisor for {silent_s / 60:.0f} min; ranks train on, and nobody brings them back"
    )
    return courses.arisen(course, "supervisor_lost", seen.alive_at, Severity.WARNING, text)


def budgets(state: State, course: Course, at: float, rules: Rules) -> Course:
    """A person should know before a run is held because its restarts are spent."""
    for kind in {kind for kind, _ in course.strikes}:
        said = guide(state, rules, course.run, kind)
        if said is None or said.strikes_max < LEAST:
            continue
        word = f"{BUDGET}:{kind}"
        used = sum(1 for k, when in course.strikes if k == kind and when > at - said.window_s)
        going = course.phase not in ENDED and course.phase is not Phase.HOLDING
        if going and used >= NEARLY * said.strikes_max:
            text = f"{used} of the {said.strikes_max} restarts for {kind} within {said.window_s / 3600:.0f} h are used"
            course = courses.arisen(course, word, at, Severity.CRITICAL, text, paged=True)
        elif not going or used < AT_EASE * said.strikes_max:
            course = courses.over(course, word, at)
    return course

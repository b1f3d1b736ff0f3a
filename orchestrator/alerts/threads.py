"""Which threads are there, how bad is each, and what was each channel told of it? One for a run and a cause."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from orchestrator.alerts.course import Course, Trouble
from orchestrator.alerts.message import RANK
from orchestrator.alerts.rules import Guide, Rules
from orchestrator.alerts.wording import Line
from orchestrator.core.policy import Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a channel was told of a thread last."""

    number: int
    at: float
    severity: Severity
    shown: str
    resolved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """One thing that people are told about, from its beginning to its end."""

    key: str
    kind: str
    run: str
    """of its first trouble"""
    opened_at: float
    members: tuple[tuple[str, str], ...]
    """(run, trouble)"""
    risen: dict[Severity, float] = field(default_factory=dict)
    """when it was first as bad as this"""
    told: dict[str, Told] = field(default_factory=dict)
    """by channel"""

    @property
    def peak(self) -> Severity:
        """The worst that it ever was."""
        return max(self.risen, key=RANK.__getitem__, default=Severity.INFO)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything that alerts remember."""

    courses: dict[str, Course] = field(default_factory=dict)
    """by run; that of lastgood itself is under the empty name"""
    threads: dict[str, Thread] = field(default_factory=dict)
    """that are not over, or not told to the end"""
    guides: dict[str, Guide] = field(default_factory=dict)
    """by `RUN/KIND`, where the run has a runbook of its own"""
    digest: tuple[Line, ...] = ()
    """what is over, for the next one"""
    digests: int = 0
    """as `Looked.digest` was when one was due last"""


def guide(state: State, rules: Rules, run: str, kind: str) -> Guide | None:
    """What the runbook of a kind says to those who look after a run."""
    return state.guides.get(f"{run}/{kind}") or rules.guides.get(kind)


def joined(state: State, at: float, rules: Rules) -> State:
    """Every trouble has its thread, and every thread knows how bad it is."""
    threads = dict(state.threads)
    known = {member for thread in threads.values() for member in thread.members}
    for course in state.courses.values():
        for trouble in course.troubles.values():
            if (course.run, trouble.id) not in known:
                _join(threads, state, course, trouble, rules)
    for key, thread in threads.items():
        worst = max((severity(t, at, rules) for _, t in members(state, thread)), key=RANK.__getitem__)
        if RANK[worst] > RANK[thread.peak] or not thread.risen:
            threads[key] = replace(thread, risen={**thread.risen, worst: at})
    return state if threads == state.threads else replace(state, threads=threads)


def _join(threads: dict[str, Thread], state: State, course: Course, trouble: Trouble, rules: Rules) -> None:
    """One thread for a run and a cause: what comes while it stands is the same again."""
    member = (course.run, trouble.id)
    for key, thread in threads.items():
        same = thread.kind == trouble.kind and (thread.run == course.run or not rules.by_run)
        if same and not trouble.momentary and not is_over(state, thread):
            threads[key] = replace(thread, members=(*thread.members, member))
            return
    key = f"lastgood/{course.run or rules.home}/{trouble.id}/{trouble.kind}"[:255]
    threads[key] = Thread(key=key, kind=trouble.kind, run=course.run, opened_at=trouble.told_at, members=(member,))


def members(state: State, thread: Thread) -> list[tuple[Course, Trouble]]:
    """The troubles of a thread, each with its run."""
    return [(state.courses[run], state.courses[run].troubles[id_]) for run, id_ in thread.members]


def is_over(state: State, thread: Thread) -> bool:
    """Nothing of it stands any more."""
    return all(trouble.over_at is not None for _, trouble in members(state, thread))


def severity(trouble: Trouble, at: float, rules: Rules) -> Severity:
    """How bad it is at a time: what recovers by itself wakes nobody, what does not gets worse by standing."""
    if trouble.paged:
        return Severity.CRITICAL
    if trouble.kind == "supervisor_lost":
        return Severity.CRITICAL if at - trouble.since >= rules.lost_s else Severity.WARNING
    stood_s = (trouble.over_at or trouble.trains_at or at) - trouble.told_at
    if trouble.momentary:
        return min(trouble.severity, Severity.WARNING, key=RANK.__getitem__)
    if not trouble.answered:
        late = Severity.ERROR if stood_s >= rules.error_s else Severity.INFO
        return max(trouble.severity, late, key=RANK.__getitem__)
    if stood_s >= rules.page_s:
        return Severity.CRITICAL
    return Severity.ERROR if stood_s >= rules.error_s else Severity.WARNING


def standing(state: State) -> Iterator[Thread]:
    """The threads that are not over."""
    return (thread for thread in state.threads.values() if not is_over(state, thread))

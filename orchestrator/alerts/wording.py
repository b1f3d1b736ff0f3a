"""In which words is somebody told? What, where, since when, what it cost, what lastgood did, what you should do.

What a run, a log or a person wrote passes through `inert`: of a length that services take, and without what moves a
terminal's cursor or turns the direction of writing. The sinks escape what their service reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.alerts.course import Course, Trouble, is_incident, lost_gpu_s
from orchestrator.alerts.message import Act, Message
from orchestrator.alerts.rules import Guide
from orchestrator.core.policy import Severity

TITLE_MOST, TEXT_MOST, ADVICE_MOST = 200, 600, 1200
LINES_MOST = 40
"""of a digest; what is more is counted"""

HEADINGS = {
    "held": "The run is held",
    "needs_a_look": "The run needs a look",
    "unsupervised": "Nobody decides about the run",
    "restarts_nearly_spent": "The restarts are nearly spent",
    "budget_spent": "A budget is spent, and the run is held",
    "budget_nearly_spent": "A budget is nearly spent",
    "budget_used": "A part of a budget is spent",
    "budget_blind": "A budget cannot be watched",
    "supervisor_lost": "The supervisor is silent",
    "supervisor_failed": "The supervisor failed",
    "journal_unreadable": "The journal cannot be read",
    "channel_down": "Alerts do not arrive",
    "run_started": "Submitted",
    "run_succeeded": "Complete",
    "run_stopped": "Stopped",
}
ADVICE = {
    "held": "`lastgood status RUN` says why; then `lastgood resume RUN`, or `lastgood stop RUN`.",
    "needs_a_look": "`lastgood status RUN`: does the step number grow? If not: `lastgood logs RUN`.",
    "unsupervised": "Read supervisor.log, then `lastgood resume RUN`. Its ranks train on meanwhile.",
    "restarts_nearly_spent": "Find what keeps failing before the run is held: `lastgood incident ls RUN`.",
    "budget_spent": "What it has is saved. `lastgood status RUN` says how to give it more.",
    "budget_nearly_spent": "At 100 % the run saves and is held. `lastgood budget RUN` shows and changes it.",
    "supervisor_lost": "On its host: `lastgood doctor`, then `lastgood serve -d`. A second one is impossible.",
    "supervisor_failed": "Read supervisor.log: what failed is its last traceback. `lastgood serve -d` starts it.",
    "journal_unreadable": "`lastgood doctor`: is the disk full, or dying?",
    "channel_down": "`lastgood alerts test` sends to each channel, and says what it answered.",
}
COMMANDS = {
    True: "lastgood incident show RUN ID; lastgood logs RUN --rank culprit; lastgood story RUN",
    False: "lastgood status RUN; lastgood story RUN",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A thread as it stands."""

    members: tuple[tuple[Course, Trouble], ...]
    peak: Severity
    severity: Severity
    guide: Guide | None
    acknowledged_by: str
    at: float
    dashboard: str = ""

    @property
    def newest(self) -> tuple[Course, Trouble]:
        """What is told of first."""
        standing = [member for member in self.members if member[1].over_at is None]
        return (standing or self.members)[-1]

    @property
    def is_over(self) -> bool:
        """Nothing of it stands."""
        return all(trouble.over_at is not None for _, trouble in self.members)

    @property
    def condition(self) -> str:
        """How it stands, in a few words."""
        _, trouble = self.newest
        if self.is_over:
            return "over"
        if trouble.paged and is_incident(trouble) and trouble.trains_at is None and trouble.answered:
            return "the run is held"
        if trouble.answered:
            return "recovering" if trouble.trains_at is None else "the run trains again"
        return "it stands"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing of a digest."""

    at: float
    run: str
    kind: str
    took_s: float
    steps_lost: int
    gpu_h: float
    told: tuple[str, ...] = ()
    """channels that were told at once"""


def inert(text: str, most: int = TEXT_MOST) -> str:
    """The text without anything that is not meant to be read, cut to a length."""
    text = "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text[: 4 * most])
    text = re.sub(r"[ ]+", " ", text).strip()
    return text if len(text) <= most else text[: most - 1] + "…"


def shown(view: View) -> str:
    """Differs when there is something new to tell."""
    _, trouble = view.newest
    parts = (view.severity, view.condition, trouble.kind, len(view.members), view.acknowledged_by, len(trouble.notes))
    return "|".join(map(str, parts))


def message(view: View, thread: str, channel: str, number: int, act: Act) -> Message:
    """What a channel is told of a thread now."""
    course, trouble = view.newest
    return Message(
        channel=channel,
        thread=thread,
        number=number,
        act=act,
        at=view.at,
        severity=view.peak if act in (Act.RESOLVED, Act.NOTE) else view.severity,
        title=_title(view),
        run=course.run,
        kind=trouble.kind.partition(":")[0],
        incident=trouble.id if is_incident(trouble) else "",
        host=course.hosts.get(trouble.node, "") if trouble.node is not None else "",
        since=min(trouble.since for _, trouble in view.members),
        facts=tuple((heading, inert(text, ADVICE_MOST)) for heading, text in _facts(view) if text),
        links=_links(view),
        acknowledged_by=inert(view.acknowledged_by, 60),
    )


def _title(view: View) -> str:
    course, trouble = view.newest
    about = f"{course.run}: " if course.run else "lastgood: "
    place = _place(course, trouble, short=True)
    again = f", {len(view.members)} times" if len(view.members) > 1 else ""
    stands = f", {view.condition}" if view.condition != "it stands" and not trouble.momentary else ""
    return inert(f"{about}{heading(trouble, view.guide)}{f' ({place})' if place else ''}{again}{stands}", TITLE_MOST)


def heading(trouble: Trouble, guide: Guide | None = None) -> str:
    """What it is, in the runbook's words."""
    word, _, about = trouble.kind.partition(":")
    if guide is not None and is_incident(trouble):
        return guide.title
    said = HEADINGS.get(word) or word.replace("_", " ").capitalize()
    return f"{said}: {about}" if about else said


def _place(course: Course, trouble: Trouble, *, short: bool = False) -> str:
    parts = []
    if trouble.rank is not None:
        parts.append(f"rank {trouble.rank}")
    if trouble.node is not None:
        host = course.hosts.get(trouble.node, "")
        parts.append(f"node {trouble.node}{f', {host}' if host else ''}")
    if trouble.device:
        parts.append(f"GPU {trouble.device}")
    if course.run and not short:
        parts.insert(0, f"{course.run}, attempt {trouble.attempt}, world {trouble.world}, step {trouble.step}")
    return ", ".join(parts)


def _facts(view: View) -> Iterable[tuple[str, str]]:
    course, trouble = view.newest
    said = trouble.text if trouble.text and trouble.text not in trouble.evidence else ""
    # What was concluded quotes the strongest evidence already.
    evidence = [text for text in trouble.evidence[:4] if text not in said]
    yield "what", "; ".join(filter(None, (said, *evidence)))
    yield "where", _place(course, trouble)
    yield "now", _now(view)
    yield "cost", _cost(view)
    yield "done", "; ".join(trouble.done)
    yield "do", "" if view.is_over else _advice(view)
    yield "look", _about(COMMANDS[is_incident(trouble)], course, trouble) if course.run else ""
    yield "drill", f"{trouble.drill} was asked for just before" if trouble.drill else ""
    yield "notes", "\n".join(trouble.notes)


def _now(view: View) -> str:
    _, trouble = view.newest
    known = f"; {view.acknowledged_by} knows of it" if view.acknowledged_by else ""
    if view.is_over:
        ended_at = max(t.over_at or view.at for _, t in view.members)
        return f"over after {length(ended_at - trouble.since)}" if not trouble.momentary else ""
    return f"{view.condition}, for {length(view.at - trouble.told_at)}{known}"


def _cost(view: View) -> str:
    steps = sum(trouble.steps_lost for _, trouble in view.members)
    gpu_h = sum(lost_gpu_s(course, trouble, view.at) for course, trouble in view.members) / 3600
    if not gpu_h:
        return ""
    return f"{steps} {'step' if steps == 1 else 'steps'} to train again, {gpu_h:.2f} GPU-hours"


def _advice(view: View) -> str:
    course, trouble = view.newest
    if view.guide is not None and is_incident(trouble):
        return _about(view.guide.mitigation, course, trouble)
    return _about(ADVICE.get(trouble.kind.partition(":")[0], ""), course, trouble)


def _about(text: str, course: Course, trouble: Trouble) -> str:
    """The words of a runbook or a command, about this run and this incident."""
    return re.sub(r"\bID\b", trouble.id, re.sub(r"\bRUN\b", course.run, text))


def _links(view: View) -> tuple[tuple[str, str], ...]:
    course, trouble = view.newest
    if not view.dashboard:
        return ()
    root = view.dashboard.rstrip("/")
    if not course.run:
        return (("dashboard", f"{root}/"),)
    run = ("run", f"{root}/runs/{course.run}")
    if not is_incident(trouble):
        return (run,)
    return (("incident", f"{root}/runs/{course.run}/incidents/{trouble.id}"), run)


def length(value_s: float) -> str:
    """`12 s`, `3 min`, `2 h 05 min`."""
    if value_s < 90:
        return f"{max(0.0, value_s):.0f} s"
    minutes = round(value_s / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def line(course: Course, trouble: Trouble, told: Iterable[str]) -> Line:
    """What a digest says of a trouble that is over."""
    ended_at = trouble.trains_at or trouble.over_at or trouble.told_at
    return Line(
        at=trouble.told_at,
        run=course.run,
        kind=trouble.kind,
        took_s=ended_at - trouble.since if trouble.answered else 0.0,
        steps_lost=trouble.steps_lost,
        gpu_h=lost_gpu_s(course, trouble, ended_at) / 3600,
        told=tuple(told),
    )


def digest(lines: Iterable[Line], channel: str, thread: str, at: float) -> Message:
    """What recovered, or was only noted, since the last one."""
    found: dict[tuple[str, str], list[Line]] = {}
    for one in lines:
        found.setdefault((one.run, one.kind), []).append(one)
    texts = [_counted(run, kind, some) for (run, kind), some in sorted(found.items())]
    more = f"\nand {len(texts) - LINES_MOST} more" if len(texts) > LINES_MOST else ""
    count = sum(map(len, found.values()))
    runs = len({run for run, _ in found if run})
    facts = (("what", "\n".join(inert(text, TITLE_MOST) for text in texts[:LINES_MOST]) + more),)
    return Message(
        channel=channel,
        thread=thread,
        number=1,
        act=Act.NOTE,
        at=at,
        severity=Severity.INFO,
        title=f"lastgood: {count} {'fault' if count == 1 else 'faults'} in {runs} "
        f"{'run' if runs == 1 else 'runs'}, and nobody was needed",
        kind="digest",
        since=min((one.at for some in found.values() for one in some), default=at),
        facts=facts,
    )


def _counted(run: str, kind: str, some: list[Line]) -> str:
    took = [one.took_s for one in some if one.took_s > 0]
    recovered = f", recovered in {length(max(took))} at most" if took else ", noted"
    steps, gpu_h = sum(one.steps_lost for one in some), sum(one.gpu_h for one in some)
    cost = f", {steps} steps, {gpu_h:.2f} GPU-hours" if took else ""
    return f"{run or 'lastgood'}: {len(some)} times {kind.replace('_', ' ')}{recovered}{cost}"

"""What did people ask for, and what became of it? Sentences of the story."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.core import events as e
from orchestrator.core.asked import BUDGETS
from orchestrator.journal import Entry


def sentences(entry: Entry) -> Iterator[str]:
    """What somebody asked, when this entry is of that."""
    event = entry.event
    match event:
        case e.StopRequested():
            yield f"{who(event.by)} asked the run to stop{' at once' if event.now else ''}."
        case e.PauseRequested():
            yield f"{who(event.by)} asked the run to pause{f': {event.why}' if event.why else ''}."
        case e.ResumeRequested():
            yield f"{who(event.by)} asked the run to go on."
        case e.RestartRequested():
            without = "" if event.without is None else f" without node {event.without}"
            yield f"{who(event.by)} asked for a restart{without}: {entry.reason}."
        case e.DrillRequested():
            rank = "" if event.rank is None else f" of rank {event.rank}"
            yield f"{who(event.by)} asked for a drill: {event.drill}{rank}."
        case e.HostCordoned() | e.CheckpointPinned() | e.SpecRevised() | e.BudgetChanged() | e.PowerBudgetChanged():
            yield sentence(entry.reason)
        case e.IncidentAcknowledged() | e.IncidentResolved() | e.IncidentNoted() | e.IncidentJudged():
            text = "" if isinstance(event, e.IncidentAcknowledged | e.IncidentNoted) else event.text
            yield sentence(f"{entry.reason}{f': {text}' if text else ''}")
        case e.PowerCapped() if event.why and entry.reason:
            yield sentence(entry.reason)
        case _:
            pass


def who(by: str) -> str:
    """At the beginning of a sentence; the name of a user stays as it is."""
    return by[0].upper() + by[1:] if by == "a person" or by in BUDGETS else by


def sentence(reason: str) -> str:
    """A reason that stands by itself. It may begin with a user's name, which stays as it is."""
    return f"{reason.removesuffix('.')}."

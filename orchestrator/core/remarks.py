"""What do people say about incidents, and what does it change? Only what is open; the journal keeps the words."""

from __future__ import annotations

from orchestrator.core import events as e
from orchestrator.core.asked import Said
from orchestrator.core.policy import Rung
from orchestrator.core.replacing import replace
from orchestrator.core.state import Decision, State


def is_known(state: State, incident: str) -> bool:
    """Whether the run had an incident of this id: they are numbered i1, i2, ..."""
    digits = incident.removeprefix("i")
    number = int(digits) if digits.isdecimal() and len(digits) < 10 else 0
    return incident == f"i{number}" and 1 <= number <= state.incidents


def irresoluble(state: State, incident: str) -> str:
    """Why a person cannot say that an incident is over; empty when he can."""
    opened = next((o for o in state.open if o.id == incident), None)
    if opened is None:
        return "it is not open"
    if opened.rung is not Rung.OBSERVE:
        return "it is being answered, and over when the run has proved that"
    return ""


def said(state: State, event: Said) -> Decision:
    """Note it; close what a person may close."""
    id_ = event.incident
    if not is_known(state, id_):
        return Decision(state=state, reason=f"{event.by} spoke of {id_}: there is no such incident")
    match event:
        case e.IncidentAcknowledged():
            return Decision(state=state, reason=f"{event.by} sees to {id_}")
        case e.IncidentNoted():
            return Decision(state=state, reason=f"{event.by} noted about {id_}: {event.text}")
        case e.IncidentJudged():
            verdict = "right" if event.right else "wrong"
            return Decision(state=state, reason=f"the verdict of {id_} was {verdict}, {event.by} says")
        case e.IncidentResolved():
            return _resolved(state, event)


def _resolved(state: State, event: e.IncidentResolved) -> Decision:
    if why := irresoluble(state, event.incident):
        return Decision(state=state, reason=f"{event.by} asked to resolve {event.incident}: {why}")
    state = replace(state, open=tuple(o for o in state.open if o.id != event.incident))
    return Decision(state=state, reason=f"{event.incident} is over, {event.by} says", closed=(event.incident,))

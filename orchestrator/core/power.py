"""How does a run keep to its power budget? By the limits of its GPUs; where these cannot be set, by pausing.

Every GPU may draw an equal share. Where a node refuses (setting a limit needs root, and has a least), all limits are
put back, and the run is paused after a save while its GPUs could draw more than the budget; it goes on when they may.
What they could draw is what their limits allow; where nobody can read that, a person is told and nothing is done.
"""

from __future__ import annotations

from orchestrator.core import events as e
from orchestrator.core import people, worlds
from orchestrator.core.actions import Action, Alert, CapPower
from orchestrator.core.asked import POWER_BUDGET
from orchestrator.core.capping import Capping
from orchestrator.core.policy import Severity
from orchestrator.core.recover import ENDING
from orchestrator.core.replacing import replace
from orchestrator.core.silence import LIVE
from orchestrator.core.state import ENDED, Decision, Phase, State


def rationed(state: State, event: e.PowerBudgetChanged | e.PowerCapped) -> Decision:
    """A person changed the budget, or a node answered."""
    match event:
        case e.PowerBudgetChanged():
            return _changed(state, event)
        case e.PowerCapped():
            return _capped(state, event)


def may_draw_w(state: State) -> float | None:
    """All GPUs of the run, as far as every node told; None: one did not."""
    known = dict(state.capping.may_draw)
    return sum(known.values()) if len(known) == state.plan.nodes else None


def why_not(state: State) -> str:
    """Why the run may not train within its power budget; empty when it may, or when nobody knows."""
    share_w = worlds.share_w(state)
    if share_w is None or state.watts is None:
        return ""
    least_w = max(state.capping.least_w, state.plan.watts_least or 0.0)
    if share_w < least_w:
        return f"{state.watts:.0f} W are {share_w:.0f} W for each GPU, and {least_w:.0f} W is the least"
    drawn_w = may_draw_w(state)
    if state.capping.refused and drawn_w is not None and drawn_w > state.watts:
        return (
            f"its GPUs may draw {drawn_w:.0f} W of {state.watts:.0f} W, and cannot be limited: {state.capping.refused}"
        )
    return ""


def watched(decision: Decision, at: float) -> Decision:
    """The decision about progress, and a pause where the order to limit the GPUs was lost, or never given."""
    state = decision.state
    if state.watts is None or state.phase not in LIVE or not (why := why_not(state)):
        return decision
    paused = _paused(state, at, why, decision.reason)
    return replace(paused, actions=(*decision.actions, *paused.actions), closed=decision.closed)


def _changed(state: State, event: e.PowerBudgetChanged) -> Decision:
    state = replace(state, watts=event.watts)
    told = f"{event.by} set the power budget: {'none' if event.watts is None else f'{event.watts:.0f} W'}"
    why = why_not(state)
    if state.phase is Phase.PAUSED and state.paused_by == POWER_BUDGET:
        return (
            Decision(state=state, reason=f"{told}; it stays paused: {why}") if why else _resumed(state, event.at, told)
        )
    if state.phase in ENDED or state.phase in ENDING:
        return Decision(state=state, reason=told)
    if why:
        return _paused(state, event.at, why, told)
    state = replace(state, capping=replace(state.capping, refused=""))  # tried again: rights may have been given
    orders = (CapPower(attempt=state.attempt, watts=worlds.share_w(state)),) if state.phase in LIVE else ()
    return Decision(state=state, actions=orders, reason=told)


def _resumed(state: State, at: float, told: str) -> Decision:
    decision = people.asked(state, e.ResumeRequested(at=at, by=POWER_BUDGET))
    return replace(decision, reason=f"{told}; {decision.reason}")


def _paused(state: State, at: float, why: str, told: str = "") -> Decision:
    decision = people.asked(state, e.PauseRequested(at=at, by=POWER_BUDGET, why=why))
    alert = Alert(severity=Severity.WARNING, title=f"{state.run} is paused for its power budget", text=why)
    reason = "; ".join(filter(None, (told, decision.reason)))
    return replace(decision, actions=(*decision.actions, alert), reason=reason)


def _capped(state: State, event: e.PowerCapped) -> Decision:
    if event.node not in worlds.all_nodes(state) or state.phase in ENDED:
        return Decision(state=state)
    known = dict(state.capping.may_draw)
    if event.may_draw_w is not None:
        known[event.node] = event.may_draw_w
    first = bool(event.why) and not state.capping.refused and event.watts is not None
    capping = Capping(
        least_w=max(state.capping.least_w, event.least_w or 0.0),
        refused=state.capping.refused or (event.why if event.watts is not None else ""),
        may_draw=tuple(sorted(known.items())),
    )
    state = replace(state, capping=capping)
    if state.phase in ENDING or state.watts is None:
        return Decision(state=state)
    if why := why_not(state):  # also between two worlds: the next one would not be told to limit anything
        return _paused(state, event.at, why)
    if not first or state.phase not in LIVE:
        text = (
            f"the GPUs of node {event.node} are limited to {event.watts:.0f} W each" if event.watts is not None else ""
        )
        return Decision(state=state, reason=text if not event.why else "")
    # Half of the nodes limited and half not would only make stragglers.
    text = f"the power budget of {state.watts:.0f} W is not held to by limits: {event.why}"
    alert = Alert(severity=Severity.WARNING, title=f"{state.run}: the power of its GPUs cannot be limited", text=text)
    orders: tuple[Action, ...] = (CapPower(attempt=state.attempt, watts=None), alert)
    return Decision(state=state, actions=orders, reason=text)


def _limited(event: e.PowerCapped) -> str:
    if event.why or event.watts is None:
        return ""
    return f"the GPUs of node {event.node} are limited to {event.watts:.0f} W each"

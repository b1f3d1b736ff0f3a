"""How does an attempt come to its agents? All of them dial in, from hosts that may be given ranks; or it failed."""

from __future__ import annotations

from monitors.incidents import Blame, Incident, Kind
from orchestrator.core import cordons, worlds
from orchestrator.core.events import AgentJoined
from orchestrator.core.recover import on_incident
from orchestrator.core.replacing import replace
from orchestrator.core.saves import all_here, first_world
from orchestrator.core.state import Decision, Phase, State


def joined(state: State, event: AgentJoined) -> Decision:
    """The agent of a node of this attempt dialled."""
    known = event.node in state.joined
    state = cordons.seen(state, event.node, event.host)
    state = replace(state, joined=tuple(sorted({*state.joined, event.node})))
    unseen = tuple(
        o.id for o in state.open if o.incident.kind is Kind.NODE_UNSEEN and o.incident.subject.node == event.node
    )
    state = replace(state, open=tuple(o for o in state.open if o.id not in unseen))
    if state.phase is Phase.LAUNCHING and cordons.here(state):
        return _also_closed(refused(state, event.at), unseen)
    if all_here(state):
        return _also_closed(first_world(state, event.at), unseen)
    if state.phase is Phase.STARTING and event.world < state.world:
        state = _order_late(state, event.at)
    reason = f"the agent of node {event.node} dialled {'again' if known else 'in'}"
    return Decision(state=state, reason=reason, closed=unseen)


def _order_late(state: State, at: float) -> State:
    """It is given the order for the newest world only now: what a start may take counts from here."""
    wait_s = worlds.wait_s(state, Phase.STARTING)
    assert wait_s is not None, "a start has a limit"
    return replace(state, deadline=max(state.deadline or at, at + wait_s))


def _also_closed(decision: Decision, closed: tuple[str, ...]) -> Decision:
    return replace(decision, closed=(*closed, *decision.closed)) if closed else decision


def refused(state: State, at: float) -> Decision:
    """The scheduler gave the attempt a host that is cordoned: no world begins on it."""
    said = {cordon.host: cordon for cordon in state.cordons}
    host = cordons.here(state)[0]
    why = f"the scheduler gave the attempt {host}, which {said[host].by} cordoned"
    return on_incident(state, launch_failed(state, at, why), at)


def launch_failed(state: State, at: float, why: str) -> Incident:
    """The scheduler refused, or its agents never came, or they came from hosts that are cordoned."""
    return Incident(
        kind=Kind.LAUNCH_FAILED,
        at=at,
        onset=min(at, state.since),
        world=state.world,
        blame=Blame.SCHEDULER,
        evidence=(why,),
    )

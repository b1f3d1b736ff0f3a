"""What does it mean that nothing happened until the deadline? Order again, then more strongly, then tell a person."""

from __future__ import annotations

from monitors.incidents import Incident, Kind
from orchestrator.core import origin, worlds
from orchestrator.core.actions import Action, Alert, EndAttempt, StopWorld
from orchestrator.core.launching import launch_failed
from orchestrator.core.policy import Rung, Severity
from orchestrator.core.recover import on_incident, waited
from orchestrator.core.replacing import replace
from orchestrator.core.saves import first_world
from orchestrator.core.state import Decision, Phase, Recovery, State

LIVE = frozenset({Phase.STARTING, Phase.TRAINING})
TRIES_MAX = 3
"""waits that may run out before something stronger is done, or a person is told"""
STOP_TRIES_MAX = 4
"""the same for a run that a person stopped: the ranks to save, to end, and then the attempt"""
NOT_SAVED = "the ranks did not save and end in time: ending them"
UNEXPLAINED_S = 2.0
"""for the reason of a world's end to arrive after the end itself"""


def time_passed(state: State, at: float) -> Decision:
    """The deadline may have come."""
    if state.deadline is None or at < state.deadline:
        return Decision(state=state)
    match state.phase:
        case Phase.LAUNCHING:
            missing = [n for n in worlds.all_nodes(state) if n not in state.joined]
            if not missing and origin.is_unread(state):
                return _still_reading(state, at)
            if not missing:
                return first_world(state, at)
            why = f"the agents of nodes {missing} did not dial within {state.plan.launch_timeout_s:.0f} s"
            return on_incident(state, launch_failed(state, at, why), at)
        case Phase.STARTING | Phase.TRAINING:
            return _world_silent(state, at)
        case Phase.BACKING_OFF:
            return waited(state, at)
        case Phase.STOPPING | Phase.PAUSING:
            return _stop_harder(state, at)
        case _:
            return _again(state, at)


def set_back(state: State, at: float) -> State:
    """The clock of a new supervisor is behind what the one before wrote: by ours all of that was earlier.

    A host that comes up with a wrong clock is set right later. Left as they are, its times would put every deadline,
    and the end of every budget's window, off by as much.
    """
    by_s = state.now - at
    return replace(
        state,
        now=at,
        since=state.since - by_s,
        meter=replace(state.meter, since=state.meter.since - by_s) if state.meter.since else state.meter,
        heard=state.heard - by_s,
        deadline=None if state.deadline is None else state.deadline - by_s,
        strikes=tuple(replace(strike, at=strike.at - by_s) for strike in state.strikes),
    )


def waiting_anew(state: State, at: float) -> State:
    """Nobody listened while the supervisor was away, so that silence says nothing: every wait begins again."""
    wait_s = worlds.wait_s(state, state.phase)
    if wait_s is None or state.deadline is None:
        return state
    if state.phase in LIVE and state.stopped == worlds.all_nodes(state):
        wait_s = UNEXPLAINED_S
    return replace(state, deadline=max(state.deadline, at + wait_s))


def _still_reading(state: State, at: float) -> Decision:
    """A large checkpoint takes its time; a person is told when it takes as long as silence may last."""
    reason = f"the checkpoint to begin from has been read back for {at - state.since:.0f} s"
    if at - state.since >= state.plan.unheard_s:
        nag = _nag(state, at, reason)
        return replace(nag, state=replace(nag.state, deadline=at + state.plan.unheard_s))
    return Decision(state=replace(state, deadline=at + state.plan.launch_timeout_s), reason=reason)


def _world_silent(state: State, at: float) -> Decision:
    if state.stopped == worlds.all_nodes(state):
        why = "every worker is gone and none said why"
        return on_incident(state, _stalled(state, at, Kind.WORKER_EXCEPTION, why), at)
    unseen = [o.incident.subject.node for o in state.open if o.incident.kind is Kind.NODE_UNSEEN]
    if state.phase is Phase.STARTING and unseen:
        return _nag(state, at, f"no first step heard, nor anything of nodes {unseen}; what cannot be seen is not ended")
    if state.phase is Phase.STARTING and not state.entered:
        return _nag(state, at, f"no step of this run yet, after {at - state.since:.0f} s; it is not ended for that")
    if state.phase is Phase.STARTING:
        why = f"world {state.world} did not take a step within {state.plan.start_timeout_s:.0f} s"
        return on_incident(state, _stalled(state, at, Kind.START_STALLED, why), at)
    return _nag(state, at, f"no progress heard for {at - state.heard:.0f} s; what cannot be seen is not ended")


def _stalled(state: State, at: float, kind: Kind, why: str) -> Incident:
    return Incident(
        kind=kind,
        at=at,
        onset=min(at, max(state.since, state.heard)),
        world=state.world,
        step=state.step,
        confidence=0.5,
        evidence=(why,),
    )


def _again(state: State, at: float) -> Decision:
    """The wait for something under way ran out: order it again, then more strongly."""
    if state.phase is Phase.STOPPING_WORLD and state.recovery is not None and state.recovery.saving:
        state, actions = worlds.stop_world(state, at, replace(state.recovery, saving=False), state.reason)
        return Decision(state=state, actions=actions, reason=NOT_SAVED)
    if state.phase is Phase.STOPPING_WORLD and state.nagged + 1 >= TRIES_MAX:
        recovery = state.recovery or Recovery(rung=Rung.RESTART)
        state = replace(state, recovery=replace(recovery, rung=Rung.RELAUNCH))
        reason = f"{state.reason}; the world did not end, so the whole attempt is"
        state, actions = worlds.end_attempt(state, at, Phase.RELAUNCHING, reason)
        return Decision(state=state, actions=actions, reason=reason)
    wait_s = worlds.wait_s(state, state.phase)
    assert wait_s is not None, f"{state.phase} has no wait"
    if state.nagged + 1 == TRIES_MAX:
        return _nag(state, at, f"{state.phase} does not come to an end", also=worlds.outstanding(state))
    again = replace(state, nagged=state.nagged + 1, deadline=at + wait_s)
    return Decision(state=again, actions=worlds.outstanding(again), reason=f"{state.phase}: ordered again")


def _nag(state: State, at: float, text: str, also: tuple[Action, ...] = ()) -> Decision:
    wait_s = worlds.wait_s(state, state.phase)
    assert wait_s is not None, f"{state.phase} has no wait"
    told = replace(state, nagged=state.nagged + 1, deadline=at + wait_s)
    return Decision(state=told, actions=(*also, _page(state, text)), reason=text)


def _stop_harder(state: State, at: float) -> Decision:
    tries = state.nagged + 1
    if state.nagged == 0 and state.stopped != worlds.all_nodes(state):
        actions: tuple[Action, ...] = (StopWorld(attempt=state.attempt, world=state.world, grace_s=5.0),)
        reason = NOT_SAVED
    else:
        actions = (EndAttempt(attempt=state.attempt, why=state.reason),)
        reason = "ending the attempt"
    if tries == STOP_TRIES_MAX:
        reason = f"the attempt does not end, and goes on using its devices: {state.reason}"
        actions = (*actions, _page(state, reason))
    state = replace(state, nagged=tries, deadline=at + state.plan.stop_timeout_s)
    return Decision(state=state, actions=actions, reason=reason)


def _page(state: State, text: str) -> Alert:
    return Alert(severity=Severity.CRITICAL, title=f"{state.run} needs a look", text=text, page=True)

"""What should be done now? `decide(state, event)`: pure, total, deterministic.

The whole policy of one run. Every branch leaves a sentence that says why; it is what a person reads.
"""

from __future__ import annotations

from monitors.incidents import Incident, Kind, Subject
from orchestrator.core import budget, checkpoints, history, interval, meter, people, power, spending, worlds
from orchestrator.core import events as e
from orchestrator.core.actions import (
    Action,
    VerifyCheckpoint,
)
from orchestrator.core.ending import end
from orchestrator.core.launching import joined, launch_failed
from orchestrator.core.recover import GIVEN_UP, moved, on_incident
from orchestrator.core.replacing import replace
from orchestrator.core.saves import on_checkpoint, saved
from orchestrator.core.silence import UNEXPLAINED_S, set_back, time_passed, waiting_anew
from orchestrator.core.state import ENDED, Decision, Phase, State

ENDING_ATTEMPT = frozenset({Phase.RELAUNCHING, Phase.FINISHING, Phase.HOLDING, Phase.STOPPING, Phase.PAUSING})


def begin(event: e.RunSubmitted) -> Decision:
    """The first decision of a run: launch it, and read back what it begins from."""
    blank = State(
        run=event.run,
        plan=event.plan,
        policy=event.policy,
        phase=Phase.LAUNCHING,
        reason="",
        since=event.at,
        now=event.at,
        skips=event.plan.skips,
        heard=event.at,
        meter=meter.Meter(since=event.at),
        target=event.plan.target_step,
        watts=event.plan.watts,
        limits=event.plan.limits,
    )
    state, actions = worlds.launch(interval.begun(blank), event.at, "submitted")
    if event.origin is not None:
        state = checkpoints.add(state, saved(event.origin))
        actions = (VerifyCheckpoint(checkpoint=event.origin.checkpoint), *actions)
    return Decision(state=state, actions=actions, reason="submitted: launching attempt 1")


def decide(state: State, event: e.Event) -> Decision:
    """The next state, what to do, and why."""
    state, event = _timed(state, event)
    match event:
        case e.RunSubmitted():
            return Decision(state=state, reason="submitted before: nothing to do")
        case e.Progressed():
            return power.watched(spending.watched(_progressed(state, event), event.at), event.at)
        case e.TimePassed():
            return _time_passed(state, event.at)
        case e.IncidentDetected():
            return on_incident(state, event.incident, event.at)
        case e.AgentJoined() | e.AgentGone() | e.Launched() | e.LaunchFailed() | e.AttemptEnded():
            return _attempt(state, event)
        case e.WorldEntered() | e.WorldRestored() | e.RankFinished() | e.NodeStopped():
            return _world(state, event)
        case e.CheckpointCommitted() | e.CheckpointVerified() | e.CheckpointRefused() | e.CheckpointDeleted():
            return on_checkpoint(state, event)
        case e.PowerBudgetChanged() | e.PowerCapped():
            return power.rationed(state, event)
        case e.DrillDone() | e.PolicyChanged() | e.DeviceProbed() | e.RecoveryProved():
            return _noted(state, event)
        case e.SupervisorStarted():
            return _supervisor_started(state, event)
        case _:
            return people.asked(state, event)


def _noted(state: State, event: e.DrillDone | e.PolicyChanged | e.DeviceProbed | e.RecoveryProved) -> Decision:
    match event:
        case e.DrillDone():
            return Decision(state=state, reason=f"drill {event.drill} of world {event.world}: done")
        case e.PolicyChanged():
            return Decision(state=replace(state, policy=event.policy), reason="the runbooks changed")
        case e.DeviceProbed() | e.RecoveryProved():
            return Decision(state=state, reason=event.sentence)


def _timed(state: State, event: e.Event) -> tuple[State, e.Event]:
    """Time goes on by what events say; only another supervisor's clock may be behind."""
    if event.at >= state.now:
        # Progress, by far the most frequent, copies the state once, with all that it changes.
        known = event.at == state.now or isinstance(event, e.Progressed)
        return (state if known else replace(state, now=event.at)), event
    if isinstance(event, e.SupervisorStarted):
        return set_back(state, event.at), event
    # Old news, kept by an agent while nobody heard it: what it leads to begins now, and so do the waits for that.
    return state, replace(event, at=state.now)


def _progressed(state: State, event: e.Progressed) -> Decision:
    if event.world != state.world or state.phase in ENDED:
        return Decision(state=replace(state, now=event.at))
    first = state.phase is Phase.STARTING
    trained_s = interval.trained(state, event.at)
    course = _course(state, event, first)
    if first:
        state = worlds.enter(state, Phase.TRAINING, event.at, f"world {event.world} is training")
        state = replace(state, recovery=None)
    # A world that is being ended may be heard of once more: that proves nothing about the one that comes after it.
    ending = state.phase in GIVEN_UP
    state = replace(
        state,
        now=event.at,
        step=max(state.step, event.step),
        best_step=state.best_step if ending else max(state.best_step, event.step),
        heard=max(state.heard, event.at),
        step_s=event.step_s or state.step_s,
        trained_s=trained_s,
        meter=meter.heard(state.meter, event.energy),
        history=course,
        deadline=_heard_deadline(state, event.at),
        nagged=0 if state.phase is Phase.TRAINING else state.nagged,
    )
    state = checkpoints.promote(state, event.suspect_since)
    over: tuple[str, ...] = ()
    if state.open and not ending:
        over = tuple(o.id for o in state.open if _over(o.incident.kind, o.until_step, state))
    if over:
        state = replace(state, open=tuple(o for o in state.open if o.id not in over))
    reason = _first_step(event) if first else ""
    surplus = checkpoints.surplus(state)
    state = checkpoints.given_up(state, surplus) if surplus else state
    actions: tuple[Action, ...] = surplus
    if state.unread and not first:
        # What was not needed was not read: whether it would have served must not be found out when it is. Not at the
        # first step, which the whole recovery waits for: reading takes a core, and the storage.
        actions = (*(VerifyCheckpoint(checkpoint=name) for name in state.unread), *actions)
        state = replace(state, unread=())
    return Decision(state=state, actions=actions, reason=reason, closed=over)


def _first_step(event: e.Progressed) -> str:
    if event.step == 0:
        return f"world {event.world} moves; of steps it tells nothing"
    return f"world {event.world} took its first step after {event.step - 1}"


def _course(state: State, event: e.Progressed, first: bool) -> history.History:
    """The course of the run so far; what a world that is being ended still does tells nothing of the pace."""
    if not first:
        trains = state.phase is Phase.TRAINING
        return history.stepped(state.history, event.step, event.at) if trains else state.history
    return history.began(
        state.history,
        step=event.step,
        at=event.at,
        start_s=event.at - state.since,
        restored=state.step if state.step else event.step - 1,  # a script without the SDK says it by its first step
        fault=state.recovery is not None and not state.recovery.asked,
    )


def _time_passed(state: State, at: float) -> Decision:
    """Silence until the deadline, or until a budget comes to one of its marks: whichever it was is seen to first."""
    decision = spending.watched(Decision(state=state), at)
    return decision if decision.reason else time_passed(state, at)


def _heard_deadline(state: State, at: float) -> float | None:
    """Progress puts off the page for silence; it neither shortens a wait (old news) nor puts off the end of a world."""
    if state.phase is not Phase.TRAINING or state.deadline is None:
        return state.deadline
    if state.stopped and state.stopped == worlds.all_nodes(state):
        return state.deadline
    return max(state.deadline, at + state.plan.unheard_s)


def _over(kind: Kind, until_step: int, state: State) -> bool:
    if kind is Kind.SAVE_FAILED:
        return False  # only a save that works ends it
    return state.best_step >= until_step


def _attempt(
    state: State, event: e.AgentJoined | e.AgentGone | e.Launched | e.LaunchFailed | e.AttemptEnded
) -> Decision:
    if event.attempt != state.attempt or state.phase in ENDED or worlds.attempt_is_over(state):
        return Decision(state=state, reason=f"attempt {event.attempt} is over: ignored")
    if isinstance(event, e.AgentJoined | e.AgentGone) and event.node not in worlds.all_nodes(state):
        return Decision(state=state, reason=f"the run has no node {event.node}: ignored")
    match event:
        case e.AgentJoined():
            return joined(state, event)
        case e.AgentGone():
            return _agent_gone(state, event)
        case e.Launched():
            return Decision(state=state, reason=f"attempt {event.attempt} is with the scheduler")
        case e.LaunchFailed():
            # Agents may have dialled before the submission failed, and were ended with it; one that trains was not.
            if state.phase not in (Phase.LAUNCHING, Phase.STARTING):
                return Decision(state=state, reason=f"{event.why}; attempt {event.attempt} is {state.phase} anyway")
            return on_incident(state, launch_failed(state, event.at, event.why), event.at)
        case e.AttemptEnded():
            return _attempt_ended(state, event.at)


def _agent_gone(state: State, event: e.AgentGone) -> Decision:
    if len(set(event.witnesses)) < 2:
        return Decision(state=state, reason=f"the agent of node {event.node} is not seen; a death needs two witnesses")
    state = replace(state, joined=tuple(n for n in state.joined if n != event.node))
    if state.phase in ENDING_ATTEMPT:
        return Decision(state=state, reason=f"the agent of node {event.node} has left, as ordered")
    return on_incident(state, _agent_lost(state, event), event.at)


def _agent_lost(state: State, event: e.AgentGone) -> Incident:
    return Incident(
        kind=Kind.AGENT_LOST,
        at=event.at,
        onset=event.at,
        world=state.world,
        subject=Subject(node=event.node),
        step=state.step,
        evidence=event.witnesses,
    )


def _attempt_ended(state: State, at: float) -> Decision:
    match state.phase:
        case Phase.RELAUNCHING:
            state, actions = worlds.after_attempt(state, at)
            return Decision(state=state, actions=actions, reason=state.reason)
        case Phase.FINISHING:
            return end(state, Phase.SUCCEEDED, at, f"complete at step {state.best_step}")
        case Phase.HOLDING:
            return end(state, Phase.HELD, at, state.reason)
        case Phase.STOPPING if state.out_of:
            return end(state, Phase.HELD, at, state.reason)
        case Phase.STOPPING:
            return end(state, Phase.STOPPED, at, state.reason)
        case Phase.PAUSING:
            return end(state, Phase.PAUSED, at, state.reason)
        case _:
            # Somebody else ended it (scancel, a reboot): the scheduler's word for an agent that is gone.
            lost = e.AgentGone(
                at=at,
                attempt=state.attempt,
                node=0,
                witnesses=("the attempt ended", "no process of it is left"),
            )
            return on_incident(state, _agent_lost(state, lost), at)


def _world(state: State, event: e.WorldEntered | e.WorldRestored | e.RankFinished | e.NodeStopped) -> Decision:
    if event.world != state.world or state.phase in ENDED:
        return Decision(state=state)
    match event:
        case e.WorldEntered():
            until = state.target if event.until is None else event.until
            return Decision(state=replace(state, entered=True, heard=event.at, target=until))
        case e.WorldRestored():
            return _restored(state, event)
        case e.RankFinished() if event.rank < state.plan.nodes * state.plan.ranks_per_node:
            return Decision(state=replace(state, finished=tuple(sorted({*state.finished, event.rank}))))
        case e.NodeStopped() if event.node in worlds.all_nodes(state):
            return _node_stopped(state, event)
        case _:
            return Decision(state=state, reason=f"{event}: the run has no such place")


def _restored(state: State, event: e.WorldRestored) -> Decision:
    if state.phase is not Phase.STARTING:
        return Decision(state=state)  # old news
    state = checkpoints.restored(state, event)
    recovery = state.recovery
    if recovery is not None and recovery.good_only:
        state = budget.rewound(state, event.step)
    state = replace(state, step=event.step, best_step=max(state.best_step, event.step), heard=event.at)
    state = replace(state, unread=state.candidates[:1] if event.copied_in is not None else ())
    return Decision(state=state, reason=_restored_from(event))


def _restored_from(event: e.WorldRestored) -> str:
    if event.copied_in is not None:
        where = f", of {event.from_peer} ranks on another node" if event.from_peer else ""
        return f"restored step {event.step} from the copies that world {event.copied_in} left in memory{where}"
    return f"restored step {event.step} from {event.checkpoint}" if event.checkpoint else "started fresh"


def _node_stopped(state: State, event: e.NodeStopped) -> Decision:
    read = meter.heard(state.meter, event.energy)
    state = replace(state, stopped=tuple(sorted({*state.stopped, event.node})), meter=read)
    if state.stopped != worlds.all_nodes(state):
        return Decision(state=state)
    at = event.at
    complete = len(state.finished) == state.plan.nodes * state.plan.ranks_per_node
    match state.phase:
        case Phase.STARTING | Phase.TRAINING if complete:
            state, actions = worlds.end_attempt(state, at, Phase.FINISHING, "every rank finished")
        case Phase.STARTING | Phase.TRAINING:
            state, actions = replace(state, deadline=at + UNEXPLAINED_S), ()
        case Phase.STOPPING_WORLD:
            return moved(state, worlds.after_world(state, at), at, f"no worker of world {event.world} is left")
        case Phase.STOPPING | Phase.PAUSING:
            state, actions = replace(state, deadline=at + worlds.END_ATTEMPT_S), (worlds.end_order(state),)
        case _:
            return Decision(state=state)
    return Decision(state=state, actions=actions, reason=f"no worker of world {event.world} is left")


def _supervisor_started(state: State, event: e.SupervisorStarted) -> Decision:
    if state.phase in ENDED:
        return Decision(state=state)
    state = waiting_anew(state, event.at)
    if event.last_alive is None or event.left:
        return Decision(state=state, actions=worlds.outstanding(state))
    incident = Incident(
        kind=Kind.SUPERVISOR_RESTARTED,
        at=event.at,
        onset=min(event.at, event.last_alive),
        world=state.world,
        step=state.step,
        evidence=(f"no supervisor for {event.at - event.last_alive:.1f} s; training is not paused by that",),
    )
    decision = on_incident(state, incident, event.at)
    return replace(decision, actions=(*decision.actions, *worlds.outstanding(decision.state)))

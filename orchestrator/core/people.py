"""What is done about what people ask of a run? Stop, pause, resume, restart, cordon, pin, drill.

Total: whatever is asked in whatever phase, the reason says what became of it.
"""

from __future__ import annotations

from orchestrator.core import checkpoints, cordons, launching, remarks, spending, worlds
from orchestrator.core import events as e
from orchestrator.core.actions import Action, InjectFault, StopAfterStep
from orchestrator.core.asked import BUDGETS, Asked
from orchestrator.core.ending import end
from orchestrator.core.policy import Rung
from orchestrator.core.recover import ENDING, moved, waited
from orchestrator.core.replacing import replace
from orchestrator.core.silence import LIVE
from orchestrator.core.state import ENDED, Decision, Phase, Recovery, State, Taint

AT_REST = frozenset({Phase.HELD, Phase.PAUSED, Phase.STOPPED})
"""no process is left, and it may go on"""
GRACE_S = 5.0
"""for ranks that are not asked to save first"""


def asked(state: State, event: Asked) -> Decision:
    """Do it where that makes sense."""
    match event:
        case e.StopRequested():
            return _stop(state, event)
        case e.PauseRequested():
            return _pause(state, event)
        case e.ResumeRequested():
            return _resume(state, event)
        case e.RestartRequested():
            return _restart(state, event)
        case e.HostCordoned():
            return _cordon(state, event)
        case e.CheckpointPinned():
            return _pin(state, event)
        case e.SpecRevised():
            return _revised(state, event)
        case e.DrillRequested():
            return _drill(state, event)
        case e.BudgetChanged():
            return spending.changed(state, event)
        case _:
            return remarks.said(state, event)


def _nothing(state: State, text: str) -> Decision:
    return Decision(state=state, reason=text)


def _can_save(state: State) -> bool:
    """Ranks train, and would make a save when they are asked to end."""
    return state.phase is Phase.TRAINING and state.entered and state.stopped != worlds.all_nodes(state)


def _ended_for(state: State, at: float, phase: Phase, reason: str, *, now: bool = False) -> Decision:
    """End the attempt for good or for a while, after a save where one can be made."""
    if _can_save(state) and not now:
        state = worlds.enter(state, phase, at, reason)
        order: Action = StopAfterStep(attempt=state.attempt, world=state.world)
        return Decision(state=state, actions=(order,), reason=f"{reason}, saving first")
    grace_s = GRACE_S if state.phase in LIVE and not now else 0.0
    state, actions = worlds.end_attempt(state, at, phase, reason, grace_s=grace_s)
    return Decision(state=replace(state, nagged=1), actions=actions, reason=reason)


def _stop(state: State, event: e.StopRequested) -> Decision:
    reason = f"stopped by {event.by}"
    state = replace(state, out_of="")
    if state.phase in (Phase.HELD, Phase.PAUSED):
        return end(_unpaused(state), Phase.STOPPED, event.at, f"{reason} while {state.phase}")
    if state.phase in ENDED:
        return _nothing(state, f"{event.by} asked to stop a run that is {state.phase}")
    if state.phase in (Phase.STOPPING, Phase.FINISHING) and not event.now:
        return _nothing(state, f"{event.by} asked to stop: already {state.phase}")
    if state.phase is Phase.PAUSING and not event.now:  # its world saves and ends already
        state = replace(_unpaused(state), phase=Phase.STOPPING, reason=reason, since=event.at)
        return Decision(state=state, reason=f"{reason} instead of being paused")
    return _ended_for(_unpaused(state), event.at, Phase.STOPPING, reason, now=event.now)


def _unpaused(state: State) -> State:
    return replace(state, paused_by="", paused_why="")


def _pause(state: State, event: e.PauseRequested) -> Decision:
    reason = f"paused by {event.by}{f': {event.why}' if event.why else ''}"
    if state.phase in (Phase.PAUSING, Phase.PAUSED):
        if event.by in BUDGETS or state.paused_by not in BUDGETS:
            return _nothing(state, f"{event.by} asked to pause: {state.phase} already, by {state.paused_by}")
        taken = replace(state, paused_by=event.by, paused_why=event.why, reason=reason)
        return Decision(state=taken, reason=f"{reason}; {state.paused_by} does not end this pause any more")
    if state.phase in ENDED or state.phase in ENDING:
        return _nothing(state, f"{event.by} asked to pause a run that is {state.phase}")
    # What a recovery had still to do is done when the run goes on; its waits are over by then.
    recovery = None if state.recovery is None else replace(state.recovery, backoff_s=0.0)
    paused = replace(state, paused_by=event.by, paused_why=event.why, recovery=recovery)
    return _ended_for(paused, event.at, Phase.PAUSING, reason)


def _resume(state: State, event: e.ResumeRequested) -> Decision:
    if state.phase not in AT_REST:
        return _nothing(state, f"{event.by} asked to resume a run that is {state.phase}")
    if event.by in BUDGETS and state.paused_by not in BUDGETS:
        who = f"{state.phase}{f' by {state.paused_by}' if state.paused_by else ''}"
        return _nothing(state, f"{event.by} asked to resume a run that is {who}: a person has to")
    # A slip of the finger would give up the whole run; 0 says that this is meant.
    if event.from_step and not any(step <= event.from_step for step in checkpoints.usable_steps(state)):
        return _nothing(state, f"{event.by} asked to resume from step {event.from_step}: no such save")
    if why := spending.spent_out(state, event.at):
        return _nothing(state, f"{event.by} asked to resume: {why}")
    reason = f"resumed by {event.by}"
    if state.phase is Phase.PAUSED and event.from_step is None:
        state, actions = worlds.launch(_goes_on(state), event.at, reason)
        return Decision(state=state, actions=actions, reason=reason)
    closed = tuple(o.id for o in state.open)
    state, actions = worlds.launch(_looked_at(state, event), event.at, reason)
    return Decision(state=state, actions=actions, reason=reason, closed=closed)


def _goes_on(state: State) -> State:
    """After a pause, which says nothing of faults: strikes, and what a recovery had to do, are what they were."""
    known = state.recovery
    if known is None:
        return replace(_unpaused(state), recovery=Recovery(rung=Rung.RELAUNCH, asked=True))
    kept = replace(known, rung=Rung.RELAUNCH, in_process=False, culprits=(), saving=False)
    return replace(_unpaused(state), recovery=kept)


def _looked_at(state: State, event: e.ResumeRequested) -> State:
    """A person looked at it: the ladders begin anew."""
    below = None if event.from_step is None else event.from_step + 1
    if below is not None:  # nothing later is to be trusted, by this world or by any after it
        mark = Taint(world=state.world, onset=event.at, step=below)
        state = replace(checkpoints.taint(state, mark), best_step=min(state.best_step, below - 1))
    return replace(
        _unpaused(state),
        strikes=(),
        open=(),
        hold_kind=None,
        out_of="",
        memory_since=state.world + 1,  # also when this attempt is lost before its first world
        recovery=Recovery(rung=Rung.RELAUNCH, below_step=below, asked=True),
    )


def _restart(state: State, event: e.RestartRequested) -> Decision:
    if state.phase in ENDED or state.phase in ENDING:
        return _nothing(state, f"{event.by} asked to restart a run that is {state.phase}")
    reason, rung = f"restarted by {event.by}", Rung.RESTART
    if (node := event.without) is not None:
        if why := cordons.refusal(state, node):
            return _nothing(state, f"{event.by} asked to restart without node {node}: {why}")
        host = cordons.host_of(state, node) or ""
        cordon = e.HostCordoned(at=event.at, by=event.by, host=host, why=f"restarted without node {node}")
        state = cordons.changed(state, cordon)
        reason, rung = f"{reason} without node {node} ({host})", Rung.RELAUNCH
    return _anew(state, event.at, rung, reason)


def _anew(state: State, at: float, rung: Rung, reason: str) -> Decision:
    """A new world as soon as the one there is has ended; a recovery that is under way goes on, without its waits."""
    over = worlds.attempt_is_over(state)
    known = state.recovery
    if known is not None:
        # That the world which is starting needed a new attempt says nothing of the next one.
        done = state.phase is Phase.STARTING and known.rung is Rung.RELAUNCH
        rung = rung if done or rung is Rung.RELAUNCH else known.rung
        known = replace(known, rung=rung, backoff_s=0.0, in_process=False, culprits=())
    recovery = known or Recovery(rung=rung, asked=True)
    state = replace(state, recovery=recovery if state.phase is not Phase.LAUNCHING else known, reason=reason)
    match state.phase:
        case Phase.LAUNCHING:
            state, actions = worlds.end_attempt(state, at, Phase.RELAUNCHING, reason)
            return Decision(state=state, actions=actions, reason=reason)
        case Phase.STOPPING_WORLD | Phase.RELAUNCHING:
            return _nothing(state, f"{reason}: {state.phase} already, and no wait after it")
        case Phase.BACKING_OFF if over or rung is not Rung.RELAUNCH:
            return replace(waited(state, at), reason=reason)
        case Phase.BACKING_OFF:
            state, actions = worlds.end_attempt(state, at, Phase.RELAUNCHING, reason)
            return Decision(state=state, actions=actions, reason=reason)
        case _:
            return _world_ended(state, at, recovery, reason)


def _world_ended(state: State, at: float, recovery: Recovery, reason: str) -> Decision:
    if state.stopped == worlds.all_nodes(state):
        return moved(state, worlds.after_world(state, at), at, reason)
    gentle = _can_save(state)
    state, actions = worlds.stop_world(state, at, replace(recovery, saving=gentle), reason)
    return Decision(state=state, actions=actions, reason=f"{reason}{', saving first' if gentle else ''}")


def _cordon(state: State, event: e.HostCordoned) -> Decision:
    after = cordons.changed(state, event)
    if after is state:
        how = "cordoned" if event.cordoned else "let in"
        return _nothing(state, f"{event.by} asked for {event.host}: {how} already")
    if not event.cordoned:
        return Decision(state=after, reason=f"{event.host} may be given ranks again, {event.by} says")
    why = f" ({event.why})" if event.why else ""
    reason = f"{event.host} is given no ranks any more, {event.by} says{why}"
    if after.phase is Phase.LAUNCHING and cordons.here(after):
        return launching.refused(after, event.at)
    return Decision(state=after, reason=reason)


def _pin(state: State, event: e.CheckpointPinned) -> Decision:
    name = event.checkpoint
    save = next((c for c in state.checkpoints if c.name == name), None)
    if save is None or (save.given_up and event.pinned):
        why = "there is none" if save is None else "its deletion was ordered already"
        return _nothing(state, f"{event.by} asked to {'pin' if event.pinned else 'unpin'} {name}: {why}")
    saves = tuple(replace(c, pinned=event.pinned) if c is save else c for c in state.checkpoints)
    reason = f"{name} is {'kept for good' if event.pinned else 'kept as long as others are'}, {event.by} says"
    return Decision(state=replace(state, checkpoints=saves), reason=reason)


def _revised(state: State, event: e.SpecRevised) -> Decision:
    """Only while nothing runs by the old one, and only what is no shape: saves and worlds are of that."""
    shape, new = state.plan, event.plan
    fits = (shape.nodes, shape.ranks_per_node) == (new.nodes, new.ranks_per_node)
    if state.phase not in AT_REST or not fits or event.revision <= state.revision:
        return _nothing(state, f"{event.by} asked to change the spec of a run that is {state.phase}: it stays as it is")
    reason = f"{event.by} changed the spec: {', '.join(event.sets)}"
    return Decision(state=replace(state, plan=new, revision=event.revision), reason=reason)


def _drill(state: State, event: e.DrillRequested) -> Decision:
    if state.phase not in LIVE or event.rank is None or event.rank >= state.plan.nodes * state.plan.ranks_per_node:
        return _nothing(state, f"drill {event.drill} by {event.by}: nothing to inject into")
    order = InjectFault(
        attempt=state.attempt, world=state.world, drill=event.drill, rank=event.rank, number=event.number
    )
    return Decision(state=state, actions=(order,), reason=f"drill {event.drill} on rank {event.rank} by {event.by}")

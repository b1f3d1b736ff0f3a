"""What is done about what people ask and say?"""

from __future__ import annotations

from orchestrator.core import checkpoints, worlds
from orchestrator.core import events as e
from orchestrator.core.actions import Action, InjectFault, StopAfterStep
from orchestrator.core.asked import Asked
from orchestrator.core.ending import end
from orchestrator.core.policy import Rung
from orchestrator.core.replacing import replace
from orchestrator.core.silence import LIVE
from orchestrator.core.state import ENDED, Decision, Phase, Recovery, State, Taint


def asked(state: State, event: Asked) -> Decision:
    """Do it where that makes sense; where it does not, the reason says so."""
    match event:
        case e.StopRequested():
            return _stop(state, event)
        case e.ResumeRequested():
            return _resume(state, event)
        case e.DrillRequested():
            return _drill(state, event)
        case _:
            return Decision(state=state, reason=f"{event.by} asked for what is not done yet")


def _stop(state: State, event: e.StopRequested) -> Decision:
    if state.phase in ENDED:
        if state.phase is not Phase.HELD:
            return Decision(state=state, reason=f"{event.by} asked to stop a run that is {state.phase}")
        return end(state, Phase.STOPPED, event.at, f"stopped by {event.by} while held")
    if state.phase in (Phase.STOPPING, Phase.FINISHING) and not event.now:
        return Decision(state=state, reason=f"{event.by} asked to stop: already {state.phase}")
    reason = f"stopped by {event.by}"
    gentle = state.phase is Phase.TRAINING and state.entered and not event.now
    if gentle:
        state = worlds.enter(state, Phase.STOPPING, event.at, reason)
        actions: tuple[Action, ...] = (StopAfterStep(attempt=state.attempt, world=state.world),)
    else:
        grace_s = 5.0 if state.phase in LIVE and not event.now else 0.0
        state, actions = worlds.end_attempt(state, event.at, Phase.STOPPING, reason, grace_s=grace_s)
        state = replace(state, nagged=1)
    return Decision(state=state, actions=actions, reason=f"{reason}{', saving first' if gentle else ''}")


def _resume(state: State, event: e.ResumeRequested) -> Decision:
    if state.phase not in (Phase.HELD, Phase.STOPPED):
        return Decision(state=state, reason=f"{event.by} asked to resume a run that is {state.phase}")
    # A slip of the finger would give up the whole run; 0 says that this is meant.
    if event.from_step and not any(step <= event.from_step for step in checkpoints.usable_steps(state)):
        return Decision(state=state, reason=f"{event.by} asked to resume from step {event.from_step}: no such save")
    below = None if event.from_step is None else event.from_step + 1
    reason = f"resumed by {event.by}"
    closed = tuple(o.id for o in state.open)
    if below is not None:  # nothing later is to be trusted, by this world or by any after it
        mark = Taint(world=state.world, onset=event.at, step=below)
        state = replace(checkpoints.taint(state, mark), best_step=min(state.best_step, below - 1))
    state = replace(
        state,
        strikes=(),  # a person looked: the ladders begin anew
        open=(),
        hold_kind=None,
        memory_since=state.world + 1,  # also when this attempt is lost before its first world
        recovery=Recovery(rung=Rung.RELAUNCH, below_step=below, asked=True),
    )
    state, actions = worlds.launch(state, event.at, reason)
    return Decision(state=state, actions=actions, reason=reason, closed=closed)


def _drill(state: State, event: e.DrillRequested) -> Decision:
    if state.phase not in LIVE or event.rank is None or event.rank >= state.plan.nodes * state.plan.ranks_per_node:
        return Decision(state=state, reason=f"drill {event.drill} by {event.by}: nothing to inject into")
    order = InjectFault(
        attempt=state.attempt, world=state.world, drill=event.drill, rank=event.rank, number=event.number
    )
    return Decision(state=state, actions=(order,), reason=f"drill {event.drill} on rank {event.rank} by {event.by}")

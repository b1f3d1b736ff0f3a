"""How does a world begin and end? The moves between phases that every decision is made of.

Each function takes the state and the time and gives back the state and the actions of one move.
"""

from __future__ import annotations

from lastgood.skips import Skips
from orchestrator.core import checkpoints, cordons, history, interval, meter, origin
from orchestrator.core.actions import Action, CapPower, EndAttempt, Launch, StartWorld, StopAfterStep, StopWorld
from orchestrator.core.policy import Rung
from orchestrator.core.replacing import replace
from orchestrator.core.state import Phase, Recovery, State

Move = tuple[State, tuple[Action, ...]]

END_ATTEMPT_S = 60.0
"""time for ending an attempt before it is tried again: TERM, KILL, the sweep, and a slow scheduler"""

FIRST_START_TIMES = 4
"""more patience, before a person is asked, with a run that never came to its first step: nobody knows its start yet"""

INTERRUPTED = frozenset({Phase.STOPPING_WORLD, Phase.RELAUNCHING, Phase.HOLDING})
"""phases that a world which trains is ended for a fault by"""


def wait_s(state: State, phase: Phase) -> float | None:
    """How long a phase may last in silence; None for the phases that wait for a person."""
    plan = state.plan
    match phase:
        case Phase.LAUNCHING:
            return plan.launch_timeout_s
        case Phase.STARTING:
            return plan.start_timeout_s * (1 if state.entered else FIRST_START_TIMES)
        case Phase.TRAINING:
            return plan.unheard_s
        case Phase.STOPPING_WORLD:
            return plan.stop_grace_s if state.recovery is not None and state.recovery.saving else plan.stop_timeout_s
        case Phase.STOPPING | Phase.PAUSING:
            return plan.stop_grace_s
        case Phase.RELAUNCHING | Phase.FINISHING | Phase.HOLDING:
            return END_ATTEMPT_S
        case Phase.BACKING_OFF | Phase.HELD | Phase.PAUSED | Phase.SUCCEEDED | Phase.STOPPED:
            return None


def enter(state: State, phase: Phase, at: float, reason: str) -> State:
    """Go to a phase and set its deadline."""
    wait = wait_s(state, phase)
    fails = state.phase is Phase.TRAINING and phase in INTERRUPTED
    return replace(
        state,
        meter=meter.turned(state.meter, state.phase, at),
        history=_interrupted(state) if fails else state.history,
        phase=phase,
        reason=reason,
        since=at,
        nagged=0,
        deadline=None if wait is None else at + wait,
    )


def _interrupted(state: State) -> history.History:
    return history.interrupted(state.history, max(state.step, state.best_step), state.heard)


def all_nodes(state: State) -> tuple[int, ...]:
    """Indices of the nodes of an attempt."""
    return tuple(range(state.plan.nodes))


def launch(state: State, at: float, reason: str) -> Move:
    """Submit the next attempt."""
    fresh = replace(state, attempt=state.attempt + 1, joined=(), hosts=(), stopped=())
    return enter(fresh, Phase.LAUNCHING, at, reason), (launch_order(fresh),)


def launch_order(state: State) -> Launch:
    """The order that submits the newest attempt."""
    return Launch(attempt=state.attempt, exclude=cordons.names(state))


def start_world(state: State, at: float, reason: str) -> Move:
    """Start the next world from what the recovery allows."""
    state = interval.failed(state)
    fresh = replace(
        state,
        world=state.world + 1,
        candidates=tuple(c.name for c in checkpoints.candidates(state, state.recovery)),
        memory_since=_memory_since(state),
        fresh=origin.may_begin_fresh(state),
        in_process=state.recovery is not None and state.recovery.in_process,
        unread=(),
        stopped=(),
        finished=(),
        step=0,
        restarts=state.restarts + (1 if state.recovery and not state.recovery.asked else 0),
    )
    return enter(fresh, Phase.STARTING, at, reason), (start_order(fresh), *cap_order(fresh))


def _memory_since(state: State) -> int:
    """First world whose copies in memory may be restored by the next one.

    A copy never passed a probation, nor was it read back: where numbers are in doubt, none that was made until now is
    taken, of however early a step.
    """
    recovery = state.recovery
    if recovery is not None and (recovery.good_only or recovery.from_disk or recovery.asked):
        return state.world + 1
    return max(state.memory_since, *(taint.world + 1 for taint in state.taints), 1)


def share_w(state: State) -> float | None:
    """Watts of a GPU by the power budget; None: as much as it can."""
    return None if state.watts is None else state.watts / (state.plan.nodes * state.plan.ranks_per_node)


def cap_order(state: State) -> tuple[Action, ...]:
    """What every node has to know of the power budget; it is safe to be told again."""
    if state.watts is None or state.capping.refused:
        return ()
    return (CapPower(attempt=state.attempt, watts=share_w(state)),)


def start_order(state: State) -> StartWorld:
    """The order that starts the newest world; repeated, it is the same, whatever became known of checkpoints since."""
    return StartWorld(
        attempt=state.attempt,
        world=state.world,
        candidates=state.candidates,
        skips=state.skips,
        memory_since=state.memory_since,
        fresh=state.fresh,
        in_process=state.in_process,
        save_every=state.save_every,
        save_why=state.save_why,
    )


def stop_world(state: State, at: float, recovery: Recovery, reason: str) -> Move:
    """End the world, at once or after a save; what comes next is remembered."""
    stopping = enter(replace(state, recovery=recovery), Phase.STOPPING_WORLD, at, reason)
    return stopping, (stop_order(stopping),)


def stop_order(state: State) -> StopWorld | StopAfterStep:
    """The order that ends the newest world."""
    recovery = state.recovery
    if recovery is not None and recovery.saving:
        return StopAfterStep(attempt=state.attempt, world=state.world)
    if recovery is None or not recovery.in_process or state.nagged:  # asked once: then nobody is spared
        return StopWorld(attempt=state.attempt, world=state.world)
    return StopWorld(attempt=state.attempt, world=state.world, in_process=True, culprits=recovery.culprits)


def end_attempt(state: State, at: float, phase: Phase, reason: str, *, grace_s: float = 0.0) -> Move:
    """End everything of the attempt; `phase` says what for."""
    ending = enter(state, phase, at, reason)
    return ending, (replace(end_order(ending), grace_s=grace_s),)


def end_order(state: State) -> EndAttempt:
    """The order that ends the newest attempt, for what its phase says."""
    # A pause in the middle of a recovery may be short, and what is left in memory all that there is.
    paused = state.phase is Phase.PAUSING and state.recovery is not None and state.recovery.copied
    relaunch = state.phase is Phase.RELAUNCHING or paused
    return EndAttempt(attempt=state.attempt, why=state.reason, relaunch=relaunch)


def after_world(state: State, at: float) -> Move:
    """The world is gone: wait out the back-off, then start the next."""
    recovery = state.recovery
    assert recovery is not None, "a world was stopped for nothing"
    if recovery.rung is Rung.RELAUNCH:
        return end_attempt(state, at, Phase.RELAUNCHING, state.reason)
    if recovery.backoff_s > 0:
        return _back_off(state, at, recovery.backoff_s), ()
    return _next_world(state, at)


def after_attempt(state: State, at: float) -> Move:
    """No process is left: wait out the back-off, then launch the next attempt."""
    recovery = state.recovery
    gone = replace(state, joined=(), stopped=all_nodes(state))
    if recovery is not None and recovery.backoff_s > 0:
        return _back_off(gone, at, recovery.backoff_s), ()
    return launch(gone, at, state.reason)


def after_back_off(state: State, at: float) -> Move:
    """The wait is over."""
    return launch(state, at, state.reason) if attempt_is_over(state) else _next_world(state, at)


def _next_world(state: State, at: float) -> Move:
    """Start it, unless a host of this attempt was cordoned meanwhile: then it starts in another attempt."""
    here = cordons.here(state)
    if not here:
        return start_world(state, at, state.reason)
    recovery = state.recovery
    again = replace(state, recovery=None if recovery is None else replace(recovery, rung=Rung.RELAUNCH))
    return end_attempt(again, at, Phase.RELAUNCHING, f"{state.reason}; a new attempt, without {', '.join(here)}")


def attempt_is_over(state: State) -> bool:
    """No process of the newest attempt is left, and the next one is not launched yet."""
    return state.phase is Phase.BACKING_OFF and state.recovery is not None and state.recovery.rung is Rung.RELAUNCH


def _back_off(state: State, at: float, wait_s: float) -> State:
    return replace(enter(state, Phase.BACKING_OFF, at, state.reason), deadline=at + wait_s)


def skip_from(state: State, onset_step: int, last_step: int, margin_steps: int) -> State:
    """Never feed again what was fed from the onset to the last step, and a margin beyond."""
    fed = Skips(state.skips)
    window = (fed.data_index(onset_step), fed.data_index(max(last_step, onset_step) + margin_steps) + 1)
    return replace(state, skips=tuple(sorted({*state.skips, window})))


def outstanding(state: State) -> tuple[Action, ...]:
    """What must be under way in this phase: performed again after a crash, and when a wait runs out."""
    match state.phase:
        case Phase.LAUNCHING:
            return (launch_order(state),)
        case Phase.STARTING:
            return (start_order(state), *cap_order(state))
        case Phase.TRAINING:
            return (*interval.order(state), *cap_order(state))
        case Phase.STOPPING_WORLD:
            return (stop_order(state),)
        case Phase.RELAUNCHING | Phase.FINISHING | Phase.HOLDING:
            return (end_order(state),)
        case Phase.STOPPING | Phase.PAUSING:
            if state.nagged == 0 and state.stopped != all_nodes(state):
                return (StopAfterStep(attempt=state.attempt, world=state.world),)
            return (end_order(state),)
        case _:
            return ()

"""Which checkpoint may be trusted? States, taint, candidates for a restore, retention.

The bug that every supervisor has which filters at detection time only: a checkpoint saved after the onset of a fault
but verified after its detection. So taints are remembered, and every save is held against all of them at every step of
its life, by when it was *saved*.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.core import origin
from orchestrator.core.actions import DeleteCheckpoint
from orchestrator.core.events import WorldRestored
from orchestrator.core.policy import Rung
from orchestrator.core.replacing import replace
from orchestrator.core.state import Checkpoint, CheckpointState, Recovery, State, Taint

GOOD, VERIFIED = CheckpointState.GOOD, CheckpointState.VERIFIED
"""what every progress asks for"""
RESTORABLE = (CheckpointState.VERIFIED, CheckpointState.GOOD)
CANDIDATES_MAX = 5
"""how many saves a world may fall back through by itself; older ones are offered to the next world"""


def tainted(checkpoint: Checkpoint, taints: Iterable[Taint]) -> bool:
    """The save may hold what a fault left behind."""
    return any(
        checkpoint.world <= taint.world
        and (checkpoint.saved_at >= taint.onset if taint.step is None else checkpoint.step >= taint.step)
        for taint in taints
    )


def _judged(checkpoint: Checkpoint, taints: Iterable[Taint]) -> Checkpoint:
    if checkpoint.state is CheckpointState.CORRUPT or not tainted(checkpoint, taints):
        return checkpoint
    return replace(checkpoint, state=CheckpointState.TAINTED)


def add(state: State, checkpoint: Checkpoint) -> State:
    """Remember a new save; hearing of it twice changes nothing."""
    if any(known.name == checkpoint.name for known in state.checkpoints):
        return state
    saves = sorted((*state.checkpoints, _judged(checkpoint, state.taints)), key=lambda c: (c.step, c.world))
    return replace(state, checkpoints=tuple(saves))


def taint(state: State, mark: Taint) -> State:
    """Everything saved inside the fault is suspect from now on, whatever else is learned about it."""
    saves = tuple(_judged(checkpoint, (mark,)) for checkpoint in state.checkpoints)
    return replace(state, taints=(*state.taints, mark), checkpoints=saves)


def _with_state(state: State, name: str, new: CheckpointState, *, only_from: tuple[CheckpointState, ...]) -> State:
    saves = tuple(replace(c, state=new) if c.name == name and c.state in only_from else c for c in state.checkpoints)
    return replace(state, checkpoints=saves)


def verified(state: State, name: str) -> State:
    """It was read back whole. A tainted one stays tainted; the one to begin from is good, for a person chose it."""
    first = origin.origin(state)
    new = CheckpointState.GOOD if first is not None and first.name == name else CheckpointState.VERIFIED
    return _with_state(state, name, new, only_from=(CheckpointState.COMMITTED,))


def corrupt(state: State, name: str) -> State:
    """Its bytes are wrong, which nothing heals."""
    return _with_state(state, name, CheckpointState.CORRUPT, only_from=tuple(CheckpointState))


def deleted(state: State, name: str) -> State:
    """It is gone from storage."""
    return replace(state, checkpoints=tuple(c for c in state.checkpoints if c.name != name))


def restored(state: State, event: WorldRestored) -> State:
    """The newest world goes on from a save, from copies in memory, or from nothing."""
    parents = {world: (parent, step) for world, parent, step in state.parents}
    save = next((c for c in state.checkpoints if c.name == event.checkpoint and c.world < state.world), None)
    if save is not None:
        parents[state.world] = (save.world, save.step)
    elif event.copied_in is not None and event.copied_in < state.world:
        parents[state.world] = (event.copied_in, event.step)
    saved = {c.world for c in state.checkpoints}
    kept: list[tuple[int, int, int]] = []
    for world in sorted({*saved, state.world}):
        parent = parents.get(world)
        while parent is not None and parent[0] not in saved:
            parent = parents.get(parent[0])
        if parent is not None:
            kept.append((world, *parent))
    return replace(state, parents=tuple(kept))


def _line(state: State) -> dict[int, int]:
    """How the newest world came about: the worlds it continues, each with the last step that it continues of it."""
    parents = {world: (parent, step) for world, parent, step in state.parents}
    line = {state.world: state.step}
    parent = parents.get(state.world)
    while parent is not None:
        line[parent[0]] = parent[1]
        parent = parents.get(parent[0])
    return line


def promote(state: State, suspect_since: int | None) -> State:
    """Verified saves whose probation the run has passed become good; nothing from a suspect step on does.

    Only what the newest world continues: its health says nothing of a save that was left aside when it went back to an
    older one. That one's next step was never seen.
    """

    proved_step = state.step - state.plan.probation_steps
    if suspect_since is not None:
        proved_step = min(proved_step, suspect_since - 1)

    # Asked at every progress; nearly always nothing has changed.
    verified = [c for c in state.checkpoints if c.state is VERIFIED]
    if not verified or verified[0].step > proved_step:
        return state
    line = _line(state)
    good = {c.name for c in verified if c.step <= min(proved_step, line.get(c.world, -1))}
    if not good:
        return state
    saves = tuple(replace(c, state=GOOD) if c.name in good else c for c in state.checkpoints)
    return replace(state, checkpoints=saves)


def newest_good(state: State) -> Checkpoint | None:
    """What the project is named after."""
    return next((c for c in reversed(state.checkpoints) if c.state is CheckpointState.GOOD), None)


def candidates(state: State, recovery: Recovery | None) -> tuple[Checkpoint, ...]:
    """What the next world may restore, newest first; the ranks take the first that is whole when they read it."""
    trusted = (CheckpointState.GOOD,) if recovery and recovery.good_only else RESTORABLE
    below = recovery.below_step if recovery else None
    fit = [c for c in reversed(state.checkpoints) if c.state in trusted and (below is None or c.step < below)]
    back = min(recovery.further_back if recovery else 0, max(0, len(fit) - 1))
    return tuple(fit[back : back + CANDIDATES_MAX])


def awaited(state: State, recovery: Recovery | None) -> bool:
    """A save that is still being read back is worth the wait: nothing else is there, or a person is in no hurry."""
    if recovery is not None and (recovery.good_only or (recovery.copied and recovery.rung is not Rung.RELAUNCH)):
        return False  # being read back does not make it good, and copies in memory are newer, if none is lost
    below = recovery.below_step if recovery else None
    unread = [c for c in state.checkpoints if c.state is CheckpointState.COMMITTED and c.world != origin.WORLD]
    newest = next((c for c in reversed(unread) if below is None or c.step < below), None)
    if newest is None:
        return False
    ready = candidates(state, recovery)
    asked = recovery is not None and recovery.asked
    return not ready or (asked and (newest.step, newest.world) > (ready[0].step, ready[0].world))


def usable_steps(state: State) -> tuple[int, ...]:
    """Steps that a person may go back to, oldest first: what is restorable, and what the run began from."""
    first = origin.origin(state) if origin.is_unread(state) else None
    return tuple(c.step for c in state.checkpoints if c.state in RESTORABLE or c is first)


def surplus(state: State) -> tuple[DeleteCheckpoint, ...]:
    """What retention gives up: all older than the kept good ones, and suspect ones once a newer good one exists.

    Never what the run began from, for that is another run's, what is still being read back, nor what a person pinned.
    """
    good = [c for c in state.checkpoints if c.state is GOOD]
    if len(good) < state.plan.keep:
        return ()
    if good[-1] is state.checkpoints[0]:
        return ()  # asked at every progress; nearly always nothing is older
    oldest_kept, newest = good[-state.plan.keep], good[-1]
    useless = (CheckpointState.TAINTED, CheckpointState.CORRUPT)
    found = [
        DeleteCheckpoint(checkpoint=c.name)
        for c in state.checkpoints
        if (c.step < oldest_kept.step or (c.state in useless and c.step < newest.step))
        and c.world != origin.WORLD
        and c.state is not CheckpointState.COMMITTED
        and not c.pinned
    ]
    return tuple(found)


def given_up(state: State, orders: tuple[DeleteCheckpoint, ...]) -> State:
    """Their deletion is ordered: whatever is wanted of them from now on comes too late."""
    names = {order.checkpoint for order in orders}
    saves = state.checkpoints
    if all(c.given_up for c in saves if c.name in names):
        return state
    return replace(state, checkpoints=tuple(replace(c, given_up=True) if c.name in names else c for c in saves))


def comes_too_late(state: State, checkpoint: Checkpoint) -> bool:
    """A save is heard of only now that retention has given up all of its age, itself perhaps among them."""
    good = [c for c in state.checkpoints if c.state is CheckpointState.GOOD]
    known = any(c.name == checkpoint.name for c in state.checkpoints)
    return not known and len(good) >= state.plan.keep and checkpoint.step < good[-state.plan.keep].step

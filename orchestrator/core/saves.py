"""What does news of a checkpoint change? How far it is trusted, and whether a world that waited for it may begin."""

from __future__ import annotations

from monitors.incidents import Kind
from orchestrator.core import checkpoints, interval, origin, worlds
from orchestrator.core import events as e
from orchestrator.core.actions import DeleteCheckpoint, VerifyCheckpoint
from orchestrator.core.recover import is_reading, moved, waited
from orchestrator.core.replacing import replace
from orchestrator.core.state import Checkpoint, CheckpointState, Decision, Phase, State


def all_here(state: State) -> bool:
    """The attempt waits for no agent any more, and its first world has not begun."""
    return state.phase is Phase.LAUNCHING and state.joined == worlds.all_nodes(state)


def first_world(state: State, at: float) -> Decision:
    """The attempt has its agents: its first world begins, unless what it begins from is still being read back."""
    if origin.is_unread(state):
        return Decision(state=state, reason="all agents are here; the checkpoint to begin from is being read back")
    return moved(state, worlds.start_world(state, at, "all agents are here"), at, "all agents are here")


def on_checkpoint(
    state: State,
    event: e.CheckpointCommitted | e.CheckpointVerified | e.CheckpointRefused | e.CheckpointDeleted,
) -> Decision:
    """A save was committed, read back, refused or deleted."""
    match event:
        case e.CheckpointCommitted():
            return _committed(state, event)
        case e.CheckpointVerified():
            return _read_back(checkpoints.verified(state, event.checkpoint), event.at)
        case e.CheckpointRefused():
            return _read_back(
                checkpoints.corrupt(state, event.checkpoint), event.at, f"{event.checkpoint}: {event.why}"
            )
        case e.CheckpointDeleted():
            return Decision(state=checkpoints.deleted(state, event.checkpoint))


def _read_back(state: State, at: float, reason: str = "") -> Decision:
    """What is known of a checkpoint now: agents that are all here, or the next world, may have waited for it."""
    if all_here(state):
        return first_world(state, at)
    if is_reading(state):
        return waited(state, at)
    return Decision(state=state, reason=reason)


def saved(event: e.CheckpointCommitted) -> Checkpoint:
    """The checkpoint that an event tells of."""
    return Checkpoint(
        name=event.checkpoint,
        step=event.step,
        world=event.world,
        saved_at=event.saved_at,
        bytes=event.bytes,
        path=event.path,
    )


def _committed(state: State, event: e.CheckpointCommitted) -> Decision:
    save = saved(event)
    if checkpoints.comes_too_late(state, save):
        order = DeleteCheckpoint(checkpoint=save.name)
        return Decision(state=state, actions=(order,), reason=f"{save.name} comes too late to be kept")
    known = any(c.name == save.name for c in state.checkpoints)
    state = replace(checkpoints.add(state, save), entered=True)
    state, told = (state, ()) if known else interval.measured(state, event)
    healed = tuple(o.id for o in state.open if o.incident.kind is Kind.SAVE_FAILED)
    if healed:
        state = replace(state, open=tuple(o for o in state.open if o.id not in healed))
    # One heard of twice and read back already is not read again.
    unread = (CheckpointState.COMMITTED, CheckpointState.TAINTED)
    asked = any(c.name == save.name and c.state in unread for c in state.checkpoints)
    orders = (VerifyCheckpoint(checkpoint=save.name),) if asked else ()
    reason = f"a save every {state.save_every} steps from now on: {state.save_why}" if told else ""
    return Decision(state=state, actions=(*orders, *told), reason=reason, closed=healed)

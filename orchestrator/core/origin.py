"""Which checkpoint of another run does this one begin from? It is read back before the first world starts.

It is older than all of this run's worlds, so that no fault of theirs taints it, and not this run's to delete.
"""

from __future__ import annotations

from orchestrator.core.state import Checkpoint, CheckpointState, State

WORLD = 0
"""of such a checkpoint: the run's own worlds begin at 1"""


def origin(state: State) -> Checkpoint | None:
    """The checkpoint that the run begins from; None for a run that begins from scratch."""
    return next((save for save in state.checkpoints if save.world == WORLD), None)


def may_begin_fresh(state: State) -> bool:
    """Starting from scratch would throw nothing away that counts."""
    return origin(state) is None and (not state.entered or state.best_step <= state.plan.fresh_steps_max)


def is_unread(state: State) -> bool:
    """It is still being read back: no world may start before."""
    first = origin(state)
    return first is not None and first.state is CheckpointState.COMMITTED

"""What that is asked cannot be done now, and why? Refused before it is in the journal, in words for whoever asked."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.core import checkpoints
from orchestrator.core.silence import LIVE
from orchestrator.core.state import Phase, State
from orchestrator.drills import DRILLS
from orchestrator.requests import AskError


def refuse_step(state: State, from_step: int | None) -> None:
    """Raises AskError for a step to resume from that no checkpoint reaches back to, and that is not 0: afresh."""
    there = checkpoints.usable_steps(state)
    if from_step and all(step > from_step for step in there):
        known = ", ".join(map(str, there)) or "none"
        raise AskError(
            "usage",
            f"{state.run} has no verified checkpoint of step {from_step} or older; there is: {known} "
            f"(lastgood ckpt ls {state.run}). Nothing was changed; --from-step 0 begins afresh",
        )


def refuse_rank(state: State, rank: int | None) -> None:
    """Raises AskError for a rank that the run does not have."""
    ranks = state.plan.nodes * state.plan.ranks_per_node
    if rank is not None and not 0 <= rank < ranks:
        there = "there is only rank 0" if ranks == 1 else f"there are 0 to {ranks - 1}"
        raise AskError("usage", f"{state.run} has no rank {rank}; {there}")


def refuse_drill(state: State, drill: str, rank: int | None, has_started: Callable[[int], bool] | None = None) -> None:
    """Raises AskError for a drill that could do nothing now; `has_started`: whether a rank's process is there."""
    refuse_rank(state, rank)
    row = DRILLS.get(drill)
    if rank is None or row is None:
        return
    later = f"ask again once it is RUNNING (lastgood status {state.run})"
    if state.phase not in LIVE:
        raise AskError("not_running", f"{state.run} has no rank that could fail now ({state.reason}); {later}")
    trains = state.phase is Phase.TRAINING
    if row.inside and not (trains and state.entered):
        why = f"the drill {drill} is done by the SDK (`import lastgood`), in the rank, between two steps"
        others = ", ".join(one.name for one in DRILLS.values() if one.by_agent and not one.inside)
        what = "its ranks do not use it" if trains else f"no step was taken yet: {later}"
        raise AskError("usage" if trains else "not_running", f"{state.run}: {why}; {what}. Without it: {others}")
    if not trains and has_started is not None and not has_started(rank):
        raise AskError("not_yet", f"rank {rank} of {state.run} is not there yet ({state.reason}); {later}")

"""What can a person ask of the supervisor? The questions of `lastgood submit`, `stop`, `resume`, `drill`, ..."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from monitors import wire
from orchestrator.core import checkpoints
from orchestrator.core.silence import LIVE
from orchestrator.core.state import Phase, State
from orchestrator.drills import DRILLS


class AskError(Exception):
    """What a person asks cannot be; the text says what and why."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """Who is there?"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """Take in a run."""

    spec: dict[str, Any]
    """resolved"""
    yaml: str = ""
    """as the user wrote it"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End a run; after a last checkpoint, unless `now`."""

    run: str
    now: bool = False
    by: str = "a person"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Let a stopped or held run go on."""

    run: str
    from_step: int | None = None
    by: str = "a person"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """Inject a fault; without a rank it is only noted, and whoever asks does it himself."""

    run: str
    drill: str
    rank: int | None = None
    by: str = "a person"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """How does each rank stand now?"""

    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown:
    """Leave the runs to themselves: they train on, and nobody starts a supervisor until one is asked for."""


Request = Ping | Submit | Stop | Resume | Drill | Ranks | Shutdown
VERBS: dict[str, type] = {kind.__name__.lower(): kind for kind in (Ping, Submit, Stop, Resume, Drill, Ranks, Shutdown)}


def parse(body: Mapping[str, Any]) -> Request:
    """The request in a line of the door. Raises AskError when it is none."""
    fields = {name: value for name, value in body.items() if name not in ("ask", "token")}
    try:
        request: Request = wire.decode({wire.TAG: body.get("ask"), **fields}, VERBS)
    except KeyError:
        raise AskError("usage", f"nobody can ask {body.get('ask')!r}; there is {', '.join(VERBS)}") from None
    except (TypeError, ValueError) as error:
        raise AskError("usage", f"{body.get('ask')}: {error}") from None
    return request


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

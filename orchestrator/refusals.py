"""What that is asked cannot be done now, and why? Refused before it is in the journal, in words for whoever asked."""

from __future__ import annotations

import re
from collections.abc import Callable

from orchestrator.core import checkpoints, cordons, remarks
from orchestrator.core.asked import BUDGETS
from orchestrator.core.recover import ENDING
from orchestrator.core.silence import LIVE
from orchestrator.core.state import ENDED, Phase, State
from orchestrator.drills import DRILLS
from orchestrator.requests import AskError

WORDS_MAX = 2000
"""of a note: it stands in the journal for good, and in every answer about its incident"""
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
"""RFC 1123, and the `_` that some sites use"""


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


def words(text: str, *, needed: bool = False) -> str:
    """What somebody wrote, fit for a journal and a screen. Raises AskError when it is too long, or missing."""
    said = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    if needed and not said:
        raise AskError("usage", "a note needs words")
    if len(said) > WORDS_MAX:
        raise AskError("usage", f"{len(said)} characters are too many: at most {WORDS_MAX}")
    return said


def refuse_pause(state: State, by: str) -> None:
    """Raises AskError for a run that does not go on, and for one that is paused already."""
    if state.phase in (Phase.PAUSING, Phase.PAUSED):
        if by in BUDGETS or state.paused_by not in BUDGETS:
            raise AskError("running", f"{state.run} is {state.phase} already, by {state.paused_by}")
    elif state.phase in ENDED:
        raise AskError("not_running", f"{state.run} is {state.phase} ({state.reason}): nothing is there to pause")
    elif state.phase in ENDING:
        raise AskError("not_running", f"{state.run} is {state.phase} ({state.reason}): it ends already")


def refuse_resume(state: State, by: str) -> None:
    """Raises AskError for a run that is complete, and for a budget that did not pause it."""
    if state.phase is Phase.SUCCEEDED:
        raise AskError("not_running", f"{state.run} is complete: there is nothing to resume")
    if by in BUDGETS and state.paused_by not in BUDGETS:
        raise AskError("not_running", f"{state.run} is {state.phase}: only a person lets it go on")


def refuse_restart(state: State, without: int | None) -> None:
    """Raises AskError for a run that ends, and for a node that cannot be left out."""
    if state.phase in ENDING:
        raise AskError("not_running", f"{state.run} is {state.phase} ({state.reason}): it ends already")
    if without is None:
        return
    if not 0 <= without < state.plan.nodes:
        there = "there is only node 0" if state.plan.nodes == 1 else f"there are 0 to {state.plan.nodes - 1}"
        raise AskError("usage", f"{state.run} has no node {without}; {there}")
    if why := cordons.refusal(state, without):
        raise AskError(
            "usage",
            f"{state.run} cannot be restarted without node {without}: {why}. Nothing was changed; possible are "
            f"lastgood restart {state.run} (a new world here), and lastgood stop {state.run}",
        )


def refuse_cordon(state: State, host: str, cordoned: bool) -> None:
    """Raises AskError for no name of a host, and where the scheduler has no other host."""
    if not HOST.fullmatch(host):
        raise AskError("usage", f"{host[:80]!r} is no name of a host")
    if cordoned and not state.plan.excludes:
        raise AskError(
            "usage",
            f"{host} cannot be kept from {state.run}: its scheduler has no other host to give. "
            f"Possible is lastgood pause {state.run}",
        )


def refuse_pin(state: State, name: str, pinned: bool) -> None:
    """Raises AskError for a checkpoint that is not there, or is being deleted."""
    save = next((c for c in state.checkpoints if c.name == name), None)
    if save is None:
        known = ", ".join(c.name for c in state.checkpoints) or "none"
        raise AskError("not_found", f"{state.run} has no checkpoint {name[:200]}; there is: {known}")
    if save.given_up and pinned:
        raise AskError("usage", f"{name} cannot be kept: retention has ordered its deletion already")


def refuse_incident(state: State, incident: str) -> None:
    """Raises AskError for an incident that the run did not have."""
    if not remarks.is_known(state, incident):
        there = f"there is i1 to i{state.incidents}" if state.incidents else "it had none"
        raise AskError("not_found", f"{state.run} had no incident {incident[:80]!r}; {there}")


def refuse_resolve(state: State, incident: str) -> None:
    """Raises AskError for an incident that is not for a person to end."""
    if why := remarks.irresoluble(state, incident):
        raise AskError("usage", f"{incident} of {state.run} cannot be resolved: {why}")

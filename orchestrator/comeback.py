"""Does a run come back? Decided from what `status`, `story` and `ckpt ls` say of a trial of it, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

DRILL = "kill"
"""It needs nothing of the script, and whatever ends a process from outside looks like it."""
SAVE_EVERY_STEPS = 5
"""A save is to be there soon, and steps long enough to be seen between two."""
STEADY_S = 10.0
"""that ranks without steps must have lived before the fault, and again after it: most failures come at the start"""
UNTOLD_S = 60.0
"""the same of a program that may use the SDK, but was not heard to: importing torch and building a model take time"""
ENDED = ("SUCCEEDED", "STOPPED", "HELD")
USABLE = ("verified", "good")

Plain = Mapping[str, Any]


class Stage(StrEnum):
    """How far a probe is."""

    WAITS = "waits"
    KILL = "kill"
    """now is the moment for the fault"""
    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far, and why; of one that waits: what for."""

    stage: Stage
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One look at the probe's run; the documents are those of docs/contract.md."""

    at: float
    status: Plain
    incidents: Sequence[Plain]
    worlds: Sequence[Plain]
    checkpoints: Sequence[Plain]
    kills: int
    """that were asked for so far"""
    spoke: bool
    """a rank of the newest world wrote something"""
    quiet_s: float | None
    """how long ranks that tell no step must have lived; None: a pattern reads their steps, so one is waited for"""

    @property
    def uses_sdk(self) -> bool:
        """Whether the script was heard to use the SDK, in any world."""
        return any(world["entered_at"] is not None for world in self.worlds)

    @property
    def newest(self) -> Plain | None:
        """The world that was ordered last."""
        return self.worlds[-1] if self.worlds else None

    def world(self, number: int | None) -> Plain | None:
        """The world of this number."""
        return next((one for one in self.worlds if one["number"] == number), None)

    @property
    def fault(self) -> Plain | None:
        """The incident of the kill that counts: with the SDK, one that struck a world which had taken a step."""
        for one in reversed(self.incidents):
            struck = self.world(one["world"])
            if one["drill"] != DRILL or struck is None:
                continue
            if not self.uses_sdk or struck["first_step_at"] is not None:
                return one
        return None


def judged(seen: Seen) -> Standing:
    """How the probe stands. Total: any look is one of the stages."""
    fault, state = seen.fault, seen.status["state"]
    if fault is not None and _is_back(seen, fault):
        return _returned(seen, fault)
    if state in ENDED:
        return Standing(stage=Stage.FAILED, why=_ended(seen, fault))
    if fault is not None:
        return Standing(stage=Stage.WAITS, why=_awaited(seen, fault))
    if seen.kills > sum(one["drill"] == DRILL for one in seen.incidents):
        return Standing(stage=Stage.WAITS, why="the fault to be noticed")
    return _before(seen)


def _before(seen: Seen) -> Standing:
    """No fault yet: it is time for one as soon as there is something to come back to."""
    state, step = seen.status["state"], seen.status["step"]
    if state == "STARTING" and _is_steady(seen, seen.quiet_s):
        return Standing(stage=Stage.KILL, why="its ranks live and tell no steps")
    if state != "RUNNING" or step < 1:
        what = "a first step" if state in ("PENDING", "STARTING", "RUNNING") else "it to train"
        return Standing(stage=Stage.WAITS, why=f"{what} ({seen.status['reason']})")
    if not seen.uses_sdk:
        return Standing(stage=Stage.KILL, why=f"it trains, at step {step}")
    usable = [one["step"] for one in seen.checkpoints if one["state"] in USABLE and one["world"] > 0]
    if not usable:
        return Standing(stage=Stage.WAITS, why=f"a save that was read back (it is at step {step})")
    return Standing(stage=Stage.KILL, why=f"it trains, at step {step}, and can go back to step {max(usable)}")


def _is_steady(seen: Seen, quiet_s: float | None) -> bool:
    world = seen.newest
    if quiet_s is None or world is None or world["ended_at"] is not None:
        return False
    return seen.spoke and not seen.uses_sdk and seen.at - world["ordered_at"] >= quiet_s


def tells_steps(seen: Seen, fault: Plain) -> bool:
    """Whether a step of the world that was struck was heard of."""
    struck = seen.world(fault["world"])
    return struck is not None and struck["first_step_at"] is not None


def _is_back(seen: Seen, fault: Plain) -> bool:
    if fault["resumed_world"] is None:
        return False
    if tells_steps(seen, fault):
        return fault["resolved"] is not None and fault["phases_s"]["total"] is not None
    newer = seen.newest is not None and seen.newest["number"] > fault["world"]
    return seen.status["state"] == "SUCCEEDED" or (newer and _is_steady(seen, STEADY_S))


def _returned(seen: Seen, fault: Plain) -> Standing:
    if seen.uses_sdk and restored(seen, fault) is None:
        return Standing(
            stage=Stage.FAILED,
            why=f"it began from scratch, though a save of it was verified: {fault['steps_lost']} steps lost",
        )
    if not tells_steps(seen, fault):
        return Standing(stage=Stage.PASSED, why="its ranks live again, and write")
    return Standing(stage=Stage.PASSED, why=f"it trains on, past step {fault['step']}, where the fault struck")


def restored(seen: Seen, fault: Plain) -> str | None:
    """What the world after the fault went on from; None: nothing, or by means of the script's own."""
    world = seen.world(fault["resumed_world"])
    if world is None:
        return None
    if world["copied_in"] is not None:
        return f"copies in memory, of step {world['from_step']}"
    return None if world["checkpoint"] is None else f"checkpoint {world['checkpoint']}"


def _awaited(seen: Seen, fault: Plain) -> str:
    if not tells_steps(seen, fault):
        return f"its ranks to live and write again ({seen.status['reason']})"
    return f"a step past {fault['step']}, where the fault struck ({seen.status['reason']})"


def _ended(seen: Seen, fault: Plain | None) -> str:
    state, reason = seen.status["state"], seen.status["reason"]
    when = "before a fault could be injected" if fault is None else "after the fault"
    if state == "SUCCEEDED":
        return f"it was complete at step {seen.status['step']}, {when}: give it more steps"
    if state == "STOPPED":
        return f"somebody stopped it, {when}: {reason}"
    return f"it was given up, {when}: {reason}"


def unjudged(seen: Seen) -> list[str]:
    """What a probe that passed could not see, and what would let it."""
    fault = seen.fault
    if fault is None or seen.uses_sdk:
        return []
    own = "whether its state came back: it resumes by means of its own, which only a script with the SDK tells of"
    if tells_steps(seen, fault):
        return [own]
    return [own, "steps, and how many were lost: a pattern that reads them from the log does (progress.pattern)"]

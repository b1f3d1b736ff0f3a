"""At which pace did a run come along so far, and what did its interruptions cost it? What a forecast is made from.

Kept in the state, so that a forecast costs no walk over the journal: of the pace some blocks of steps, twice as long
whenever there are too many of them; of interruptions the newest.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.core.replacing import replace

BLOCKS = 32
"""enough for a spread, and a kilobyte of the journal"""
KEPT = 32
"""interruptions whose costs are remembered"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setback:
    """What one interruption cost."""

    down_s: float
    """from the last progress before it to the first step after it"""
    steps: int
    """trained before, and to be trained again"""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The run so far, for a forecast."""

    steps: tuple[int, ...] = ()
    """of each block, the oldest first"""
    seconds: tuple[float, ...] = ()
    """that it took, saves and evaluations included"""
    every: int = 1
    """steps of a block, at least"""
    step: int = 0
    """where the block under way began, and `at`"""
    at: float = 0.0
    start_s: float | None = None
    """from ordering the first world to its first step"""
    setbacks: tuple[Setback, ...] = ()
    interruptions: int = 0
    """ever; the newest of them are `setbacks`"""
    lost_step: int = 0
    """the last one before the interruption that is being recovered from, and `lost_at`"""
    lost_at: float | None = None
    """None: nothing was interrupted"""


def stepped(history: History, step: int, at: float) -> History:
    """The world that trains is known to have finished `step`."""
    done = step - history.step
    if done < history.every or at <= history.at:
        return history
    steps, seconds = (*history.steps, done), (*history.seconds, round(at - history.at, 3))
    every = history.every
    if len(steps) == BLOCKS:
        steps = tuple(a + b for a, b in zip(steps[::2], steps[1::2], strict=True))
        seconds = tuple(round(a + b, 3) for a, b in zip(seconds[::2], seconds[1::2], strict=True))
        every *= 2
    return replace(history, steps=steps, seconds=seconds, every=every, step=step, at=at)


def began(history: History, *, step: int, at: float, start_s: float, restored: int, fault: bool) -> History:
    """A world took its first step, `start_s` after it was ordered and from the state of step `restored`.

    `fault`: it follows another because something failed, and not because a person asked for it.
    """
    if history.start_s is None:
        history = replace(history, start_s=round(start_s, 3))
    if history.lost_at is not None and fault:
        cost = Setback(down_s=round(max(0.0, at - history.lost_at), 3), steps=max(0, history.lost_step - restored))
        setbacks = (*history.setbacks, cost)[-KEPT:]
        history = replace(history, setbacks=setbacks, interruptions=history.interruptions + 1)
    return replace(history, step=step, at=at, lost_at=None)


def interrupted(history: History, step: int, at: float) -> History:
    """The world that trains is about to be ended: the last step heard of, and when."""
    return replace(history, lost_step=step, lost_at=at)

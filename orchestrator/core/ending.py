"""How does a run come to rest? No process of it is left; what it is left in."""

from __future__ import annotations

from monitors.incidents import Kind
from orchestrator.core import worlds
from orchestrator.core.replacing import replace
from orchestrator.core.state import Decision, Phase, State


def end(state: State, phase: Phase, at: float, reason: str) -> Decision:
    """The run rests in `phase`, one of ENDED; what outlives the attempt of one that may go on stays open."""
    kept = tuple(o for o in state.open if _outlives(o.incident.kind, phase))
    closed = tuple(o.id for o in state.open if o not in kept)
    state = replace(worlds.enter(state, phase, at, reason), joined=(), open=kept)
    return Decision(state=state, reason=reason, closed=closed)


def _outlives(kind: Kind, phase: Phase) -> bool:
    return phase is Phase.HELD or (phase is Phase.PAUSED and kind is not Kind.NODE_UNSEEN)

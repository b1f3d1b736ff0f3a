"""How does a run come to rest? No process of it is left; what it is left in."""

from __future__ import annotations

from orchestrator.core import worlds
from orchestrator.core.replacing import replace
from orchestrator.core.state import Decision, Phase, State


def end(state: State, phase: Phase, at: float, reason: str) -> Decision:
    """The run rests in `phase`, one of ENDED; what is open of a held run stays so for the person who looks at it."""
    closed = tuple(o.id for o in state.open) if phase is not Phase.HELD else ()
    kept = state.open if phase is Phase.HELD else ()
    state = replace(worlds.enter(state, phase, at, reason), joined=(), open=kept)
    return Decision(state=state, reason=reason, closed=closed)

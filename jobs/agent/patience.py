"""When does an agent believe that it is not wanted? Healthy workers must not end for a slip of whoever supervises."""

from __future__ import annotations

from jobs.agent.orders import Refusal, Refused

UNKNOWN_S = 600.0
"""of being told that the run is not known: a state folder that is being restored, or mounted, is there by then"""
BETWEEN_S = 5.0
"""counted at most between two refusals, which come every 2 s: time in which nobody refused says nothing"""


class Patience:
    """Weighs refusals."""

    def __init__(self) -> None:
        self._welcomes = 0
        self._refused_at: float | None = None
        self._unknown_s = 0.0

    def ends(self, refused: Refused, now: float, welcomes: int) -> bool:
        """Whether to leave because of this refusal; `welcomes` counts how often the agent was wanted so far."""
        since, self._refused_at = self._refused_at, now
        if welcomes != self._welcomes:
            self._welcomes, self._unknown_s, since = welcomes, 0.0, None
        match refused.cause:
            case Refusal.OVER:
                return True
            case Refusal.TOKEN:
                return False  # read anew each time: one that was changed is right the next time
            case Refusal.UNKNOWN:
                self._unknown_s += 0.0 if since is None else min(now - since, BETWEEN_S)
                return self._unknown_s >= UNKNOWN_S

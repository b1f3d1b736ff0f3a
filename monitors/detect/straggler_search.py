"""What was asked when steps became slower, and what is known so far?"""

from __future__ import annotations

from dataclasses import dataclass, field

from monitors.detect.straggler_arrivals import OwnTimes
from monitors.signals import CollectivesLooked


@dataclass(slots=True)
class Search:
    """One question: who made the steps slower since `since`?"""

    since: int | None
    """None: nobody became slower; is one slow from the start?"""
    onset_at: float
    round: int = 0
    steps_left: int = 0
    """before the next look"""
    asked_at: float | None = None
    wanted: set[int] = field(default_factory=set)
    answers: dict[int, CollectivesLooked] = field(default_factory=dict)
    own: OwnTimes = field(default_factory=dict)
    """of all looks so far"""
    short: int = 0
    """looks whose recorders did not reach back over enough steps"""

    @property
    def needed(self) -> int:
        """Steps: a change of pace has shown already that something is wrong, a first look at a run has not."""
        return 3 if self.since is not None else 8

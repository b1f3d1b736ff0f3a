"""How long do the jumps of this run take when they come back by themselves?

A run that sat for twenty rows on a plateau and came back will do so again: another jump of that height is given more
time. Heights are relative to the level before the jump.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryConfig:
    """Counts are rows."""

    episodes: int = 8
    """the newest that are remembered"""
    rows_max: int = 50
    """longer ones are no spikes: they did harm, and teach no patience"""
    band: float = 1.5
    """heights within this factor are alike"""
    patience: float = 1.5
    """times as long as it took before, then it is another matter"""


class Recoveries:
    """Remembers the shape of what came back."""

    def __init__(self, config: RecoveryConfig) -> None:
        self.config = config
        self._episodes: deque[tuple[float, ...]] = deque(maxlen=config.episodes)

    def learn(self, heights: Sequence[float]) -> None:
        """An episode that is over, row by row."""
        if len(heights) <= self.config.rows_max:
            self._episodes.append(tuple(heights))

    def explain(self, heights: Sequence[float], now: float) -> bool:
        """Earlier ones were at this height for as long, and came back all the same."""
        known = max((self._rows_at(now, episode) for episode in self._episodes), default=0)
        return self._rows_at(now, heights) < self.config.patience * known

    def _rows_at(self, height: float, episode: Sequence[float]) -> int:
        lowest, highest = height / self.config.band, height * self.config.band
        return sum(lowest <= one <= highest for one in episode)

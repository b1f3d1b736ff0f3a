"""How long did each rank wait for its data? The one part of a step that is its own by definition.

Ranks count the seconds that they spend in each phase; what DATA grew by between two words of a rank, over the steps
between them, is its wait in each of those steps.
"""

from __future__ import annotations

from collections import deque

from monitors.signals import PHASES, Phase, RankProgress

_DATA = PHASES.index(Phase.DATA)
_KEPT = 24


class DataWaits:
    """Of the newest steps."""

    def __init__(self) -> None:
        self._before: dict[int, tuple[int, float]] = {}
        """rank: step and seconds at its word before"""
        self._waits: dict[int, deque[tuple[int, float]]] = {}

    def progress(self, signal: RankProgress) -> None:
        """One word of a rank."""
        if len(signal.spent_s) <= _DATA:
            return
        waited_s = signal.spent_s[_DATA]
        before = self._before.get(signal.rank)
        if before is not None and signal.step <= before[0]:
            return
        self._before[signal.rank] = signal.step, waited_s
        if before is None or (waited_s <= 0.0 and signal.rank not in self._waits):
            return
        steps = signal.step - before[0]
        kept = self._waits.setdefault(signal.rank, deque(maxlen=_KEPT))
        for step in range(max(before[0] + 1, signal.step - _KEPT), signal.step + 1):
            kept.append((step, max(0.0, waited_s - before[1]) / steps))

    def by_step(self) -> dict[int, dict[int, float]]:
        """Step: rank: seconds. Ranks that never waited waited for nothing; empty when nobody counts."""
        table: dict[int, dict[int, float]] = {}
        for rank, kept in self._waits.items():
            for step, seconds in kept:
                table.setdefault(step, dict.fromkeys(self._before, 0.0))[rank] = seconds
        return table

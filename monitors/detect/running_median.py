"""The median of the newest numbers, kept sorted: a row costs two searches instead of a sort."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque


class RunningMedian:
    """Of at most `size` finite numbers."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.rows: deque[float] = deque(maxlen=size)
        """oldest first; add with `append` only"""
        self._sorted: list[float] = []
        self.median = 0.0
        """as `statistics.median` has it; 0 before the first number"""

    def append(self, number: float) -> None:
        """The newest; the oldest goes when there are too many."""
        rows, ordered = self.rows, self._sorted
        size = len(ordered)
        if size == self._size:
            del ordered[bisect_left(ordered, rows[0])]
        else:
            size += 1
        rows.append(number)
        insort(ordered, number)
        half = size // 2
        self.median = ordered[half] if size % 2 else (ordered[half - 1] + ordered[half]) / 2

    def clear(self) -> None:
        """Begin anew."""
        self.rows.clear()
        self._sorted.clear()
        self.median = 0.0

"""Which batch does a step get, when some windows of the data must never be fed?

Batches are numbered from 0 in the order of the data. Steps are numbered from 1 and take them in that order, jumping
over the skipped windows. A window that is added later changes nothing before it, so a rewind to a checkpoint older
than the window finds its position in the data unchanged.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable


class Skips:
    """Skipped windows of data, half-open `[first, end)`; they may overlap and come in any order."""

    __slots__ = ("_admitted", "_skipped")

    def __init__(self, windows: Iterable[tuple[int, int]] = ()) -> None:
        """Raises ValueError for a window that is none."""
        self._admitted: list[int] = []  # per merged window: how many batches are fed before it
        self._skipped = [0]  # before each merged window, and after the last: how many batches were jumped over
        for first, end in _merged(windows):
            self._admitted.append(first - self._skipped[-1])
            self._skipped.append(self._skipped[-1] + end - first)

    def data_index(self, step: int) -> int:
        """0-based index of the batch of 1-based `step`, in O(log windows). Raises ValueError below step 1."""
        if step < 1:
            raise ValueError(f"step {step} gets no batch: steps are numbered from 1")
        nth = step - 1
        return nth + self._skipped[bisect_right(self._admitted, nth)]


def _merged(windows: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, end in sorted(windows):
        if not 0 <= first < end:
            raise ValueError(f"[{first}, {end}) is not a window of data indices: needs 0 <= first < end")
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((first, end))
    return merged

"""How do a million values become a line on a screen, without losing the one that matters?

In each bucket of time the first, last, least and greatest value are kept, and the first and last of each kind that is
not finite. What was kept may be reduced again: extremes of extremes are extremes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple


class Point(NamedTuple):
    """One value of a chart."""

    at: float
    step: int | None
    y: float


def reduced(points: Sequence[Point], start: float, width_s: float) -> list[Point]:
    """At most ten of the points (by time, ascending) for each bucket of `width_s` since `start`."""
    kept: list[Point] = []
    for _, group in groupby(points, key=lambda point: math.floor((point.at - start) / width_s)):
        kept += _kept(list(group))
    return kept


def _kept(bucket: list[Point]) -> Iterator[Point]:
    if len(bucket) <= 4:
        yield from bucket
        return
    ys = [point.y for point in bucket]
    chosen = {0, len(bucket) - 1}
    finite = [n for n, y in enumerate(ys) if math.isfinite(y)]
    if finite:
        chosen |= {min(finite, key=ys.__getitem__), max(finite, key=ys.__getitem__)}
    if len(finite) < len(ys):
        chosen |= _broken(ys)
    yield from (bucket[n] for n in sorted(chosen))


def _broken(ys: Sequence[float]) -> set[int]:
    """First and last of nan, inf and -inf each."""
    places: dict[str, list[int]] = {}
    for n, y in enumerate(ys):
        if not math.isfinite(y):
            places.setdefault(str(y), []).append(n)
    return {n for found in places.values() for n in (found[0], found[-1])}


class Line:
    """A line that grows: it takes values in the order of time for ever, and never has more than some thousand."""

    def __init__(self, *, most: int = 6000) -> None:
        self.points: list[Point] = []
        self.total = 0
        """values taken"""
        self._most = most
        self._width_s = 0.0

    def add(self, points: Iterable[Point]) -> None:
        """The next values."""
        before = len(self.points)
        self.points += points
        self.total += len(self.points) - before
        while len(self.points) > self._most:
            self._shrink()

    def _shrink(self) -> None:
        points = self.points
        points.sort(key=lambda point: point.at)
        whole_s = max(points[-1].at - points[0].at, 1e-6)
        # Ten for each bucket at most: with a twentieth of `most` as buckets half of the room is free again.
        self._width_s = max(2 * self._width_s, whole_s / (self._most / 20))
        self.points = reduced(points, points[0].at, self._width_s)
        if len(self.points) > self._most:  # all at one time: nothing can be told apart any more
            self.points = list(_kept(self.points))

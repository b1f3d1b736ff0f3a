"""How many joules did a run take, and how many of them went into steps that were rolled back?

The journal has running totals, of each supervisor its own (`core.events.EnergyRead`): a thinned journal has the same
sum as a full one, and an event that is read twice or late adds nothing. Between two totals the energy is taken to be
spent evenly.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.core import events as e
from orchestrator.journal import Entry

MINUTE_S = 60.0
Range = tuple[float, float]
"""seconds since the epoch, the end not included"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Energy of the GPUs that were read, while they were; all None: none was."""

    joules: float | None = None
    known_share: float | None = None
    """of the GPU-seconds"""
    lost_j: float | None = None
    per_step_j: float | None = None
    per_token_j: float | None = None


class Meter:
    """The energy of one run, its entries in any order."""

    def __init__(self) -> None:
        self._newest: dict[float, e.EnergyRead] = {}
        self._stretches: list[tuple[float, float, float]] = []
        """(from, to, joules) of what each total adds to the one before"""

    def see(self, entry: Entry) -> None:
        """An entry."""
        if not isinstance(entry.event, e.Progressed | e.NodeStopped) or entry.event.energy is None:
            return
        read = entry.event.energy
        before = self._newest.get(read.since)
        if before is not None and (read.gpu_s, read.joules) <= (before.gpu_s, before.joules):
            return
        self._newest[read.since] = read
        if before is None:
            self._stretches.append((read.since, read.until, read.joules))
        else:
            self._stretches.append((before.until, read.until, max(0.0, read.joules - before.joules)))

    def settle(self, before: float) -> None:
        """What was spent before then needs to be known to the minute only."""
        found: list[tuple[float, float, float]] = []
        for start, end, joules in self._stretches:
            since, until, so_far = found[-1] if found else (start, end, 0.0)
            if end < before and until == start and since // MINUTE_S == start // MINUTE_S:
                found[-1] = (since, end, so_far + joules)
            else:
                found.append((start, end, joules))
        self._stretches = found

    def spent(self, *, gpu_s: float, lost: Sequence[Range]) -> Spent:
        """All of it. `gpu_s`: GPU-seconds that the run had. `lost`: when steps were trained that were rolled back
        later, oldest first, without overlap."""
        totals = self._newest.values()
        read_s = sum(read.gpu_s for read in totals)
        if not read_s:
            return Spent()
        starts, stretches = [start for start, _ in lost], self._stretches if lost else ()
        return Spent(
            joules=sum(read.joules for read in totals),
            known_share=min(1.0, read_s / gpu_s) if gpu_s else None,
            lost_j=sum((joules * _share_inside(start, end, lost, starts) for start, end, joules in stretches), 0.0),
            per_step_j=_mean(sum(read.step_j for read in totals), sum(read.steps for read in totals)),
            per_token_j=_mean(sum(read.token_j for read in totals), sum(read.tokens for read in totals)),
        )


class Curve:
    """What was read up to any time, for all questions about a part of a run."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        """The entries of one run, oldest first."""
        self._at: list[float] = []
        self._joules: list[float] = []
        self._gpu_s: list[float] = []
        newest: dict[float, e.EnergyRead] = {}
        for entry in entries:
            if isinstance(entry.event, e.Progressed | e.NodeStopped) and entry.event.energy is not None:
                self._read(entry.event.energy, newest)

    def _read(self, read: e.EnergyRead, newest: dict[float, e.EnergyRead]) -> None:
        before = newest.get(read.since)
        if before is not None and (read.gpu_s, read.joules) <= (before.gpu_s, before.joules):
            return
        newest[read.since] = read
        begin = max([read.since if before is None else before.until, *self._at[-1:]])
        joules = read.joules - (before.joules if before is not None else 0.0)
        gpu_s = read.gpu_s - (before.gpu_s if before is not None else 0.0)
        known_j, known_s = (self._joules[-1], self._gpu_s[-1]) if self._at else (0.0, 0.0)
        self._add(begin, known_j, known_s)
        self._add(max(begin, read.until), known_j + max(0.0, joules), known_s + max(0.0, gpu_s))

    def _add(self, at: float, joules: float, gpu_s: float) -> None:
        self._at.append(at)
        self._joules.append(joules)
        self._gpu_s.append(gpu_s)

    def between(self, start: float, end: float) -> tuple[float, float]:
        """Joules, and the GPU-seconds that they were read for, from `start` to just before `end`."""
        first, last = self._until(start), self._until(end)
        return last[0] - first[0], last[1] - first[1]

    def _until(self, at: float) -> tuple[float, float]:
        n = bisect_left(self._at, at)
        if n == len(self._at):
            return (self._joules[-1], self._gpu_s[-1]) if n else (0.0, 0.0)
        if n == 0 or self._at[n] == at:
            return self._joules[n], self._gpu_s[n]
        share = (at - self._at[n - 1]) / (self._at[n] - self._at[n - 1])
        joules, gpu_s = self._joules, self._gpu_s
        return joules[n - 1] + share * (joules[n] - joules[n - 1]), gpu_s[n - 1] + share * (gpu_s[n] - gpu_s[n - 1])


def _share_inside(start: float, end: float, ranges: Sequence[Range], starts: Sequence[float]) -> float:
    """Which share of the time from `start` to `end` lies in one of the ranges."""
    n = max(0, bisect_right(starts, start) - 1)
    inside_s = 0.0
    while n < len(ranges) and ranges[n][0] <= end:
        if end <= start and ranges[n][0] <= start < ranges[n][1]:
            return 1.0
        inside_s += max(0.0, min(end, ranges[n][1]) - max(start, ranges[n][0]))
        n += 1
    return inside_s / (end - start) if end > start else 0.0


def _mean(joules: float, count: float) -> float | None:
    return joules / count if count else None

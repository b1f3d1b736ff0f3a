"""How many joules did a run take, and how many of them went into steps that were rolled back?

The journal has running totals, of each supervisor its own (`core.events.EnergyRead`): a thinned journal has the same
sum as a full one, and an event that is read twice or late adds nothing. Between two totals the energy is taken to be
spent evenly.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from orchestrator.core import events as e
from orchestrator.journal import Entry

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


def spent(entries: Iterable[Entry], *, gpu_s: float, lost: Sequence[Range]) -> Spent:
    """The energy of one run, its entries in any order.

    `gpu_s`: GPU-seconds that the run had. `lost`: when steps were trained that were rolled back later, oldest first,
    without overlap.
    """
    newest: dict[float, e.EnergyRead] = {}
    starts = [start for start, _ in lost]
    lost_j = 0.0
    for start, end, joules in _stretches(entries, newest):
        lost_j += joules * _share_inside(start, end, lost, starts)
    totals = newest.values()
    read_s = sum(read.gpu_s for read in totals)
    if not read_s:
        return Spent()
    return Spent(
        joules=sum(read.joules for read in totals),
        known_share=min(1.0, read_s / gpu_s) if gpu_s else None,
        lost_j=lost_j,
        per_step_j=_mean(sum(read.step_j for read in totals), sum(read.steps for read in totals)),
        per_token_j=_mean(sum(read.token_j for read in totals), sum(read.tokens for read in totals)),
    )


def _stretches(entries: Iterable[Entry], newest: dict[float, e.EnergyRead]) -> Iterator[tuple[float, float, float]]:
    """(from, to, joules) of what each total adds to the one before; leaves the newest total of each supervisor."""
    for entry in entries:
        if not isinstance(entry.event, e.Progressed | e.NodeStopped) or entry.event.energy is None:
            continue
        read = entry.event.energy
        before = newest.get(read.since)
        if before is not None and (read.gpu_s, read.joules) <= (before.gpu_s, before.joules):
            continue
        newest[read.since] = read
        if before is None:
            yield read.since, read.until, read.joules
        else:
            yield before.until, read.until, max(0.0, read.joules - before.joules)


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

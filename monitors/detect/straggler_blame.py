"""Who holds up every step? The rank whose own work grew, in the same direction, step after step.

Long sequences make now this rank slow and now that one; a straggler is the same one each time. Each rank is held
against itself before, and then against the others in the same step, so neither a heavier batch for all nor a rank that
always had more to do is taken for a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from monitors.detect.straggler_arrivals import OwnTimes

_STEPS = 3
_AGREES = 0.75
"""share of the steps in which the same rank must be slower"""
_CLEAR = 1.4
"""times the next one's excess: then it alone is named"""
_FEW = 8
"""ranks up to which one's own part in the middle of all would hide it"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A culprit, and how sure that is."""

    node: int
    rank: int | None
    """None: all ranks of the node alike"""
    excess_s: float
    """a step, over what is usual for it"""
    slow_steps: int
    steps: int
    confidence: float
    next_best: int | None = None
    """rank"""


def named(own: OwnTimes, usual: Mapping[int, float], node_of: Callable[[int], int], *, least_s: float) -> Named | None:
    """The rank, or the node, whose own time is at least `least_s` longer in nearly every step; None: nobody's is.

    `usual` is each rank's own time before; ranks that it lacks are held against the others alone.
    """
    excess = [_excess(ranks, usual) for ranks in own.values() if len(ranks) > 1]
    if len(excess) < _STEPS:
        return None
    by_rank: dict[int, list[float]] = {}
    for ranks in excess:
        for rank, seconds in ranks.items():
            by_rank.setdefault(rank, []).append(seconds)
    middles = {rank: median(found) for rank, found in by_rank.items()}
    slow = [rank for rank, found in by_rank.items() if _is_slow(found, len(excess), least_s)]
    if not slow:
        return None
    slow.sort(key=lambda rank: -middles[rank])
    counts = {rank: sum(seconds >= least_s for seconds in by_rank[rank]) for rank in slow}
    return _one(slow, middles, counts, len(excess), node_of) or _node(slow, middles, counts, len(excess), node_of)


def _excess(ranks: Mapping[int, float], usual: Mapping[int, float]) -> dict[int, float]:
    """Over what is usual for the rank, and over the middle of the other ranks in this step."""
    grown = {rank: seconds - usual.get(rank, 0.0) for rank, seconds in ranks.items() if not usual or rank in usual}
    middle = median(grown.values())
    if len(grown) > _FEW:
        return {rank: seconds - middle for rank, seconds in grown.items()}
    return {rank: seconds - _middle_of_others(grown, rank) for rank, seconds in grown.items()}


def _middle_of_others(grown: Mapping[int, float], rank: int) -> float:
    return median([seconds for other, seconds in grown.items() if other != rank] or [grown[rank]])


def _is_slow(found: list[float], steps: int, least_s: float) -> bool:
    agree = sum(seconds >= least_s for seconds in found)
    return agree >= _STEPS and agree >= _AGREES * steps and median(found) >= least_s


def _one(
    slow: list[int], middles: Mapping[int, float], counts: Mapping[int, int], steps: int, node_of: Callable[[int], int]
) -> Named | None:
    first, *rest = slow
    if rest and middles[first] < _CLEAR * middles[rest[0]]:
        return None
    others = rest or sorted((rank for rank in middles if rank != first), key=lambda rank: -middles[rank])
    return Named(
        node=node_of(first),
        rank=first,
        excess_s=middles[first],
        slow_steps=counts[first],
        steps=steps,
        confidence=0.9 if counts[first] == steps else 0.8,
        next_best=others[0] if others else None,
    )


def _same_node(slow: list[int], middles: Mapping[int, float], node_of: Callable[[int], int]) -> bool:
    node = node_of(slow[0])
    there = [rank for rank in middles if node_of(rank) == node]
    return {node_of(rank) for rank in slow} == {node} and 2 <= len(there) <= 2 * len(slow) and len(slow) > 1


def _node(
    slow: list[int], middles: Mapping[int, float], counts: Mapping[int, int], steps: int, node_of: Callable[[int], int]
) -> Named | None:
    if not _same_node(slow, middles, node_of) or {node_of(rank) for rank in middles} == {node_of(slow[0])}:
        return None
    return Named(
        node=node_of(slow[0]),
        rank=None,
        excess_s=median(middles[rank] for rank in slow),
        slow_steps=min(counts[rank] for rank in slow),
        steps=steps,
        confidence=0.8,
        next_best=slow[0],
    )

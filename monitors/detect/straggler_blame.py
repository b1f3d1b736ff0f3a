"""Who holds up every step? The rank whose own work grew, in the same direction, step after step.

Long sequences make now this rank slow and now that one; a straggler is the same one each time. Each rank is held
against itself before, and then against the others in the same step, so neither a heavier batch for all nor a rank that
always had more to do is taken for a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import log, sqrt
from statistics import median

from monitors.detect.straggler_arrivals import OwnTimes

_AGREES = 0.75
"""share of the steps in which the same rank must be slower"""
_CLEAR = 1.4
"""times the next one's excess: then it alone is named"""
_ALIKE, _NEARLY = 0.5, 0.75
"""of the slowest rank's excess, and of its node's ranks: then it is the node"""
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


def spread(own: OwnTimes, usual: Mapping[int, float]) -> float:
    """Seconds by which a rank's time beside the others' differs from step to step, when nothing is wrong.

    1.48 times the median absolute deviation over all ranks and steps; 0 where fewer than three steps are known.
    """
    by_rank = _by_rank([_excess(ranks, usual) for ranks in own.values() if len(ranks) > 1])
    away = [far for found in by_rank.values() if len(found) >= 3 for far in _from_middle(found)]
    return 1.48 * median(away) if away else 0.0


def _from_middle(found: list[float]) -> list[float]:
    """Few values lie closer to their own middle than to the true one: n / (n - 1) makes up for it."""
    middle, more = median(found), len(found) / (len(found) - 1)
    return [more * abs(seconds - middle) for seconds in found]


def named(
    own: OwnTimes,
    usual: Mapping[int, float],
    node_of: Callable[[int], int],
    *,
    least_s: float,
    least_steps: int = 3,
    spread_s: float = 0.0,
) -> Named | None:
    """The rank, or the node, whose own time is at least `least_s` longer in nearly every step; None: nobody's is, or
    fewer than `least_steps` are known.

    `usual` is each rank's own time before; ranks that it lacks are held against the others alone. Where their times
    vary by `spread_s`, the middle of the excess must be more than chance would give to one of so many ranks.
    """
    excess = [_excess(ranks, usual) for ranks in own.values() if len(ranks) > 1]
    if len(excess) < least_steps:
        return None
    by_rank = _by_rank(excess)
    middles = {rank: median(found) for rank, found in by_rank.items()}
    chance_s = _by_chance(len(by_rank), len(excess)) * spread_s
    slow = [
        rank
        for rank, found in by_rank.items()
        if middles[rank] >= chance_s and _is_slow(found, len(excess), least_s, least_steps)
    ]
    if not slow:
        return None
    slow.sort(key=lambda rank: -middles[rank])
    agree = sum(seconds >= least_s for seconds in by_rank[slow[0]])
    node = _alike(slow[0], middles, node_of)
    if node:
        return Named(
            node=node_of(slow[0]),
            rank=None,
            excess_s=median(middles[rank] for rank in node),
            slow_steps=agree,
            steps=len(excess),
            confidence=0.8,
            next_best=slow[0],
        )
    others = sorted((rank for rank in middles if rank != slow[0]), key=lambda rank: -middles[rank])
    if len(slow) > 1 and middles[slow[0]] < _CLEAR * middles[slow[1]]:
        return None
    return Named(
        node=node_of(slow[0]),
        rank=slow[0],
        excess_s=middles[slow[0]],
        slow_steps=agree,
        steps=len(excess),
        confidence=0.9 if agree == len(excess) else 0.8,
        next_best=others[0] if others else None,
    )


def _by_rank(excess: Iterable[Mapping[int, float]]) -> dict[int, list[float]]:
    by_rank: dict[int, list[float]] = {}
    for ranks in excess:
        for rank, seconds in ranks.items():
            by_rank.setdefault(rank, []).append(seconds)
    return by_rank


def _by_chance(ranks: int, steps: int) -> float:
    """Spreads that the median over some steps of the unluckiest of so many ranks hardly ever reaches.

    The largest of n normal values lies at the root of 2 ln n; two more, and a median varies 1.25 times as a mean does.
    """
    return 1.25 * (2.0 + sqrt(2.0 * log(max(2, ranks)))) / sqrt(steps)


def _excess(ranks: Mapping[int, float], usual: Mapping[int, float]) -> dict[int, float]:
    """Over what is usual for the rank, and over the middle of the other ranks in this step."""
    grown = {rank: seconds - usual.get(rank, 0.0) for rank, seconds in ranks.items() if not usual or rank in usual}
    middle = median(grown.values())
    if len(grown) > _FEW:
        return {rank: seconds - middle for rank, seconds in grown.items()}
    return {rank: seconds - _middle_of_others(grown, rank) for rank, seconds in grown.items()}


def _middle_of_others(grown: Mapping[int, float], rank: int) -> float:
    return median([seconds for other, seconds in grown.items() if other != rank] or [grown[rank]])


def _is_slow(found: list[float], steps: int, least_s: float, least_steps: int) -> bool:
    agree = sum(seconds >= least_s for seconds in found)
    return len(found) >= least_steps and agree >= 3 and agree >= _AGREES * steps and median(found) >= least_s


def _alike(first: int, middles: Mapping[int, float], node_of: Callable[[int], int]) -> list[int]:
    """The ranks of its node, when nearly all are slower as it is and those of other nodes are not; else none."""
    there = [rank for rank in middles if node_of(rank) == node_of(first)]
    like = [rank for rank in middles if middles[rank] >= _ALIKE * middles[first]]
    here = set(there).intersection(like)
    elsewhere = len(middles) - len(there)
    if not elsewhere or len(here) < 2 or len(here) < _NEARLY * len(there) or len(like) > len(here):
        return []
    return there

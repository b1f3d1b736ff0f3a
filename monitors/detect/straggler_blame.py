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
from monitors.detect.straggler_hardware import Hint
from monitors.incidents import Subject

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
    ask = _Ask(least_s=least_s, least_steps=least_steps, spread_s=spread_s)
    by_rank = _by_rank(excess)
    slow = _slow(by_rank, len(excess), ask)
    if slow:
        return _of_ranks(slow, by_rank, len(excess), ask, node_of, whole_nodes=bool(usual))
    if not usual:
        return None
    # Where half of the ranks are slow, none of them is an outlier; their nodes may be.
    by_node = _by_rank(
        [_excess(nodes, {}) for ranks in own.values() if len(nodes := _nodes(ranks, usual, node_of)) > 1]
    )
    slow = _slow(by_node, len(excess), ask)
    if not slow or (len(slow) > 1 and median(by_node[slow[0]]) < _CLEAR * median(by_node[slow[1]])):
        return None
    return _whole_node(slow[0], by_node[slow[0]], ask, None)


def weighed(found: Named | None, hint: Hint | None) -> tuple[Subject, float, Subject | None]:
    """Subject, confidence and next best suspect, from what ranks did and what their GPUs say."""
    if found is None:
        assert hint is not None
        return Subject(node=hint.node, rank=hint.rank, device=hint.device), 0.7, None
    agrees = hint is not None and hint.node == found.node and hint.rank in (None, found.rank)
    device = hint.device if agrees and hint is not None else None
    subject = Subject(node=found.node, rank=found.rank, device=device)
    if hint is not None and not agrees:
        return subject, 0.9 * found.confidence, Subject(node=hint.node, rank=hint.rank, device=hint.device)
    next_best = None if found.next_best is None else Subject(rank=found.next_best)
    return subject, min(0.97, found.confidence + (0.07 if agrees else 0.0)), next_best


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ask:
    """What it takes to be named."""

    least_s: float
    least_steps: int
    spread_s: float


def _slow(found: Mapping[int, list[float]], steps: int, ask: _Ask) -> list[int]:
    """Those that are slow in nearly every step, slowest first."""
    least_s = max(ask.least_s, _by_chance(len(found), steps) * ask.spread_s)
    slow = [one for one, times in found.items() if median(times) >= least_s and _agrees(times, steps, ask)]
    return sorted(slow, key=lambda one: -median(found[one]))


def _agrees(times: list[float], steps: int, ask: _Ask) -> bool:
    agree = sum(seconds >= ask.least_s for seconds in times)
    return len(times) >= ask.least_steps and agree >= 3 and agree >= _AGREES * steps


def _of_ranks(
    slow: list[int],
    by_rank: Mapping[int, list[float]],
    steps: int,
    ask: _Ask,
    node_of: Callable[[int], int],
    *,
    whole_nodes: bool,
) -> Named | None:
    middles = {rank: median(found) for rank, found in by_rank.items()}
    first = slow[0]
    if _is_whole_node(first, middles, node_of):
        # Without a step from before, it may be the node's clock alone that is late.
        return _whole_node(node_of(first), by_rank[first], ask, first) if whole_nodes else None
    if len(slow) > 1 and middles[first] < _CLEAR * middles[slow[1]]:
        return None
    agree = sum(seconds >= ask.least_s for seconds in by_rank[first])
    others = sorted((rank for rank in middles if rank != first), key=lambda rank: -middles[rank])
    return Named(
        node=node_of(first),
        rank=first,
        excess_s=middles[first],
        slow_steps=agree,
        steps=steps,
        confidence=0.9 if agree == steps else 0.8,
        next_best=others[0] if others else None,
    )


def _whole_node(node: int, found: list[float], ask: _Ask, worst: int | None) -> Named:
    return Named(
        node=node,
        rank=None,
        excess_s=median(found),
        slow_steps=sum(seconds >= ask.least_s for seconds in found),
        steps=len(found),
        confidence=0.8,
        next_best=worst,
    )


def _nodes(ranks: Mapping[int, float], usual: Mapping[int, float], node_of: Callable[[int], int]) -> dict[int, float]:
    """The middle of each node's ranks, over what is usual for them; of nodes with several."""
    by_node: dict[int, list[float]] = {}
    for rank, seconds in ranks.items():
        by_node.setdefault(node_of(rank), []).append(seconds - usual.get(rank, 0.0))
    return {node: median(times) for node, times in by_node.items() if len(times) > 1}


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


def _is_whole_node(first: int, middles: Mapping[int, float], node_of: Callable[[int], int]) -> bool:
    """Nearly all ranks of its node are slower as it is, and those of other nodes are not."""
    there = {rank for rank in middles if node_of(rank) == node_of(first)}
    like = {rank for rank in middles if middles[rank] >= _ALIKE * middles[first]}
    here = there & like
    return len(there) < len(middles) and len(here) >= max(2.0, _NEARLY * len(there)) and like == here

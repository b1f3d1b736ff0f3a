"""How long did each rank work between its collectives, and how long did it wait in them?

A collective ends for nobody before its last member has come, so a rank's own time is what passes from there to its next
arrival; a rank that did not wait (the collective ran beside its work) goes on from its own arrival. That holds through
groups of groups: whoever only waited for a late rank in one group is not called late in the next.

Clocks of hosts differ. What a node's ranks are early or late by in healthy steps is taken for its clock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median

from monitors.signals import CollectivesLooked

Key = tuple[int, int]
"""number of a group, and sequence number: one collective"""
OwnTimes = dict[int, dict[int, float]]
"""step: rank: seconds of its own work"""
_CLOCK_SAMPLES = 8


class Arrivals:
    """When each rank came to each collective, as their flight recorders say."""

    def __init__(self, looks: Iterable[CollectivesLooked]) -> None:
        numbers: dict[tuple[str, tuple[int, ...]], int] = {}
        """of the groups: by name and members, for a name alone may be another group's too"""
        self._came: dict[int, dict[Key, float]] = {}
        self._nodes: dict[int, int] = {}
        for look in looks:
            came: dict[Key, float] = {}
            for group in look.groups:
                number = numbers.setdefault((group.group, group.ranks), len(numbers))
                came.update({(number, seq): at for seq, at in group.arrivals})
            self._came[look.rank], self._nodes[look.rank] = came, look.node
        self._whole = _whole(self._came)
        self.in_part = False
        """the recorders hold less than one step: what `own_times` told is of a part of it"""

    def clocks(self, onset_at: float, known: Mapping[int, float] | None = None) -> dict[int, float]:
        """Seconds by which each node's clock is ahead of the middle one.

        Before `onset_at` nobody was late; where the recorders do not reach back so far, what is `known` from earlier
        holds.
        """
        earlier = known or {}
        return {node: _clock(late, onset_at, earlier.get(node)) for node, late in self._lateness().items()}

    def own_times(self, ends: Sequence[tuple[int, float]], offsets: Mapping[int, float], node: int = 0) -> OwnTimes:
        """Seconds that each rank worked in each step of which all arrivals are known.

        `ends` are steps and when they ended by the clock of `node`, ascending; `offsets` are the nodes' clocks, as
        `clocks` tells.
        """
        ahead = offsets.get(node, 0.0)
        ends = [(step, at - ahead) for step, at in ends]
        orders: dict[int, list[tuple[float, Key]]] = {}
        released: dict[Key, float] = {}
        for rank, keys in self._came.items():
            ahead = offsets.get(self._nodes[rank], 0.0)
            order = sorted((at - ahead, key) for key, at in keys.items() if key in self._whole)
            if order:
                orders[rank] = order
            for at, key in order:
                if at > released.get(key, float("-inf")):
                    released[key] = at
        own = _by_step(orders, released, ends)
        whole = _whole_steps(own, orders, ends)
        self.in_part = not whole
        # A part of a step, the same for all ranks, tells something too.
        return whole or {step: own[step] for step in [*own][-1:]}

    def _lateness(self) -> dict[int, list[tuple[float, float]]]:
        """Node: when, and by how much its ranks were behind the middle of the nodes, for each collective of several."""
        by_key: dict[Key, dict[int, list[float]]] = {}
        if len(set(self._nodes.values())) > 1:
            for rank, keys in self._came.items():
                node = self._nodes[rank]
                for key in keys.keys() & self._whole:
                    by_key.setdefault(key, {}).setdefault(node, []).append(keys[key])
        late: dict[int, list[tuple[float, float]]] = {node: [] for node in self._nodes.values()}
        for places in by_key.values():
            if len(places) < 2:
                continue
            middles = {node: median(times) for node, times in places.items()}
            middle = median(middles.values())
            for node, at in middles.items():
                late[node].append((middle, at - middle))
        return late


def _whole(came: Mapping[int, Mapping[Key, float]]) -> set[Key]:
    """Collectives that every looked-at member has come to and still remembers."""
    members: dict[int, int] = {}
    counts: dict[Key, int] = {}
    for keys in came.values():
        for group in {group for group, _ in keys}:
            members[group] = members.get(group, 0) + 1
        for key in keys:
            counts[key] = counts.get(key, 0) + 1
    return {key for key, count in counts.items() if count == members[key[0]] > 1}


def _clock(samples: Sequence[tuple[float, float]], onset_at: float, known: float | None) -> float:
    healthy = sorted(late_s for at, late_s in samples if at < onset_at)
    if len(healthy) >= _CLOCK_SAMPLES:
        return healthy[len(healthy) // 2]
    if known is not None:
        return known
    # A slow node is late at some collectives; its clock is ahead at all of them.
    every = sorted(late_s for _, late_s in samples)
    return every[len(every) // 4] if len(every) >= _CLOCK_SAMPLES else 0.0


def _by_step(
    orders: Mapping[int, Sequence[tuple[float, Key]]],
    released: Mapping[Key, float],
    ends: Sequence[tuple[int, float]],
) -> OwnTimes:
    own: OwnTimes = {}
    times = [at for _, at in ends]
    for rank, order in orders.items():
        for step, worked_s in _segments(order, released, ends, times):
            ranks = own.setdefault(step, {})
            ranks[rank] = ranks.get(rank, 0.0) + worked_s
    return dict(sorted(own.items()))


def _whole_steps(
    own: OwnTimes, orders: Mapping[int, Sequence[tuple[float, Key]]], ends: Sequence[tuple[int, float]]
) -> OwnTimes:
    """Steps that began after every recorder's first entry."""
    known_from = max((order[0][0] for order in orders.values()), default=0.0)
    began = {step: before for (_, before), (step, _) in pairwise(ends)}
    return {step: ranks for step, ranks in own.items() if began.get(step, float("-inf")) >= known_from}


def _segments(
    order: Sequence[tuple[float, Key]],
    released: Mapping[Key, float],
    ends: Sequence[tuple[int, float]],
    times: Sequence[float],
) -> Iterator[tuple[int, float]]:
    """Step and seconds of own work, for each arrival of one rank but the first."""
    for (before_at, before), (at, key) in pairwise(order):
        index = bisect_left(times, released[key])
        if index == len(times):
            return  # of the step that goes on
        start = released[before] if at >= released[before] else before_at
        # With GPUs the CPU waits for them at the end of a step, where all end together.
        if index > 0 and before_at < times[index - 1] < at:
            start = max(start, times[index - 1])
        yield ends[index][0], max(0.0, at - start)

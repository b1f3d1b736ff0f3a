"""How long did each rank work between its collectives, and how long did it wait in them?

A collective ends for nobody before its last member has come, so a rank's own time is what passes from there to its next
arrival; a rank that did not wait (the collective ran beside its work) goes on from its own arrival. That holds through
groups of groups: whoever only waited for a late rank in one group is not called late in the next.

Clocks of hosts differ. What a node's ranks are early or late by in healthy steps is taken for its clock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median

from monitors.signals import CollectivesLooked

Key = tuple[str, int]
"""group and sequence number: one collective"""
OwnTimes = dict[int, dict[int, float]]
"""step: rank: seconds of its own work"""
_CLOCK_SAMPLES = 8


def own_times(looks: Iterable[CollectivesLooked], ends: Sequence[tuple[int, float]], onset_at: float) -> OwnTimes:
    """Seconds that each rank worked in each step of which all arrivals are known.

    `ends` are steps and when they ended, ascending; `onset_at` is when they became slow: before it nobody was late.
    """
    looked = {look.rank: look for look in looks}
    came = {rank: _came(look) for rank, look in looked.items()}
    whole = _whole(came)
    nodes = {rank: look.node for rank, look in looked.items()}
    offsets = _clocks(came, whole, nodes, onset_at)
    came = {rank: {key: at - offsets[nodes[rank]] for key, at in keys.items()} for rank, keys in came.items()}
    released: dict[Key, float] = {}
    for keys in came.values():
        for key in keys.keys() & whole:
            released[key] = max(released.get(key, float("-inf")), keys[key])
    return _by_step(came, released, ends)


def _came(look: CollectivesLooked) -> dict[Key, float]:
    return {(group.group, seq): at for group in look.groups for seq, at in group.arrivals}


def _whole(came: Mapping[int, Mapping[Key, float]]) -> set[Key]:
    """Collectives that every looked-at member has come to and still remembers."""
    members: dict[str, int] = {}
    counts: dict[Key, int] = {}
    for keys in came.values():
        for group in {group for group, _ in keys}:
            members[group] = members.get(group, 0) + 1
        for key in keys:
            counts[key] = counts.get(key, 0) + 1
    return {key for key, count in counts.items() if count == members[key[0]] > 1}


def _clocks(
    came: Mapping[int, Mapping[Key, float]], whole: set[Key], nodes: Mapping[int, int], onset_at: float
) -> dict[int, float]:
    """Seconds by which each node's clock is ahead of the middle one."""
    by_key: dict[Key, dict[int, list[float]]] = {}
    if len(set(nodes.values())) > 1:
        for rank, keys in came.items():
            for key in keys.keys() & whole:
                by_key.setdefault(key, {}).setdefault(nodes[rank], []).append(keys[key])
    late: dict[int, list[tuple[bool, float]]] = {node: [] for node in nodes.values()}
    for places in by_key.values():
        if len(places) < 2:
            continue
        middles = {node: median(times) for node, times in places.items()}
        middle = median(middles.values())
        for node, at in middles.items():
            late[node].append((middle < onset_at, at - middle))
    return {node: _clock(samples) for node, samples in late.items()}


def _clock(samples: Sequence[tuple[bool, float]]) -> float:
    healthy = sorted(late_s for was_healthy, late_s in samples if was_healthy)
    if len(healthy) >= _CLOCK_SAMPLES:
        return healthy[len(healthy) // 2]
    # A slow node is late at some collectives; its clock is ahead at all of them.
    every = sorted(late_s for _, late_s in samples)
    return every[len(every) // 4] if len(every) >= _CLOCK_SAMPLES else 0.0


def _by_step(
    came: Mapping[int, Mapping[Key, float]], released: Mapping[Key, float], ends: Sequence[tuple[int, float]]
) -> OwnTimes:
    times = [at for _, at in ends]
    own: OwnTimes = {}
    known_from = float("-inf")
    for rank, keys in came.items():
        order = sorted((at, key) for key, at in keys.items() if key in released)
        if not order:
            continue
        known_from = max(known_from, order[0][0])
        for (before_at, before), (at, key) in pairwise(order):
            index = bisect_left(times, released[key])
            if index == len(times):
                break  # of the step that goes on
            waited_until = released[before]
            worked_s = at - (waited_until if at >= waited_until else before_at)
            step = own.setdefault(ends[index][0], {})
            step[rank] = step.get(rank, 0.0) + max(0.0, worked_s)
    began = dict(zip((step for step, _ in ends[1:]), times, strict=False))
    return {step: ranks for step, ranks in own.items() if began.get(step, float("-inf")) >= known_from}

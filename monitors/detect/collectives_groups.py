"""Who is in which process group, and which calls of its ranks do not agree?

Collectives of a group are numbered, and a number means the same call on every rank. Where two ranks called different
things under one number, the code took two ways; who left the common way, the majority says, or each rank's own habit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from monitors.signals import CollectivesLooked, GroupStatus

DEFAULT = "default_pg"
CONTEXT = 6
"""calls back that are compared with a rank's own past: two steps of training differ in none"""
NEAR_FRONT = 4
"""a mismatch this many collectives before the one that does not end belongs to it: short ones pass unnoticed"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One process group, as far as its ranks told of it."""

    key: str
    """name, with the library that moves its data"""
    members: frozenset[int]
    statuses: Mapping[int, GroupStatus]
    """of the members that answered and know the group"""

    @property
    def label(self) -> str:
        """For a sentence."""
        descs = [status.desc for status in self.statuses.values() if status.desc not in ("", "undefined", DEFAULT)]
        if descs:
            return f"group {descs[0]} of ranks {listed(self.members)}"
        is_default = any(status.desc == DEFAULT for status in self.statuses.values())
        return "the default group" if is_default else f"a group of ranks {listed(self.members)}"

    @property
    def front(self) -> int:
        """The first collective that is not over on some rank."""
        return min((status.completed for status in self.statuses.values()), default=-1) + 1

    def call(self, seq: int) -> str:
        """What was called under this number, as far as any rank says."""
        found = (call for status in self.statuses.values() for at, call in status.calls if at == seq)
        return next(found, "collective(").partition("(")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """Ranks that called different things under one number."""

    group: Group
    seq: int
    calls: Mapping[int, str]
    """by rank"""


def listed(ranks: Iterable[int]) -> str:
    """`0-3, 6`."""
    spans: list[list[int]] = []
    for rank in sorted(ranks):
        if spans and rank == spans[-1][1] + 1:
            spans[-1][1] = rank
        else:
            spans.append([rank, rank])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def groups(looks: Mapping[int, CollectivesLooked], ranks: Collection[int]) -> dict[str, Group]:
    """Every group that a rank told of, by its key. `ranks`: all that there are in the world."""
    members: dict[str, set[tuple[int, ...]]] = {}
    for look in looks.values():
        for status in look.groups:
            members.setdefault(status.group, set()).update([status.ranks] if status.ranks else [])
    found: dict[str, dict[int, GroupStatus]] = {}
    for rank, look in looks.items():
        for status in look.groups:
            # Groups that are split off another share its name on different ranks.
            shared = len(members[status.group]) > 1
            key = f"{status.group} {listed(status.ranks)}" if shared else status.group
            if status.ranks or not shared:
                found.setdefault(key, {})[rank] = status
    return {key: Group(key=key, members=_members(of, ranks), statuses=of) for key, of in found.items()}


def _members(statuses: Mapping[int, GroupStatus], ranks: Collection[int]) -> frozenset[int]:
    known = next((status.ranks for status in statuses.values() if status.ranks), None)
    if known is not None:
        return frozenset(known).intersection(ranks)
    return frozenset(ranks if any(status.desc == DEFAULT for status in statuses.values()) else statuses)


def mismatch(found: Iterable[Group]) -> Mismatch | None:
    """The first call on which ranks of a group disagree, if that is why the group stands still."""
    for group in found:
        by_seq: dict[int, dict[int, str]] = {}
        for rank, status in group.statuses.items():
            for seq, call in status.calls:
                by_seq.setdefault(seq, {})[rank] = call
        split = sorted(seq for seq, calls in by_seq.items() if len(set(calls.values())) > 1)
        if split and split[-1] >= group.front - NEAR_FRONT:
            return Mismatch(group=group, seq=split[0], calls=by_seq[split[0]])
    return None


def astray(found: Mismatch, looks: Mapping[int, CollectivesLooked]) -> tuple[tuple[int, ...], bool]:
    """The ranks that left the common way, and whether that is sure: a majority of the others, or their own habit."""
    counts = Counter(found.calls.values()).most_common()
    if counts[0][1] > counts[1][1] and counts[0][1] > 1:
        return tuple(sorted(rank for rank, call in found.calls.items() if call != counts[0][0])), True
    among = (found.group.key,)
    strange = tuple(sorted(rank for rank in found.calls if is_strange(looks[rank], found.seq, among)))
    if strange and len(strange) < len(found.calls):
        return strange, True
    return (min(found.calls),), False


def is_strange(look: CollectivesLooked, seq: int, among: Sequence[str]) -> bool:
    """Whether this rank's call `seq` of the first group of `among` follows on other calls than ever before.

    Only calls of the groups `among` count: those of a save in the background fall between the others as they come.
    """
    names = [_key(key) for key in among]
    history = sorted((at, s.group, n, call) for s in look.groups if s.group in names for at, n, call in _arrived(s))
    at = next((i for i, (_, group, n, _) in enumerate(history) if (group, n) == (names[0], seq)), 0)
    calls = [(group, call) for _, group, _, call in history]
    for length in range(min(CONTEXT, at), 0, -1):
        context = calls[at - length : at]
        followed = [calls[i] for i in range(length, at) if calls[i - length : i] == context]
        if followed:
            return calls[at] not in followed
    return False


def _key(key: str) -> str:
    """The group's own name."""
    return key.partition(" ")[0]


def _arrived(status: GroupStatus) -> list[tuple[float, int, str]]:
    calls = dict(status.calls)
    return [(at, seq, calls[seq]) for seq, at in status.arrivals if seq in calls]

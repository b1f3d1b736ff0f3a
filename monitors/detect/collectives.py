"""Everybody waits in a collective: for whom?

Each rank's flight recorder says which collectives it has begun and not ended. A rank that waits in one waits for the
members of the group that never came to it. Following that from rank to rank, over all groups, ends at a rank that
waits for nobody (it computes, sleeps, reads data), at one that does not answer (stopped, stuck in C code or in the
driver), in a circle (ranks that call their groups in different orders), or in a collective to which all came and which
does not end (a GPU or the network).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from monitors.detect.collectives_groups import Group, Mismatch, astray, groups, is_strange, listed, mismatch
from monitors.incidents import Blame
from monitors.signals import CollectivesLooked


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """Whom the world waits for, as its own records say."""

    rank: int | None
    """None: a collective that all came to does not end, and nothing tells the ranks apart"""
    confidence: float
    evidence: tuple[str, ...]
    blame: Blame | None = None
    next_best: int | None = None
    call: str = ""
    """what was called where the code took two ways; empty: it did not, or that is not sure"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wait:
    """One rank stands in one collective, or in a send or receive."""

    rank: int
    group: Group | None
    seq: int
    on: frozenset[int]
    """ranks that did not come; empty: all did"""

    @property
    def what(self) -> str:
        if self.group is None:
            return "a send or receive"
        return f"{self.group.call(self.seq)} {self.seq} of {self.group.label}"


Waits = Mapping[int, list[_Wait]]


def blocked(
    looks: Mapping[int, CollectivesLooked], ranks: Collection[int], *, timed_out: bool = False
) -> Blocked | None:
    """The verdict; None when nobody waits in a collective. `ranks`: all of the world, those without a look too.

    `timed_out`: what some of them waited in was given up, so that it looks finished by now.
    """
    said = {rank: look.said for rank, look in looks.items() if look.said}
    looks = {rank: look for rank, look in looks.items() if rank in ranks and rank not in said}
    found = groups(looks, ranks)
    waits = _waits(_peers(looks, ranks), found)
    if not waits:
        return _after_the_fact(_erased(found), looks)
    if timed_out:
        _restore(waits, _erased(found))
    split = mismatch(group for group in found.values() if any(w.group is group for of in waits.values() for w in of))
    if split is not None:
        return _diverged(split, looks)
    targets = frozenset(rank for of in waits.values() for wait in of for rank in wait.on)
    ends = [rank for rank in targets if not _edges(waits, rank)]
    if ends:
        verdict = _named(ends, waits, looks)
        return replace(verdict, evidence=(*verdict.evidence, *said.get(verdict.rank or 0, ())))
    if targets:
        return _circle(waits, looks)
    return _together(waits)


def _waits(peers: Mapping[int, frozenset[int]], found: Mapping[str, Group]) -> dict[int, list[_Wait]]:
    waits: dict[int, list[_Wait]] = {}
    for group in found.values():
        for wait in _in_group(group):
            waits.setdefault(wait.rank, []).append(wait)
    for rank, of in peers.items():
        # Where both ends are there, what moves between them is the network's.
        on = frozenset(peer for peer in of if rank not in peers.get(peer, ()))
        waits.setdefault(rank, []).append(_Wait(rank=rank, group=None, seq=0, on=on))
    return waits


def _in_group(group: Group) -> Iterator[_Wait]:
    missing: dict[int, frozenset[int]] = {}
    for rank, status in group.statuses.items():
        seq = status.completed + 1
        if seq <= status.enqueued:
            if seq not in missing:
                missing[seq] = _missing(group, seq)
            yield _Wait(rank=rank, group=group, seq=seq, on=missing[seq] - {rank})


def _peers(looks: Mapping[int, CollectivesLooked], ranks: Collection[int]) -> dict[int, frozenset[int]]:
    """For whose part in a send or receive each rank waits."""
    peers = {rank: {peer for status in look.groups for peer in status.peers} for rank, look in looks.items()}
    return {rank: frozenset(of).intersection(ranks) - {rank} for rank, of in peers.items() if of}


def _missing(group: Group, seq: int) -> frozenset[int]:
    """Members that did not come to this collective, or, where the GPUs say when they begin, did not begin it."""
    came = {rank for rank, status in group.statuses.items() if status.enqueued >= seq}
    absent = group.members - came
    if absent:
        return absent
    began = {rank for rank in came if group.statuses[rank].started >= seq}
    return frozenset(came - began) if began else frozenset()


def _after_the_fact(waits: Waits, looks: Mapping[int, CollectivesLooked]) -> Blocked | None:
    ends = {rank for of in waits.values() for wait in of for rank in wait.on if not _edges(waits, rank)}
    if not ends:
        return None
    verdict = _named(ends, waits, looks)
    return replace(verdict, confidence=min(verdict.confidence, 0.7))


def _erased(found: Mapping[str, Group]) -> dict[int, list[_Wait]]:
    """After a time-out nothing is unfinished any more; that some ranks came further than others still shows."""
    waits: dict[int, list[_Wait]] = {}
    for group in found.values():
        least = min(status.enqueued for status in group.statuses.values())
        on = frozenset(rank for rank in group.statuses if group.statuses[rank].enqueued == least)
        for rank in group.statuses.keys() - on:
            waits.setdefault(rank, []).append(_Wait(rank=rank, group=group, seq=least + 1, on=on))
    return waits


def _restore(waits: dict[int, list[_Wait]], erased: Waits) -> None:
    """Whose time is up waits for nobody any more, while others still wait for it: without this, it would be named."""
    for rank, of in erased.items():
        known = {wait.group.key for wait in waits.get(rank, ()) if wait.group is not None}
        again = [wait for wait in of if wait.group is not None and wait.group.key not in known]
        if again:
            waits.setdefault(rank, []).extend(again)


def _edges(waits: Waits, rank: int) -> frozenset[int]:
    return frozenset(on for wait in waits.get(rank, ()) for on in wait.on)


def _closure(waits: Waits, start: int) -> frozenset[int]:
    """Everybody for whom this rank waits, directly or through others."""
    seen: set[int] = set()
    left = [start]
    while left:
        new = _edges(waits, left.pop()) - seen
        seen |= new
        left.extend(new)
    return frozenset(seen)


def _named(ends: Collection[int], waits: Waits, looks: Mapping[int, CollectivesLooked]) -> Blocked:
    closures = [_closure(waits, rank) for rank in waits]
    reach = {end: sum(end in closure for closure in closures) for end in ends}
    mute = [end for end in ends if end not in looks]
    # One that alone does not answer is held by something deeper than Python; of several, most were merely not asked.
    doubted = mute if len(mute) > 1 else [end for end in ends if end in looks]
    ordered = sorted(ends, key=lambda end: (-reach[end], end in doubted, end))
    culprit = ordered[0]
    rivals = [end for end in ordered[1:] if reach[end] == reach[culprit]]
    stuck = bool(waits.get(culprit))
    confidence = 0.7 if stuck else 0.85 if culprit in mute else 0.95
    if rivals:
        confidence = 0.4 if culprit in mute else 0.6
    return Blocked(
        rank=culprit,
        confidence=confidence,
        evidence=(*_why(culprit, waits), *_state(culprit, waits, looks), *_also(rivals)),
        blame=Blame.HARDWARE if stuck else None,
        next_best=ordered[1] if len(ordered) > 1 else _last_to_come(waits, looks, culprit),
    )


def _why(culprit: int, waits: Waits) -> list[str]:
    """Who waits for it directly, and who waits for those."""
    direct: dict[str, list[int]] = {}
    for of in waits.values():
        for wait in of:
            if culprit in wait.on:
                direct.setdefault(wait.what, []).append(wait.rank)
    named = sorted(direct.items(), key=lambda item: -len(item[1]))[:3]
    said = [f"rank {culprit} never came to {what}, where {_ranks(of)}" for what, of in named]
    near = {rank for of in direct.values() for rank in of}
    far = sorted(rank for rank in waits if rank not in near and rank != culprit and culprit in _closure(waits, rank))
    if far:
        said.append(f"{_ranks(far)} for those, in other groups")
    return said


def _ranks(of: Collection[int], do: str = "wait", does: str = "waits") -> str:
    return f"rank {next(iter(of))} {does}" if len(of) == 1 else f"{len(of)} ranks ({listed(of)}) {do}"


def _state(culprit: int, waits: Waits, looks: Mapping[int, CollectivesLooked]) -> list[str]:
    if culprit not in looks:
        return [
            f"rank {culprit} does not answer, {_ranks(looks.keys(), 'do', 'does')}: it is stopped, or held in C code"
        ]
    if waits.get(culprit):
        return [f"rank {culprit} has called it, but its GPU does not begin: its GPU or network is stuck"]
    return [f"rank {culprit} itself waits in no collective: it computes, sleeps or reads"]


def _also(rivals: Collection[int]) -> list[str]:
    return [f"ranks {listed(rivals)} are waited for by as many"] if rivals else []


def _last_to_come(waits: Waits, looks: Mapping[int, CollectivesLooked], culprit: int) -> int | None:
    """Of those that wait, the one that came last to where it waits: the slowest of the healthy ones."""
    came: dict[int, float] = {}
    for rank in waits.keys() - {culprit}:
        times = [at for status in looks[rank].groups for _, at in status.arrivals[-1:]]
        came[rank] = max(times, default=0.0)
    return max(came, key=lambda rank: (came[rank], -rank), default=None)


def _diverged(split: Mismatch, looks: Mapping[int, CollectivesLooked]) -> Blocked:
    ranks, sure = astray(split, looks)
    culprit = ranks[0]
    others = [rank for rank, call in split.calls.items() if call != split.calls[culprit]]
    who = f"rank {culprit}" if len(ranks) == 1 else f"ranks {listed(ranks)}"
    rest = f"rank {others[0]}" if len(others) == 1 else f"{len(others)} ranks ({listed(others)})"
    theirs = split.calls[others[0]]
    said = f"in collective {split.seq} of {split.group.label}, {who} called {split.calls[culprit]}, and {rest} {theirs}"
    return Blocked(
        rank=culprit,
        confidence=0.95 if sure else 0.5,
        evidence=(said, *_called(looks[culprit], split.group.key, split.seq)),
        blame=Blame.USER_CODE,
        next_best=ranks[1] if len(ranks) > 1 else min(others),
        call=split.calls[culprit],
    )


def _called(look: CollectivesLooked, key: str, seq: int) -> list[str]:
    """Where in the code, when that was the last call in its group."""
    frames = [status.frames[-1] for status in look.groups if status.group == key and status.frames]
    here = [s for s in look.groups if s.group == key and s.enqueued == seq]
    return [f"called at {frames[0]}"] if frames and here else []


def _circle(waits: Waits, looks: Mapping[int, CollectivesLooked]) -> Blocked:
    """Ranks wait for each other: one of them called its groups in another order than it always did."""
    ring = _terminal(waits, min(rank for rank in waits if _edges(waits, rank)))
    keys = {wait.group.key for rank in ring for wait in waits[rank] if wait.group is not None}
    strange = [rank for rank in ring if any(_is_strange(looks[rank], wait, keys) for wait in waits[rank])]
    waited = {rank: sum(rank in _edges(waits, other) for other in waits) for rank in ring}
    ordered = sorted(ring, key=lambda rank: (rank not in strange, -waited[rank], rank))
    culprit, sure = ordered[0], len(strange) == 1
    said = [
        f"rank {rank} stands in {waits[rank][0].what} and waits for ranks {listed(_edges(waits, rank))}"
        for rank in ordered[:4]
    ]
    said.insert(0, f"ranks {listed(ring)} wait for each other: they called their groups in different orders")
    if sure:
        said.insert(1, f"rank {culprit} never called them in this order before")
    return Blocked(
        rank=culprit,
        confidence=0.9 if sure else 0.4,
        evidence=tuple(said),
        blame=Blame.USER_CODE,
        next_best=ordered[1] if len(ordered) > 1 else None,
        call=waits[culprit][0].what if sure else "",
    )


def _is_strange(look: CollectivesLooked, wait: _Wait, keys: Collection[str]) -> bool:
    if wait.group is None:
        return False
    own = wait.group.key
    return is_strange(look, wait.seq, (own, *sorted(key for key in keys if key != own)))


def _terminal(waits: Waits, start: int) -> list[int]:
    """Ranks that wait for each other and for nobody else."""
    ring = _closure(waits, start)
    for rank in sorted(ring):
        inner = _closure(waits, rank)
        if inner < ring:
            return _terminal(waits, rank)
    return sorted(ring)


def _together(waits: Waits) -> Blocked:
    """All came; nobody leaves."""
    places: dict[str, list[int]] = {}
    for of in waits.values():
        for wait in of:
            places.setdefault(wait.what, []).append(wait.rank)
    what, inside = max(places.items(), key=lambda item: len(item[1]))
    return Blocked(
        rank=None,
        confidence=0.5,
        evidence=(f"all that take part came to {what}, and it does not end on ranks {listed(inside)}: GPU or network",),
        blame=Blame.NETWORK,
    )

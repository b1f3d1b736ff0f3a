"""Where does each node's copy go, and from where does a node get what it lost? Decided from what agents say of keepers.

Pure. A ring: every node sends to one other, and holds the copies of one other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jobs.agent.orders import Keeper, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a node is."""

    host: str
    domain: str = ""
    """what fails together; empty: not known"""


def ring(sites: Mapping[int, Site]) -> dict[int, int]:
    """To which node each one sends: on another host where there is one, and in another failure domain where possible.

    All are shifted by the same number, the least that does it. Where none does, because hosts have different numbers
    of nodes, each takes the next one that is on another host, and some hold the copies of two.
    """
    nodes = sorted(sites)
    shifts = range(1, len(nodes))
    for apart in (_domains_differ, _hosts_differ):
        for shift in shifts:
            pairs = {node: nodes[(place + shift) % len(nodes)] for place, node in enumerate(nodes)}
            if all(apart(sites[node], sites[other]) for node, other in pairs.items()):
                return pairs
    return {node: _next(nodes, place, sites) for place, node in enumerate(nodes)} if len(nodes) > 1 else {}


def _next(nodes: list[int], place: int, sites: Mapping[int, Site]) -> int:
    others = nodes[place + 1 :] + nodes[:place]
    away = [other for other in others if _hosts_differ(sites[nodes[place]], sites[other])]
    return next(iter([*away, *others]))


def _hosts_differ(one: Site, other: Site) -> bool:
    return one.host != other.host


def _domains_differ(one: Site, other: Site) -> bool:
    return one.host != other.host and one.domain != other.domain


def own(node: int, told: Iterable[Keeper]) -> Keeper | None:
    """The keeper of the node itself, of all that its agent told of."""
    return next((keeper for keeper in told if keeper.node == node), None)


def missing(
    keepers: Mapping[int, Iterable[Keeper]], ranks_per_node: int, since: int | None
) -> dict[int, tuple[Source, ...]]:
    """By node: which keepers have newer copies of its ranks than its own keeper, of worlds from `since` on.

    `keepers` are those that each node's agent told of. A node that has none itself can be brought nothing.
    """
    if since is None:
        return {}
    everywhere = [keeper for told in keepers.values() for keeper in told]
    wanted: dict[int, tuple[Source, ...]] = {}
    for node, told in keepers.items():
        mine = own(node, told)
        if mine is None:
            continue
        ranks = range(node * ranks_per_node, (node + 1) * ranks_per_node)
        found = (_source(rank, mine, everywhere, since) for rank in ranks)
        wanted[node] = tuple(source for source in found if source is not None)
    return wanted


def _source(rank: int, own: Keeper, everywhere: Iterable[Keeper], since: int) -> Source | None:
    best = max(everywhere, key=lambda keeper: _newest(keeper, rank), default=own)
    newest = _newest(best, rank)
    if newest <= _newest(own, rank) or newest[0] < since:
        return None
    return Source(rank=rank, host=best.host, port=best.port)


def _newest(keeper: Keeper, rank: int) -> tuple[int, int]:
    return max(((kept.world, kept.step) for kept in keeper.holds if kept.rank == rank), default=(-1, -1))

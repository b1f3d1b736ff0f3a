"""Which hosts get no ranks? A cordon keeps a host out of the next world, and ends none."""

from __future__ import annotations

from orchestrator.core.events import HostCordoned
from orchestrator.core.replacing import replace
from orchestrator.core.state import Cordon, State


def names(state: State) -> tuple[str, ...]:
    """Hosts that must not be given ranks, in order of their names."""
    return tuple(sorted(cordon.host for cordon in state.cordons))


def here(state: State) -> tuple[str, ...]:
    """Of those the ones that this attempt was given."""
    given = {host for node, host in state.hosts if node in state.joined}
    return tuple(host for host in names(state) if host in given) if state.cordons else ()


def host_of(state: State, node: int) -> str | None:
    """Host of a node of this attempt; None: its agent never dialled."""
    return dict(state.hosts).get(node)


def seen(state: State, node: int, host: str) -> State:
    """The agent of a node dialled from a host."""
    if (node, host) in state.hosts:
        return state
    return replace(state, hosts=tuple(sorted({**dict(state.hosts), node: host}.items())))


def changed(state: State, event: HostCordoned) -> State:
    """A host is kept out, or let back in; whoever did it first stands as the one who did."""
    known = any(cordon.host == event.host for cordon in state.cordons)
    if known is event.cordoned:
        return state
    if not event.cordoned:
        return replace(state, cordons=tuple(c for c in state.cordons if c.host != event.host))
    return replace(state, cordons=(*state.cordons, Cordon(host=event.host, at=event.at, by=event.by, why=event.why)))


def refusal(state: State, node: int) -> str:
    """Why a node cannot be left out of the next attempt; empty when it can."""
    if not state.plan.excludes:
        return "its scheduler has no other host to give"
    return "" if host_of(state, node) else "its agent never dialled, so its host is not known"

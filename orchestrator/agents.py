"""Who is on the other end? The agents of one run: their connections, and the orders they are given."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.agent import orders as o
from monitors.detect.probes import ProbeWanted
from monitors.signals import Signal
from orchestrator import tiers
from orchestrator.core import actions
from orchestrator.offset import Offset

log = logging.getLogger(__name__)

Send = Callable[[bytes], None]

SOON_S = 2.5
"""how far ahead the last step of a gentle stop lies: all agents must have told their ranks before one is there, and
what is known of their progress is a second old (`jobs/agent/pulse.py`)"""


@dataclass(slots=True)
class Peer:
    """One connected agent."""

    hello: o.Hello
    send: Send
    clock: Offset
    first_world: int | None = None
    """that it was ordered to start; before it, nothing has changed what its keepers hold"""
    partner: o.SendCopies | None = None
    """to whom it was told to send its copies"""


class ConnectedAgents:
    """The `Agents` port of one run."""

    def __init__(
        self,
        attempts: Path,
        checkpoints: str,
        *,
        pace: Callable[[], tuple[int, float | None]],
        step_of: Callable[[str], int],
        nodes: int = 1,
        ranks_per_node: int = 1,
    ) -> None:
        """`pace` tells the newest step and the seconds of one, `step_of` the step of a checkpoint."""
        self._nodes = nodes
        self._ranks_per_node = ranks_per_node
        self._attempts = attempts
        self._checkpoints = checkpoints
        self._pace = pace
        self._step_of = step_of
        self._peers: dict[int, Peer] = {}
        self._offer: o.Store | None = None

    @property
    def nodes(self) -> tuple[int, ...]:
        """Nodes that are connected now."""
        return tuple(sorted(self._peers))

    @property
    def hosts(self) -> dict[int, str]:
        """The same, each with the name of its machine."""
        return {node: peer.hello.host for node, peer in self._peers.items()}

    def connect(self, hello: o.Hello, send: Send, now: float) -> float:
        """An agent dialled; an older connection of the same node is forgotten. Returns how far its clock is off."""
        clock = Offset()
        if hello.at is not None:
            clock.heard(hello.at, now)
        self._peers[hello.node] = Peer(hello=hello, send=send, clock=clock)
        self._told(hello.node, clock, 0.0)
        if hello.store is not None:
            self._offer = hello.store
        return clock.seconds

    def pair(self) -> None:
        """Somebody is welcome: with all nodes here, each is told where to send its copies, when that is news to it."""
        keepers = {node: tiers.own(node, peer.hello.keepers) for node, peer in self._peers.items()}
        if len(keepers) < self._nodes:
            return
        hellos = {node: self._peers[node].hello for node, keeper in keepers.items() if keeper is not None}
        sites = {node: tiers.Site(host=hello.host, domain=hello.domain) for node, hello in hellos.items()}
        for node, other in tiers.ring(sites).items():
            peer, keeper = self._peers[node], keepers[other]
            assert keeper is not None
            order = o.SendCopies(host=keeper.host, port=keeper.port)
            if peer.partner != order:
                peer.partner = order
                peer.send(o.encode(order))

    def ours(self, node: int, signal: Signal, now: float) -> Signal:
        """A signal of an agent, by our clock."""
        clock = self._peers[node].clock
        before_s = clock.seconds
        signal = clock.ours(signal, now)
        self._told(node, clock, before_s)
        return signal

    def _told(self, node: int, clock: Offset, before_s: float) -> None:
        if clock.seconds != before_s:
            log.warning("the clock of node %d is %+.1f s behind ours: its times are moved by that", node, clock.seconds)

    def disconnect(self, node: int, send: Send) -> bool:
        """A connection ended; False when a newer one has taken its place."""
        peer = self._peers.get(node)
        if peer is None or peer.send is not send:
            return False
        del self._peers[node]
        return True

    def offered(self, store: o.Store) -> None:
        """Node 0 has a fresh store for the next world."""
        self._offer = store

    def heard(self, node: int, seq: int) -> None:
        """Everything up to seq is in the journal."""
        if node in self._peers:
            self._peers[node].send(o.encode(o.Heard(seq=seq)))

    def leave(self, grace_s: float, *, relaunch: bool) -> None:
        """The attempt is over; `relaunch`: another one follows."""
        self._tell(o.Leave(grace_s=grace_s, relaunch=relaunch))

    def look(self, world: int, ranks: tuple[int, ...]) -> None:
        """Have the kernel asked about ranks."""
        self._tell(o.LookAt(world=world, ranks=ranks))

    def probe(self, wanted: ProbeWanted) -> None:
        """Have a device measured; an agent that is not there will be told when it is asked for again."""
        peer = self._peers.get(wanted.node)
        if peer is not None:
            peer.send(o.encode(o.Probe(world=wanted.world, device=wanted.device, about=wanted.about)))

    def start_world(self, order: actions.StartWorld) -> None:
        """Start the ranks on every node that is connected; the others are told when they dial."""
        try:
            store = self._store_of(order)
        except (OSError, ValueError, TypeError) as error:
            log.error("world %d is not ordered: its store cannot be noted: %s", order.world, error)
            return
        if store is None:
            return  # node 0 is not connected: its hello brings the offer and the order again
        candidates = tuple(
            o.Candidate(checkpoint=name, step=self._step_of(name), path=os.path.join(self._checkpoints, name))
            for name in order.candidates
        )
        start = o.StartWorld(
            world=order.world,
            store=store,
            candidates=candidates,
            skips=order.skips,
            memory_since=order.memory_since,
            fresh=order.fresh,
            in_process=order.in_process,
            save_every=order.save_every,
        )
        for node, sources in self._missing(order).items():
            self._peers[node].send(o.encode(replace(start, fetch=sources)))

    def _missing(self, order: actions.StartWorld) -> dict[int, tuple[o.Source, ...]]:
        """What each node is to be brought; once an attempt trains, every node has its own copies."""
        for peer in self._peers.values():
            peer.first_world = peer.first_world or order.world
        told = {node: peer.hello.keepers for node, peer in self._peers.items() if peer.first_world == order.world}
        wanted = tiers.missing(told, self._ranks_per_node, order.memory_since)
        return {node: wanted.get(node, ()) for node in self._peers}

    def _store_of(self, order: actions.StartWorld) -> o.Store | None:
        """The store of a world is chosen once, before anybody hears of it, and survives the supervisor."""
        path = self._attempts / f"{order.attempt:03d}" / f"store-w{order.world}.json"
        if path.exists():
            return o.Store(**json.loads(path.read_text()))
        if self._offer is None or 0 not in self._peers:
            return None
        store = self._offer
        _write(path, {"host": store.host, "port": store.port})
        self._offer = None
        return store

    def stop_world(self, order: actions.StopWorld) -> None:
        """End the ranks."""
        self._tell(
            o.StopWorld(world=order.world, grace_s=order.grace_s, in_process=order.in_process, culprits=order.culprits)
        )

    def save_every(self, order: actions.SaveEvery) -> None:
        """Let the ranks save more often, or more seldom."""
        self._tell(o.SaveEvery(world=order.world, steps=order.steps))

    def stop_after_step(self, order: actions.StopAfterStep) -> None:
        """Let the ranks save and end soon."""
        if not self._peers:
            return  # whoever dials hears the order again
        try:
            step = self._last_step(order)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("world %d is not asked to stop: its last step cannot be noted: %s", order.world, error)
        else:
            self._tell(o.StopAfter(world=order.world, step=step))

    def _last_step(self, order: actions.StopAfterStep) -> int:
        """Chosen once, like the store: ranks that ended after different steps would wait for each other's save."""
        path = self._attempts / f"{order.attempt:03d}" / f"stop-w{order.world}.json"
        if path.exists():
            return int(json.loads(path.read_text())["step"])
        step, step_s = self._pace()
        last = step + (2 + math.ceil(SOON_S / step_s) if step_s else 2)
        _write(path, {"step": last})
        return last

    def cap_power(self, order: actions.CapPower) -> None:
        """Limit the power of every GPU, or put the limits back."""
        self._tell(o.CapPower(watts=order.watts))

    def inject(self, order: actions.InjectFault) -> None:
        """A drill."""
        self._tell(o.Inject(world=order.world, drill=order.drill, rank=order.rank, number=order.number))

    def _tell(self, order: o.Order) -> None:
        line = o.encode(order)
        for peer in self._peers.values():
            peer.send(line)


def _write(path: Path, body: dict[str, object]) -> None:
    draft = path.with_suffix(".writing")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft.write_text(json.dumps(body))
    os.replace(draft, path)

"""What does a keeper do when it is asked? By its node's agent, and by keepers of other nodes."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from jobs.keeper import door, wire
from jobs.keeper.mirror import Mirror, Partner
from jobs.keeper.shelf import NoRoom, Shelf
from lastgood.header import BODY, Head
from lastgood.room import free_bytes
from monitors.clock import Clock

BODY_MAX = 1 << 46
"""bytes: nobody has a copy that is larger"""

log = logging.getLogger(__name__)


class Keeper:
    """One node of one run."""

    def __init__(self, home: Path, run: str, clock: Clock, free: Callable[[], int] = free_bytes) -> None:
        self._home = home
        self._run = run
        self._clock = clock
        self._shelf = Shelf(run, free)
        self._mirrors: dict[int, Mirror] = {}
        self._partner: Partner | None = None
        self._lock = threading.Lock()
        self._attempt = 0
        self._agents: set[socket.socket] = set()
        self._alone_since: float | None = clock.now()
        self.where = ("", 0)
        """host and port for other nodes"""
        self.leaving = threading.Event()
        """set when it is over"""

    # The node's agent

    def alone_s(self) -> float:
        """For how long no agent has been connected."""
        return 0.0 if self._alone_since is None else self._clock.now() - self._alone_since

    def serve(self, connection: socket.socket) -> None:
        """Answer one connection of this host until it ends."""
        try:
            while not self.leaving.is_set() and (heard := door.hear(connection)) is not None:
                body, fds = heard
                try:
                    self._answer(connection, body, fds)
                finally:
                    door.close(fds)
        except (OSError, ValueError) as error:
            log.info("a connection of this host ended: %s", error)
        finally:
            self._gone(connection)
            connection.close()

    def _gone(self, connection: socket.socket) -> None:
        with self._lock:
            self._agents.discard(connection)
            if not self._agents and self._alone_since is None:
                self._alone_since = self._clock.now()

    def _answer(self, connection: socket.socket, body: dict[str, Any], fds: Sequence[int]) -> None:
        match body:
            case {"ask": "hello", "attempt": int(attempt)}:
                door.say(connection, self._welcomed(connection, attempt))
            case {"ask": "look"}:
                door.say(connection, self._told())
            case {"ask": "leave"}:
                log.info("told to leave")
                door.say(connection, {})
                self.leaving.set()
            case _ if connection not in self._agents:
                door.say(connection, {"refused": "a newer attempt has the keeper"})
            case {"ask": "keep", "rank": int(rank)}:
                door.say(connection, {}, self._keep(rank, fds))
            case {"ask": "send", "host": str(host), "port": int(port)}:
                self._send_to(Partner(host=host, port=port))
                door.say(connection, {})
            case {"ask": "fetch", "from": list(sources)}:
                door.say(connection, {"why": self._fetch(sources)})
            case _:
                door.say(connection, {"refused": f"not understood: {str(body)[:80]}"})

    def _welcomed(self, connection: socket.socket, attempt: int) -> dict[str, Any]:
        """Of several agents the one of the newest attempt counts: an older one is about to end."""
        with self._lock:
            if attempt < self._attempt:
                return {"refused": f"attempt {self._attempt} has the keeper"}
            if attempt > self._attempt:
                self._agents.clear()
            self._attempt = attempt
            self._agents.add(connection)
            self._alone_since = None
        return self._told()

    def _told(self) -> dict[str, Any]:
        held = [[one.facts.rank, one.facts.world, one.facts.step] for one in self._shelf.held()]
        host, port = self.where
        return {
            "host": host,
            "port": port,
            "held": held,
            "why": next((m.why for m in list(self._mirrors.values()) if m.why), ""),
        }

    def _keep(self, rank: int, fds: Sequence[int]) -> Sequence[int]:
        if rank not in self._mirrors:
            mirror = Mirror(rank, self._shelf, key=self._key, clock=self._clock)
            mirror.send_to(self._partner)
            self._mirrors[rank] = mirror
            mirror.start()
        return self._shelf.keep(rank, fds)

    def _send_to(self, partner: Partner) -> None:
        self._partner = partner
        for mirror in self._mirrors.values():
            mirror.send_to(partner)

    def _key(self) -> bytes:
        return wire.secret(self._home, self._run)

    # Other nodes

    def admit(self, connection: socket.socket) -> None:
        """Answer one connection of another node until it ends."""
        try:
            wire.admit(connection, self._key())
            while not self.leaving.is_set():
                self._serve(connection, wire.hear(connection))
        except (OSError, wire.Stranger, wire.Broken) as error:
            log.info("a connection of another node ended: %s", error)
        finally:
            connection.close()

    def _serve(self, connection: socket.socket, body: dict[str, Any]) -> None:
        match body:
            case {"ask": "take", "rank": int(rank), "world": int(world)}:
                self._take(connection, rank, world, _head(body))
            case {"ask": "list", "rank": int(rank)}:
                wire.say(connection, {"copies": [_described(one.key, one.head) for one in self._shelf.held(rank)]})
            case {"ask": "give", "rank": int(rank), "digest": str(digest)}:
                self._give(connection, rank, digest)
            case _:
                raise wire.Broken(f"not understood: {str(body)[:80]}")

    def _take(self, connection: socket.socket, rank: int, world: int, head: Head) -> None:
        if not self._shelf.has_made_its_own:
            wire.say(connection, {"refused": "the ranks there have made no copies of their own yet", "soon": True})
            return
        try:
            with self._shelf.writing(rank, world, head.size) as fd:
                wire.say(connection, {})
                wire.say(connection, {"whole": wire.receive(connection, fd, head)})
        except NoRoom as error:
            wire.say(connection, {"refused": str(error)})

    def _give(self, connection: socket.socket, rank: int, digest: str) -> None:
        found = next((one for one in self._shelf.held(rank) if one.head.digest.hex() == digest), None)
        if found is None:
            wire.say(connection, {"refused": "it is not here any more"})
            return
        wire.say(connection, {})
        wire.send(connection, found.fd, found.head)

    def _fetch(self, sources: Sequence[Any]) -> str:
        """Bring copies of this node's ranks here, side by side; returns why one could not be had."""
        whys: list[str] = []
        threads = [threading.Thread(target=self._fetch_rank, args=(*source, whys), daemon=True) for source in sources]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return "; ".join(sorted(set(whys)))

    def _fetch_rank(self, rank: int, host: str, port: int, whys: list[str]) -> None:
        try:
            with wire.dial(host, port, self._key()) as connection:
                wire.say(connection, {"ask": "list", "rank": rank})
                copies = wire.hear(connection)["copies"]
                mine = [one.key for one in self._shelf.own(rank)]
                newer = [one for one in copies if _key(one) > max(mine, default=(-1, -1))]
                # The oldest first: of two files, the one that holds the newest is never written.
                for one in sorted(newer, key=_key):
                    self._fetch_one(connection, rank, one)
        except (OSError, KeyError, TypeError, ValueError, NoRoom, wire.Stranger, wire.Broken) as error:
            whys.append(f"copies of rank {rank} could not be fetched from {host}:{port}: {error}")

    def _fetch_one(self, connection: socket.socket, rank: int, one: dict[str, Any]) -> None:
        head = _head(one)
        with self._shelf.writing(rank, int(one["world"]), head.size, own=True) as fd:
            wire.say(connection, {"ask": "give", "rank": rank, "digest": one["digest"]})
            if "refused" not in wire.hear(connection):
                whole = wire.receive(connection, fd, head, fetched=True)
                log.info("rank %d: fetched step %s of world %s: %s", rank, one["step"], one["world"], whole)


def _key(one: dict[str, Any]) -> tuple[int, int]:
    return int(one["world"]), int(one["step"])


def _described(key: tuple[int, int], head: Head) -> dict[str, Any]:
    world, step = key
    return {"world": world, "step": step, "body": head.body, "tail": head.tail, "digest": head.digest.hex()}


def _head(body: dict[str, Any]) -> Head:
    """Of a copy that another keeper speaks of. Raises Broken for one that cannot be."""
    with suppress(KeyError, TypeError, ValueError):
        head = Head(body=int(body["body"]), tail=int(body["tail"]), digest=bytes.fromhex(body["digest"]))
        if min(head.body, head.tail - 8) >= 0 and BODY < head.size <= BODY_MAX and len(head.digest) == 16:
            return head
    raise wire.Broken(f"no copy: {str(body)[:80]}")

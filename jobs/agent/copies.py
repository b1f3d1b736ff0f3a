"""Where do ranks keep the copies of their state? In memory that outlives them, and this agent too.

Files without a name, not bounded by the size of /dev/shm, which containers keep small. The keeper of the node owns
them, this agent holds them open as well, and a rank opens them through /proc. Without a keeper they are this agent's
alone, and gone with it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from jobs.agent import address, environment
from jobs.agent.child import Child, Exit
from jobs.agent.orders import Keeper, Kept, SendCopies, Source
from jobs.agent.place import Place
from jobs.keeper import door, shelf
from jobs.spec import Spec
from monitors.clock import Clock

TURNS = 3
"""copies of a rank: one is whole while another is written, and one may be held for the saver"""
START_S = 10.0
"""for a keeper to listen"""
LOOK_S = 0.01
WATCH_S = 1.0
AGAIN_S = 5.0
"""before another keeper is started in the place of one that ended"""
FETCH_S = 120.0
"""for copies to come from other nodes, after which the ranks begin without: what is left is the disk"""
OWN, PEER = "memory copies", "memory copies on a peer"
"""senses, as which a node tells that something is amiss with them"""

log = logging.getLogger(__name__)


class Copies:
    """Those of all ranks of this node; empty until a rank makes room in them."""

    def __init__(
        self,
        place: Place,
        spec: Spec,
        *,
        clock: Clock,
        say: Callable[[str, str], None],
        moved: Callable[[], None],
    ) -> None:
        """`say` hears of a blind sense, and why; of no reason when it sees again. `moved` hears of another keeper."""
        self._place = place
        self._ranks = _copied(spec, place)
        self._clock = clock
        self._say = say
        self._moved = moved
        self._files: dict[int, tuple[int, ...]] = {}
        self._client: door.Client | None = None
        self._partner: SendCopies | None = None
        self._whys = {OWN: "", PEER: ""}
        self._started_at = float("-inf")
        self.keepers: tuple[Keeper, ...] = ()
        """of this node, then those that another attempt left on this host, with what they held when this one began"""

    async def open(self) -> None:
        """Find the keeper, or start it. Without one, files are this agent's."""
        if not self._ranks:
            return
        await self._meet()
        others = [node for node in door.nodes_here(*self._run) if node != self._place.node]
        left = await asyncio.gather(*(asyncio.to_thread(self._left, node) for node in others))
        self.keepers += tuple(keeper for keeper in left if keeper is not None)

    def paths(self, rank: int) -> tuple[str, ...]:
        """Where a rank finds its files, in every world the same; none where the kernel refuses them."""
        if rank not in self._files:
            self._files[rank] = _made(rank)
        return tuple(f"/proc/{os.getpid()}/fd/{fd}" for fd in self._files[rank])

    async def run(self) -> None:
        """Watch the keeper for ever."""
        while self._ranks:
            await asyncio.sleep(WATCH_S)
            if self._client is None and self._clock.now() - self._started_at >= AGAIN_S:
                await self._meet()
            elif self._client is not None and (told := await self._ask({"ask": "look"})) is not None:
                self._tell(PEER, str(told["why"]))

    async def send_to(self, partner: SendCopies) -> None:
        """Have copies sent to another node."""
        self._partner = partner
        await self._ask({"ask": "send", **asdict(partner)})

    async def fetch(self, sources: Sequence[Source]) -> None:
        """Have copies brought that other nodes have of this node's ranks."""
        log.info("copies are fetched: %s", sources)
        wanted = [[one.rank, one.host, one.port] for one in sources]
        told = await self._ask({"ask": "fetch", "from": wanted}, within_s=FETCH_S)
        if told is not None and told["why"]:
            log.warning("%s", told["why"])

    def dismiss(self) -> None:
        """The run is over: nobody needs them any more."""
        if self._ranks:
            door.dismiss(*self._run, [self._place.node])
            self._ranks = range(0)

    def close(self) -> None:
        """Let go of them; the keeper stays."""
        if self._client is not None:
            self._client.close()
        for fds in self._files.values():
            door.close(fds)
        self._files.clear()

    @property
    def _run(self) -> tuple[Any, str]:
        return self._place.home, self._place.run

    async def _meet(self) -> None:
        self._started_at = self._clock.now()
        try:
            self._client = await self._connected()
            told, _ = await asyncio.to_thread(self._client.ask, {"ask": "hello", "attempt": self._place.attempt})
            for rank in self._ranks:
                await self._shared(self._client, rank)
        except OSError as error:
            self._lost(f"there is no keeper: {error}")
            return
        self.keepers = (_keeper(self._place.node, told),)
        self._moved()
        self._tell(OWN, "")
        if self._partner is not None:
            await self.send_to(self._partner)

    async def _connected(self) -> door.Client:
        name = door.name(*self._run, self._place.node)
        with suppress(OSError):
            return door.Client(name)
        self._start()
        until = self._clock.now() + START_S
        while True:
            try:
                return door.Client(name)
            except OSError:
                if self._clock.now() >= until:
                    raise
            await asyncio.sleep(LOOK_S)

    def _start(self) -> None:
        place = self._place
        where = (
            "--home",
            str(place.home),
            "--run",
            place.run,
            "--node",
            str(place.node),
            "--host",
            address.reachable_host(place.home),
        )
        with (place.folder / "keeper.log").open("ab") as output:
            Child(
                (sys.executable, "-P", "-m", "jobs.keeper", *where),
                _ended,
                env=environment.of_no_attempt(os.environ),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    async def _shared(self, client: door.Client, rank: int) -> None:
        """The keeper has files of this rank already, or takes ours."""
        ours = self._files.get(rank) or _made(rank)
        _, theirs = await asyncio.to_thread(client.ask, {"ask": "keep", "rank": rank}, ours)
        self._files[rank] = tuple(theirs)
        door.close(ours)

    def _left(self, node: int) -> Keeper | None:
        """A keeper of another node that another attempt left on this host."""
        with suppress(OSError):
            client = door.Client(door.name(*self._run, node))
            try:
                return _keeper(node, client.ask({"ask": "look"})[0])
            finally:
                client.close()
        return None

    async def _ask(self, body: Mapping[str, Any], within_s: float = door.ANSWER_S) -> dict[str, Any] | None:
        """None when there is no keeper, or none any more."""
        if self._client is None:
            return None
        try:
            told, _ = await asyncio.to_thread(self._client.ask, dict(body), within_s=within_s)
        except OSError as error:
            self._lost(f"the keeper is lost: {error}")
            return None
        return told

    def _lost(self, why: str) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None
        self._tell(OWN, f"{why}; copies in memory end with this agent")

    def _tell(self, sense: str, why: str) -> None:
        if why != self._whys[sense]:
            log.log(logging.WARNING if why else logging.INFO, "%s: %s", sense, why or "well again")
            self._say(sense, why)
        self._whys[sense] = why


def _copied(spec: Spec, place: Place) -> range:
    """Ranks of this node that keep copies of their state in memory."""
    first = place.node * spec.ranks_per_node
    return range(first, first + spec.ranks_per_node) if spec.checkpoint.memory_every_steps != 0 else range(0)


def _ended(end: Exit) -> None:
    log.info("the keeper that was started here ended: status %s, signal %s", end.code, end.signal)


def _keeper(node: int, told: Mapping[str, Any]) -> Keeper:
    holds = tuple(Kept(rank=rank, world=world, step=step) for rank, world, step in told["held"])
    return Keeper(node=node, host=told["host"], port=told["port"], holds=holds)


def _made(rank: int) -> tuple[int, ...]:
    try:
        return shelf.made(rank, TURNS)
    except OSError as error:
        log.warning("no memory for copies of rank %d: %s", rank, error)
        return ()

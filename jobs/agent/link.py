"""How does the agent stay in touch with the supervisor? It dials, again and again, and trains on meanwhile."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from pathlib import Path

from jobs.agent import address, orders
from jobs.agent.outbox import Outbox
from monitors import wire

REDIAL_S = 0.05
REDIAL_MAX_S = 2.0
CONNECT_S = 5.0
SILENCE_S = 10.0
"""a supervisor acknowledges at least every 5 s while reports flow, and they do: one that is silent is not there"""
LINE_BYTES = 1 << 24
BATCH = 500
"""reports written before the other side's reading is waited for"""

log = logging.getLogger(__name__)


class Link:
    """The one connection. `up` while a supervisor that knows us is at the other end."""

    def __init__(
        self,
        home: Path,
        outbox: Outbox,
        *,
        hello: Callable[[str], orders.Hello],
        obey: Callable[[orders.Order], None],
        refused: Callable[[orders.Refused], None],
        silence_s: float = SILENCE_S,
    ) -> None:
        """`hello` makes the first line from the token, `refused` hears that the supervisor does not want this agent."""
        self._home = home
        self._outbox = outbox
        self._hello = hello
        self._obey = obey
        self._refused = refused
        self._silence_s = silence_s
        self._offers: list[orders.StoreOffered] = []
        self._why_down = ""
        self._writer: asyncio.StreamWriter | None = None
        self.up = False
        self.welcomes = 0
        """how often a supervisor wanted this agent"""
        self.silent = False
        """the supervisor took too long to answer, and has said nothing since"""

    def offer(self, store: orders.Store) -> None:
        """Tell of a fresh store; when the link is down, the next Hello does."""
        self._offers.append(orders.StoreOffered(store=store))
        self._outbox.changed.set()

    def redial(self) -> None:
        """Say hello anew: something in it has changed."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def run(self) -> None:
        """Dial for ever."""
        delay_s = REDIAL_S
        while True:
            where = address.read(self._home)
            if where is not None and await self._try(where):
                delay_s = REDIAL_S
            await self._pause(delay_s, where)
            delay_s = min(2 * delay_s, REDIAL_MAX_S)

    async def _pause(self, delay_s: float, tried: address.Address | None) -> None:
        """Wait before the next try; not at all when another supervisor has said where it is."""
        for _ in range(round(delay_s / REDIAL_S)):
            await asyncio.sleep(REDIAL_S)
            if address.read(self._home) != tried:
                return

    async def _try(self, where: address.Address) -> bool:
        """Talk until the connection ends; True when there was one."""
        talked = False
        try:
            talked = await self._talk(where)
            why = "the supervisor closed it"
        except (OSError, ValueError, KeyError, TypeError) as error:
            talked, why = self.up, repr(error)
            self.silent = self.silent or isinstance(error, TimeoutError)
        self.up = False
        if why != self._why_down:
            log.warning("no link to the supervisor at %s:%d: %s", where.host, where.port, why)
        self._why_down = why
        return talked

    async def _talk(self, where: address.Address) -> bool:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(where.host, where.port, limit=LINE_BYTES)
        self._writer = writer
        try:
            _notice_death(writer.get_extra_info("socket"))
            self._offers.clear()  # the hello brings the newest
            writer.write(orders.encode(self._hello((self._home / "token").read_text().strip())))
            match _decode(await self._line(reader) or b"null"):
                case orders.Welcome(heard=seq):
                    await self._converse(reader, writer, seq)
                    return True
                case orders.Refused() as refused:
                    self._weigh(where, refused)
            return False
        finally:
            writer.transport.abort()

    def _weigh(self, where: address.Address, refused: orders.Refused) -> None:
        """Hand a refusal on, but not one from a stranger that got the port of a supervisor that has died."""
        if not where.is_here or where.is_alive:
            self._refused(refused)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seq: int) -> None:
        log.info("the supervisor listens")
        self._why_down = ""
        self.up = True
        self.welcomes += 1
        self._outbox.heard(seq)
        self._outbox.rewind()
        sender = asyncio.create_task(self._send(writer))
        sender.add_done_callback(lambda _: writer.transport.abort())  # a link that only listens looks sound
        try:
            while line := await self._line(reader):
                self._take(line)
        finally:
            sender.cancel()
            await _ended(sender)

    async def _line(self, reader: asyncio.StreamReader) -> bytes:
        """The next line; nothing at the end of the connection. Raises TimeoutError after a long silence."""
        async with asyncio.timeout(self._silence_s):
            line = await reader.readline()
        if not line.endswith(b"\n"):
            return b""
        self.silent = False
        return line

    def _take(self, line: bytes) -> None:
        try:
            message = _decode(line)
        except (ValueError, KeyError) as error:
            log.error("not understood: %s (%r)", line[:200], error)  # a newer supervisor's
            return
        match message:
            case orders.Heard(seq=seq) | orders.Welcome(heard=seq):
                self._outbox.heard(seq)
            case orders.Refused():
                self._refused(message)
            case _:
                # Not called from here: an error in there is ours, and must not pass for one of the link.
                asyncio.get_running_loop().call_soon(self._obey, message)

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._outbox.changed.wait()
            # Taken before the offers: `take` may clear the event that an offer set.
            reports = self._outbox.take(BATCH)
            offers, self._offers = self._offers, []
            # Not `writelines`: since Python 3.12 it fails when there is nothing, as after a greeting.
            said: list[orders.FromAgent] = [*offers, *reports]
            writer.write(b"".join(map(orders.encode, said)))
            await writer.drain()


async def _ended(sender: asyncio.Task[None]) -> None:
    """Nobody waits for a sender's result, so what went wrong in it is said here."""
    (how,) = await asyncio.gather(sender, return_exceptions=True)
    if not isinstance(how, asyncio.CancelledError | OSError):
        log.error("the sender of reports ended", exc_info=how)


def _decode(line: bytes) -> orders.ToAgent:
    """Raises ValueError or KeyError for what is no message."""
    message: orders.ToAgent = wire.decode(json.loads(line), orders.TO_AGENT)
    return message


def _notice_death(connection: socket.socket) -> None:
    """A host that lost its power says no goodbye."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(SILENCE_S * 1000))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

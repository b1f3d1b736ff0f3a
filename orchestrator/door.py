"""How do agents and people reach the supervisor? One loopback port, one line of JSON at a time.

The first line decides: a Hello makes the connection an agent's; `{"ask": verb, "token": ...}` is one question and one
answer. Nothing is answered without the token.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from dataclasses import dataclass

from jobs.agent import orders as o
from monitors import wire
from orchestrator import requests
from orchestrator.daemon import Daemon
from orchestrator.liverun import LiveRun

log = logging.getLogger(__name__)

LINE_BYTES_MAX = 32 * 1024 * 1024
"""a traceback with a 10 MB message must not cost the link"""
FIRST_LINE_S = 10.0
GATHER_S = 0.01
"""what the agents of a run say at the same moment is acknowledged at once, while it is in the core's caches"""
ACKNOWLEDGE_S = 0.5
"""how long an agent keeps a report at most while the supervisor is well"""


class Ended(Exception):
    """The connection is over: it broke, or what came is not what an agent or the command line says."""


@dataclass(slots=True)
class _Link:
    hello: o.Hello
    writer: asyncio.StreamWriter
    listener: LiveRun | None = None
    heard: int = 0
    told: int = 0

    def send(self, line: bytes) -> None:
        if not self.writer.is_closing():
            self.writer.write(line)


class Door:
    """The server."""

    def __init__(self, daemon: Daemon, token: str) -> None:
        self._daemon = daemon
        self._token = token
        self._links: set[asyncio.StreamWriter] = set()
        self._agents: dict[tuple[str, int], _Link] = {}
        self._server: asyncio.Server | None = None
        self._heard_more = asyncio.Event()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """ends with what went wrong in us: nothing may go on in a state that nobody understands"""

    async def open(self, host: str, port: int) -> int:
        """Listen; returns the port."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=LINE_BYTES_MAX)
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Listen no more; who is connected stays so."""
        if self._server is not None:
            self._server.close()

    async def answer(self) -> None:
        """Acknowledge for ever, soon after something was said; also to whom nothing is taken in: somebody listens."""
        loop = asyncio.get_running_loop()
        not_before = loop.time()
        while True:
            await self._heard_more.wait()
            await asyncio.sleep(max(GATHER_S, not_before - loop.time()))
            self._heard_more.clear()
            not_before = loop.time() + ACKNOWLEDGE_S
            self.acknowledge()

    def acknowledge(self) -> None:
        """What was heard until now is in the journal: the agents may forget it; of a run left alone, nothing more."""
        self._daemon.save_rows()
        for link in self._agents.values():
            if self._daemon.keeps(link.hello.run, link.listener):
                link.told = link.heard
            link.send(o.encode(o.Heard(seq=link.told)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._talk(reader, writer)
            await _flush(writer)
        except Ended as error:  # nothing else: an OSError of ours must not pass for one of the connection
            log.info("a connection ended: %s", error)
        except Exception as error:  # ours, not the world's: asyncio would log it and go on
            if not self.failed.done():
                self.failed.set_exception(error)
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = _parsed(await _first_line(reader))
        if not self._trusted(body):
            writer.write(o.encode(o.Refused(why="wrong token", cause=o.Refusal.TOKEN)))
        elif body.get(wire.TAG) == "Hello":
            await self._agent(_message(body), reader, writer)
        else:
            writer.write(json.dumps(self._answer(body)).encode() + b"\n")

    def _trusted(self, body: dict[str, object]) -> bool:
        # A stranger may send half a surrogate pair, which plain encoding refuses.
        said = str(body.get("token", "")).encode(errors="replace")
        return hmac.compare_digest(said, self._token.encode())

    def _answer(self, body: dict[str, object]) -> dict[str, object]:
        try:
            return {"ok": True, **self._daemon.ask(requests.parse(body))}
        except requests.AskError as error:
            return {"ok": False, "code": error.code, "error": str(error)}

    async def _agent(self, hello: o.FromAgent, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not isinstance(hello, o.Hello):
            raise Ended("an agent says hello first")
        link = _Link(hello=hello, writer=writer)
        send = link.send  # bound once: its identity tells this connection from its successor
        if refused := self._daemon.hello(hello, send):
            send(o.encode(refused))
            return
        link.listener = self._daemon.runs.get(hello.run)
        place = (hello.run, hello.node)
        self._agents[place] = link
        try:
            while line := await _line(reader):
                self._heard(link, _message(_parsed(line)))
        finally:
            if self._agents.get(place) is link:
                del self._agents[place]
            self._daemon.goodbye(hello.run, hello.node, send)

    def _heard(self, link: _Link, message: o.FromAgent) -> None:
        now = self._daemon.runs.get(link.hello.run)
        if now is not None and now is not link.listener:
            raise Ended("its run has a new listener: it dials again and says what that has not heard")
        taken = self._daemon.message(link.hello.run, link.hello.node, message)
        if taken and isinstance(message, o.Report):
            link.heard = max(link.heard, message.seq)
        self._heard_more.set()


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except OSError as error:
        raise Ended(str(error)) from error
    except ValueError as error:
        raise Ended(f"a line is longer than {LINE_BYTES_MAX} bytes") from error


async def _flush(writer: asyncio.StreamWriter) -> None:
    try:
        await writer.drain()
    except OSError as error:
        raise Ended(str(error)) from error


async def _first_line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await asyncio.wait_for(_line(reader), FIRST_LINE_S)
    except TimeoutError as error:
        raise Ended(f"nothing came for {FIRST_LINE_S:.0f} s") from error


def _parsed(line: bytes) -> dict[str, object]:
    try:
        body = json.loads(line)
    except (ValueError, RecursionError) as error:  # too deep is no JSON of ours either
        raise Ended("a line is no JSON") from error
    if not isinstance(body, dict):
        raise Ended("a line is no object")
    return body


def _message(body: dict[str, object]) -> o.FromAgent:
    try:
        return o.decode_from_agent(body)
    except (KeyError, ValueError, TypeError, OverflowError) as error:  # the last: of a `seq` without end
        raise Ended(f"no message of an agent: {error}") from error

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
from orchestrator.daemon import AskError, Daemon

log = logging.getLogger(__name__)

LINE_BYTES_MAX = 32 * 1024 * 1024
"""a traceback with a 10 MB message must not cost the link"""
FIRST_LINE_S = 10.0


@dataclass(slots=True)
class _Link:
    hello: o.Hello
    writer: asyncio.StreamWriter
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

    async def open(self, host: str, port: int) -> int:
        """Listen; returns the port."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=LINE_BYTES_MAX)
        return int(self._server.sockets[0].getsockname()[1])

    def acknowledge(self) -> None:
        """Everything heard until now is in the journal: the agents may forget it."""
        self._daemon.save_rows()
        for link in self._agents.values():
            link.send(o.encode(o.Heard(seq=link.heard)))
            link.told = link.heard

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), FIRST_LINE_S)
            body = json.loads(line)
            if not isinstance(body, dict) or not self._trusted(body):
                writer.write(o.encode(o.Refused(why="wrong token")))
            elif body.get(wire.TAG) == "Hello":
                await self._agent(o.decode_from_agent(body), reader, writer)
            else:
                writer.write(json.dumps(self._answer(body)).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError, KeyError, TimeoutError, asyncio.IncompleteReadError) as error:
            log.info("a connection ended: %r", error)
        finally:
            writer.close()

    def _trusted(self, body: dict[str, object]) -> bool:
        return hmac.compare_digest(str(body.get("token", "")).encode(), self._token.encode())

    def _answer(self, body: dict[str, object]) -> dict[str, object]:
        try:
            return {"ok": True, **self._daemon.ask(body)}
        except AskError as error:
            return {"ok": False, "code": error.code, "error": str(error)}
        except (ValueError, KeyError, TypeError) as error:
            return {"ok": False, "code": "usage", "error": f"bad request: {error}"}

    async def _agent(self, hello: o.FromAgent, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert isinstance(hello, o.Hello)
        link = _Link(hello=hello, writer=writer)
        send = link.send  # bound once: its identity tells this connection from its successor
        if why := self._daemon.hello(hello, send):
            send(o.encode(o.Refused(why=why)))
            return
        place = (hello.run, hello.node)
        self._agents[place] = link
        try:
            while line := await reader.readline():
                self._heard(link, line)
        finally:
            if self._agents.get(place) is link:
                del self._agents[place]
            self._daemon.goodbye(hello.run, hello.node, send)

    def _heard(self, link: _Link, line: bytes) -> None:
        message = o.decode_from_agent(json.loads(line))
        if isinstance(message, o.Report):
            link.heard = max(link.heard, message.seq)
        self._daemon.message(link.hello.run, message)

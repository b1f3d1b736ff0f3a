"""Does an agent know a supervisor that hangs from one that is away? A real link, a stand-in server."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from jobs.agent import orders
from jobs.agent.link import Link
from jobs.agent.outbox import Outbox
from monitors.signals import NodeSeen

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
DEADLINE_S = 10.0
HELLO = orders.Hello(token="", run="one", attempt=1, node=0, host="", pid=1, started_at=0.0, world=0, alive=False)


class Stand:
    """A link and the server that it dials."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.refusals: list[str] = []
        (home / "token").write_text("t\n")
        self.outbox = Outbox()
        self.link = Link(
            home,
            self.outbox,
            hello=lambda _: HELLO,
            obey=lambda _: None,
            refused=lambda refused: self.refusals.append(refused.why),
            silence_s=0.1,
        )

    async def serve(self, talk: Talk) -> asyncio.Server:
        """Listen, and publish where."""
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        body = {"host": "127.0.0.1", "port": port, "pid": os.getpid(), "started_at": time.time()}
        draft = self.home / "draft"
        draft.write_text(json.dumps(body))
        draft.replace(self.home / "supervisor.json")
        return server


def play(home: Path, course: Callable[[Stand], Awaitable[None]]) -> None:
    """The link dials while the course runs."""

    async def work() -> None:
        stand = Stand(home)
        dialling = asyncio.create_task(stand.link.run())
        try:
            await course(stand)
        finally:
            dialling.cancel()
            await asyncio.gather(dialling, return_exceptions=True)

    asyncio.run(work())


async def until(holds: Callable[[], bool]) -> None:
    """Poll."""
    async with asyncio.timeout(DEADLINE_S):
        while not holds():
            await asyncio.sleep(0.01)


async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take what comes, say nothing."""
    while await reader.read(1000):
        pass
    writer.close()


async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say one thing, then nothing."""
    writer.write(orders.encode(orders.Welcome()))
    await mute(reader, writer)


def test_one_that_takes_the_call_and_says_nothing_is_silent_until_one_speaks(tmp_path: Path) -> None:
    async def course(stand: Stand) -> None:
        async with await stand.serve(mute):
            await until(lambda: stand.link.silent)
        async with await stand.serve(welcome):
            await until(lambda: stand.link.up)
            assert not stand.link.silent
            await until(lambda: stand.link.silent)

    play(tmp_path, course)


def test_one_that_hangs_up_is_not_silent(tmp_path: Path) -> None:
    calls: list[None] = []

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(None)
        writer.close()

    async def course(stand: Stand) -> None:
        async with await stand.serve(hang_up):
            await until(lambda: len(calls) == 3)
            assert not stand.link.silent

    play(tmp_path, course)


def test_what_is_found_out_after_a_greeting_with_nothing_to_tell_arrives(tmp_path: Path) -> None:
    lines: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(orders.encode(orders.Welcome()))
        while line := await reader.readline():
            lines.append(line)
        writer.close()

    async def course(stand: Stand) -> None:
        async with await stand.serve(listen):
            await until(lambda: stand.link.up)
            await asyncio.sleep(0.02)
            stand.outbox.put(NodeSeen(at=1.0, node=0, world=1))
            await until(lambda: bool(lines))
            assert b"NodeSeen" in lines[0]

    play(tmp_path, course)

"""Does the door survive strangers, and the supervisor what people ask? A real supervisor's parts, a real socket."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from monitors.clock import SystemClock
from orchestrator.daemon import Daemon
from orchestrator.door import Door
from orchestrator.home import Home
from orchestrator.journal import Journal
from orchestrator.requests import Request

Say = Callable[[bytes], Awaitable[bytes]]


class Exhausted(Daemon):
    """One whose process has come to a limit."""

    def ask(self, request: Request) -> dict[str, Any]:  # noqa: ARG002
        """As any code of ours that opens a file."""
        raise OSError(errno.EMFILE, "Too many open files")


def play(
    root: Path,
    course: Callable[[Say, Home, Journal], Awaitable[None]],
    *,
    daemon: type[Daemon] = Daemon,
    fails: type[Exception] | None = None,
) -> None:
    """The door of a new home, open for as long as `course` takes; nothing but `fails` may have failed by then."""

    async def work() -> None:
        home = Home(root / "home")
        home.create()
        with Journal(home.journal) as journal:
            door = Door(daemon(home, journal, SystemClock()), home.token())
            port = await door.open("127.0.0.1", 0)
            body = {"host": "127.0.0.1", "port": port, "pid": 1, "started_at": 0.0, "version": ""}
            (home.root / "supervisor.json").write_text(json.dumps(body))

            async def say(line: bytes) -> bytes:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    writer.write(line + b"\n")
                    return await asyncio.wait_for(reader.read(), 10)
                finally:
                    writer.close()

            try:
                await course(say, home, journal)
            finally:
                door.close()
            failed = door.failed.exception() if door.failed.done() else None
            assert failed is None if fails is None else isinstance(failed, fails), failed

    asyncio.run(work())


@pytest.mark.parametrize(
    "line",
    [b"", b"nonsense", b"[1]", b"{}", b'{"token": "\\ud800"}', b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe"],
)
def test_a_stranger_cannot_end_the_supervisor(tmp_path: Path, line: bytes) -> None:
    async def course(say: Say, home: Home, _: Journal) -> None:
        await say(line)
        assert json.loads(await say(asked(home, ask="ping")))["ok"]

    play(tmp_path, course)


def asked(home: Home, **request: Any) -> bytes:
    """One question with the token."""
    return json.dumps({**request, "token": home.token()}).encode()


def test_an_error_of_ours_does_not_pass_for_one_of_the_connection(tmp_path: Path) -> None:
    async def course(say: Say, home: Home, _: Journal) -> None:
        assert await say(asked(home, ask="ping")) == b""

    play(tmp_path, course, daemon=Exhausted, fails=OSError)


def test_a_connection_that_breaks_ends_nothing_else(tmp_path: Path) -> None:
    async def course(say: Say, home: Home, _: Journal) -> None:
        port = int(home.address().port)  # type: ignore[union-attr]
        for line in (b"", b'{"half": '):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(line)
                # Closed with a reset, as by a host that restarts.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert json.loads(await say(asked(home, ask="ping")))["ok"]

    play(tmp_path, course)


def test_a_submission_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    async def course(say: Say, home: Home, _: Journal) -> None:
        (home.root / "runs").rmdir()
        (home.root / "runs").touch()
        answer = json.loads(await say(asked(home, ask="submit", spec={"name": "one", "command": "train.py"})))
        assert (answer["ok"], answer["code"]) == (False, "failed")
        assert json.loads(await say(asked(home, ask="ping")))["ok"]

    play(tmp_path, course)


def test_a_run_whose_submission_was_cut_off_does_not_exist(tmp_path: Path) -> None:
    async def course(say: Say, home: Home, journal: Journal) -> None:
        journal.submit("cut-abcde", "cut", {}, "", 1.0)  # a crash before its first event
        for ask in ("stop", "resume"):
            answer = json.loads(await say(asked(home, ask=ask, run="cut-abcde")))
            assert (answer["ok"], answer["code"]) == (False, "not_found")

    play(tmp_path, course)


def test_runbooks_that_cannot_be_read_refuse_the_run_only(tmp_path: Path) -> None:
    async def course(say: Say, home: Home, _: Journal) -> None:
        (tmp_path / "books").mkdir()
        (tmp_path / "books" / "hang.md").write_text("no front matter")
        spec = {"name": "one", "command": "train.py", "recovery": {"runbooks": str(tmp_path / "books")}}
        answer = json.loads(await say(asked(home, ask="submit", spec=spec)))
        assert (answer["ok"], answer["code"]) == (False, "usage")
        assert "hang.md" in answer["error"]

    play(tmp_path, course)

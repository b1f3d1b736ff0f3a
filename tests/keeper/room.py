"""Keepers as agents start them, and copies as ranks write them, without a rank."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import xxhash

from jobs.keeper import door, shelf
from lastgood import header
from lastgood.header import BODY, Facts, Head

RUN = "kept"
DEADLINE_S = 20.0


class Node:
    """What the agent of a node has in its hands."""

    def __init__(self, home: Path, node: int, attempt: int, ranks: Sequence[int]) -> None:
        self.client = door.Client(door.name(home, RUN, node))
        self.files: dict[int, list[int]] = {}
        try:
            told, _ = self.client.ask({"ask": "hello", "attempt": attempt})
        except OSError:
            self.client.close()
            raise
        self.port: int = told["port"]
        self.files = {rank: self._kept(rank) for rank in ranks}

    def _kept(self, rank: int) -> list[int]:
        ours = shelf.made(rank, 2)
        _, theirs = self.client.ask({"ask": "keep", "rank": rank}, ours)
        door.close(ours)
        return theirs

    @property
    def held(self) -> list[tuple[int, ...]]:
        """(rank, world, step) of every copy that the keeper holds."""
        return sorted(tuple(one) for one in self.client.ask({"ask": "look"})[0]["held"])

    def leave(self) -> None:
        """As an agent that is killed."""
        self.client.close()
        for fds in self.files.values():
            door.close(fds)
        self.files = {}


class Room:
    """One state folder, and the keepers in it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder
        (folder / "token").write_text("a token\n")
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.nodes: list[Node] = []

    def start(self, node: int = 0, *, alone_s: float = 60.0) -> subprocess.Popen[bytes]:
        """A keeper; it listens when this returns."""
        words = ("-P", "-m", "jobs.keeper", "--home", str(self.home), "--run", RUN, "--node", str(node))
        with (self.home / f"keeper{node}.log").open("ab") as log:
            process = subprocess.Popen(
                (sys.executable, *words, "--host", "127.0.0.1", "--alone-s", str(alone_s)),
                stderr=log,
                start_new_session=True,
            )
        self.processes[node] = process
        until(lambda: node in door.nodes_here(self.home, RUN) or process.poll() is not None, "a keeper")
        return process

    def node(self, number: int = 0, *, attempt: int = 1, ranks: Sequence[int] | None = None) -> Node:
        """The agent of a node has come."""
        made = Node(self.home, number, attempt, [number] if ranks is None else ranks)
        self.nodes.append(made)
        return made

    def kill(self, node: int) -> None:
        """The keeper of a node."""
        self.processes[node].kill()
        self.processes[node].wait()

    def close(self) -> None:
        """End all of them."""
        for node in self.nodes:
            node.leave()
        for process in self.processes.values():
            process.kill()
            process.wait()


def until(holds: Callable[[], bool], what: str) -> None:
    """Poll."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.005)


def write(fd: int, step: int, *, rank: int = 0, world: int = 1, body: bytes = b"weights" * 1000) -> Head:
    """A copy, whole."""
    facts = Facts(run=RUN, attempt=1, world=world, step=step, rank=rank, world_size=2, data_index=step)
    said = json.dumps({"facts": asdict(facts), "spots": []}).encode()
    tail = len(said).to_bytes(8, "little") + said + b"the rest"
    head = Head(body=len(body), tail=len(tail), digest=xxhash.xxh3_128_digest(body + tail))
    if os.fstat(fd).st_size < head.size:
        os.posix_fallocate(fd, 0, head.size)
    header.begin(fd)
    os.pwrite(fd, body + tail, BODY)
    os.pwrite(fd, head.packed(), 0)
    return head


def content(fd: int) -> bytes:
    """Of the copy in a file."""
    head = header.look(fd)
    assert head is not None
    return os.pread(fd, head.size - BODY, BODY)


def marks(fd: int) -> dict[str, Any]:
    """What the keeper noted on a copy."""
    sent, took_us = header.SENT.unpack(os.pread(fd, header.SENT.size, header.SENT_AT))
    (fetched,) = header.FETCHED.unpack(os.pread(fd, header.FETCHED.size, header.FETCHED_AT))
    return {"sent": sent, "took_us": took_us, "fetched": fetched}

"""Real agents under a supervisor that only listens, remembers, acknowledges and sends what a test tells it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from jobs.agent import orders, sweep
from jobs.agent.place import Place
from jobs.keeper import door
from jobs.spec import Spec
from monitors import signals as s

S = TypeVar("S")
TOKEN = "a token"
RUN = f"stage-{os.getpid()}"
"""of its own in each process that runs tests: agents sweep the whole host for what belongs to their run"""
DEADLINE_S = 120.0
ACKNOWLEDGE_S = 0.05


@dataclass
class Heard:
    """One report, as it came in."""

    node: int
    pid: int
    seq: int
    signal: s.Signal
    copies: int = 1


@dataclass
class Supervisor:
    """A server in a thread of its own; its memory survives `down` and `up`, as a journal would."""

    home: Path
    hellos: list[orders.Hello] = field(default_factory=list)
    offers: list[orders.Store] = field(default_factory=list)
    reports: dict[tuple[int, int, int], Heard] = field(default_factory=dict)
    acknowledged: dict[tuple[int, int], int] = field(default_factory=dict)
    heard_again: list[Heard] = field(default_factory=list)
    """reports that came again although they had been acknowledged"""
    refuses: orders.Refusal | None = None

    refused: list[orders.Refusal] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.news = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._links: dict[int, asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def call(self, work: Coroutine[Any, Any, S]) -> S:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_S)

    def up(self) -> None:
        self.call(self._open())

    def down(self) -> None:
        """The port closes and every connection breaks, as when the process dies."""
        self.call(self._close())

    def close(self) -> None:
        self.down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def send(self, node: int, message: orders.ToAgent) -> None:
        async def write() -> None:
            self._links[node].write(orders.encode(message))

        self.call(write())

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 24)
        port = self._server.sockets[0].getsockname()[1]
        body = {"host": "127.0.0.1", "port": port, "pid": os.getpid(), "started_at": time.time(), "version": "0"}
        draft = self.home / "supervisor.json.writing"
        draft.write_text(json.dumps(body))
        draft.replace(self.home / "supervisor.json")

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._links.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._talk(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = orders.decode_from_agent(json.loads(await reader.readline()))
        assert isinstance(hello, orders.Hello)
        if self.refuses or hello.token != TOKEN:
            cause = self.refuses or orders.Refusal.TOKEN
            self.refused.append(cause)
            writer.write(orders.encode(orders.Refused(why=f"a test says: {cause}", cause=cause)))
            await writer.drain()
            return
        place = (hello.node, hello.pid)
        self._links[hello.node] = writer
        writer.write(orders.encode(orders.Welcome(heard=self.acknowledged.get(place, 0))))
        with self.news:
            self.hellos.append(hello)
            self.news.notify_all()
        acknowledging = asyncio.create_task(self._acknowledge(place, writer))
        try:
            while line := await reader.readline():
                self._take(hello, orders.decode_from_agent(json.loads(line)))
        finally:
            acknowledging.cancel()

    async def _acknowledge(self, place: tuple[int, int], writer: asyncio.StreamWriter) -> None:
        while True:
            await asyncio.sleep(ACKNOWLEDGE_S)
            seqs = [heard.seq for heard in self.reports.values() if (heard.node, heard.pid) == place]
            self.acknowledged[place] = max(seqs, default=0)
            writer.write(orders.encode(orders.Heard(seq=self.acknowledged[place])))

    def _take(self, hello: orders.Hello, message: orders.FromAgent) -> None:
        with self.news:
            if isinstance(message, orders.StoreOffered):
                self.offers.append(message.store)
            elif isinstance(message, orders.Report):
                self._remember(Heard(node=hello.node, pid=hello.pid, seq=message.seq, signal=message.signal))
            self.news.notify_all()

    def _remember(self, heard: Heard) -> None:
        key = (heard.node, heard.pid, heard.seq)
        if key in self.reports:
            self.reports[key].copies += 1
        if heard.seq <= self.acknowledged.get((heard.node, heard.pid), 0):
            self.heard_again.append(heard)
        self.reports.setdefault(key, heard)


class Stage:
    """One run under one state folder."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.scripts = folder / "scripts"
        self.scripts.mkdir()
        self.home.mkdir(mode=0o700)
        (self.home / "token").write_text(TOKEN + "\n")
        self.supervisor = Supervisor(self.home)
        self.supervisor.up()
        self.agents: dict[int, subprocess.Popen[bytes]] = {}
        self._older: list[subprocess.Popen[bytes]] = []

    def close(self) -> None:
        for agent in [*self._older, *self.agents.values()]:
            agent.kill()
            agent.wait()
        door.dismiss(self.home, RUN)
        for node in range(4):
            marks = sweep.Marks(mark=self.place(node).mark, node=node)
            until(lambda marks=marks: sweep.kill(marks) == 0, "stray processes")
            for path in self.place(node).left_in_memory():
                path.unlink()
        self.supervisor.close()

    def place(self, node: int = 0) -> Place:
        return Place(home=self.home, run=RUN, attempt=1, node=node)

    def script(self, text: str, name: str = "train.py") -> str:
        path = self.scripts / name
        path.write_text(text)
        return str(path)

    def spec(self, command: str | tuple[str, ...], **fields: Any) -> None:
        """Write the run's spec."""
        folder = self.place().run_folder
        folder.mkdir(parents=True, exist_ok=True)
        words = (command,) if isinstance(command, str) else command
        # A test that needs no senses, warm ranks or keeper is spared them: two cores are busy enough.
        off = {
            "senses": {"kernel": "off", "nvml": "off", "host": "off"},
            "recovery": {"warm": False},
            "checkpoint": {"memory_every_steps": 0},
        }
        spec = Spec(name="stage", command=words, **{"workdir": str(self.scripts), **off, **fields})
        (folder / "spec.json").write_text(spec.model_dump_json())

    def launch(self, node: int = 0) -> orders.Hello:
        """Start an agent as TorchX would and wait until it has dialled."""
        before = len(self.supervisor.hellos)
        self.start(node)
        self.wait(lambda: len(self.supervisor.hellos) > before, "a hello")
        return self.supervisor.hellos[-1]

    def start(self, node: int = 0) -> subprocess.Popen[bytes]:
        """Start an agent as TorchX would."""
        place = self.place(node)
        if node in self.agents:
            self._older.append(self.agents[node])
        argv = (sys.executable, "-P", "-m", "jobs.agent", "--home", str(self.home))
        self.agents[node] = subprocess.Popen(
            (*argv, "--run", RUN, "--attempt", "1", "--node", str(node)),
            env={**os.environ, "LASTGOOD_MARK": place.mark},
            start_new_session=True,
        )
        return self.agents[node]

    def order(self, message: orders.ToAgent, *nodes: int) -> None:
        """Send it to the nodes, to node 0 when none is named."""
        for node in nodes or (0,):
            self.supervisor.send(node, message)

    def start_world(self, world: int, *nodes: int) -> None:
        """As the supervisor would: at the newest store that node 0 offered, if there is a node 0."""
        store = self.store() if 0 in self.agents else orders.Store(host="127.0.0.1", port=1)
        self.order(orders.StartWorld(world=world, store=store, candidates=(), skips=()), *nodes)

    def store(self) -> orders.Store:
        hellos = [hello.store for hello in self.supervisor.hellos if hello.store is not None]
        return [*hellos, *self.supervisor.offers][-1] if self.supervisor.offers else hellos[-1]

    def seen(self, kind: type[S], **fields: Any) -> list[S]:
        """Signals of a class whose fields are as named, in the order of their numbers."""
        reports = sorted(self.supervisor.reports.values(), key=lambda heard: (heard.node, heard.pid, heard.seq))
        found = [heard.signal for heard in reports if isinstance(heard.signal, kind)]
        return [one for one in found if all(getattr(one, name) == value for name, value in fields.items())]

    def wait_for(self, kind: type[S], count: int = 1, **fields: Any) -> list[S]:
        """Those signals, once there are as many."""
        self.wait(lambda: len(self.seen(kind, **fields)) >= count, f"{count} {kind.__name__} {fields}")
        return self.seen(kind, **fields)

    def wait(self, holds: Callable[[], bool], what: str) -> None:
        """Until a thing about the reports holds."""
        with self.supervisor.news:
            held = self.supervisor.news.wait_for(holds, DEADLINE_S)
        assert held, f"no {what} within {DEADLINE_S} s; agent.log:\n{self.log()}"

    def log(self) -> str:
        texts = [self.place(node).folder / "agent.log" for node in self.agents]
        return "\n".join(path.read_text() for path in texts if path.exists())

    def pid(self, rank: int, world: int) -> int:
        return self.wait_for(s.RankStarted, rank=rank, world=world)[0].pid

    def output(self, rank: int, world: int = 1, node: int = 0) -> str:
        """What the rank printed so far."""
        path = self.rank_file("stdout.log", rank, world, node)
        return path.read_text() if path.exists() else ""

    def rank_file(self, name: str, rank: int, world: int = 1, node: int = 0) -> Path:
        return self.place(node).rank_folder(world, rank) / name


def until(holds: Callable[[], bool], what: str) -> None:
    """Poll a thing outside of the reports."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, f"{what} after {DEADLINE_S} s"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """The process exists and is no zombie."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def accepts(store: orders.Store) -> bool:
    """Something listens there."""
    with suppress(OSError), socket.create_connection((store.host, store.port), timeout=2):
        return True
    return False


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)

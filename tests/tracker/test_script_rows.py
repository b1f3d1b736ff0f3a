"""Does a script that calls wandb itself lose a row when it is killed? Not where each world has a service."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.agent import environment
from jobs.agent.orders import StartWorld, Store
from jobs.agent.place import Place
from jobs.agent.wandb_service import Services
from jobs.spec import Spec
from monitors.clock import SystemClock
from tests.tracker.wandb_server import KEY, Server

RUN = "demo-abcde"
SCRIPT = """
import sys, wandb
world, most = map(int, sys.argv[1:])
run = wandb.init(project="keep", settings=wandb.Settings(console="off", silent=True, x_disable_stats=True))
for row in range(most):
    run.log({"world": world, "row": row})
    print(row, flush=True)
input()
"""


class Node:
    """The worlds of one node, each a script that is killed."""

    def __init__(self, folder: Path, server: Server) -> None:
        tracker = {"script": {"one_run": True, "service": True, "service_wait_s": 30}}
        self.spec = Spec.model_validate({"name": "demo", "command": "x", "tracker": tracker})
        self.place = Place(home=folder, run=RUN, attempt=1, node=0)
        self.place.folder.mkdir(parents=True)
        keep = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        self.base = {**keep, "WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "HOME": str(folder)}
        self.changed = asyncio.Event()
        self.services = Services(self.spec, self.place, self.base, self.changed.set)
        self.folder = folder

    async def ready(self) -> None:
        """Until the next world may begin."""
        while not self.services.ready():
            await asyncio.wait_for(self.changed.wait(), 240.0)
            self.changed.clear()

    async def world(self, number: int, rows: int) -> None:
        """A world that logs rows and is killed right after it logged the last."""
        await self.ready()
        service = self.services.take()
        assert service, (self.place.folder / "wandb.log").read_text()
        order = StartWorld(world=number, store=Store(host="x", port=1), candidates=(), skips=())
        progress = self.folder / "progress"
        env = environment.of_worker(
            self.base, self.spec, self.place, order, local_rank=0, progress=progress, service=service
        )
        with (self.folder / "script.log").open("ab") as errors:
            script = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", SCRIPT, str(number), str(rows)),
                env=env,
                cwd=self.folder,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
            )
        assert script.stdout is not None
        logged = [await asyncio.wait_for(script.stdout.readline(), 240.0) for _ in range(rows)]
        assert logged[-1] == b"%d\n" % (rows - 1), (self.folder / "script.log").read_text()
        script.send_signal(signal.SIGKILL)
        await script.wait()
        self.services.over()

    async def end(self) -> None:
        """The last service has uploaded what it has."""
        await self.ready()
        self.services.close()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


async def _killed(folder: Path, server: Server, worlds: int) -> Counter[tuple[int, int]]:
    """What was logged, in worlds of a random number of rows."""
    node, dice, logged = Node(folder, server), random.Random(worlds), Counter[tuple[int, int]]()
    for number in range(1, worlds + 1):
        rows = dice.randint(1, 60)
        await node.world(number, rows)
        logged.update((number, row) for row in range(rows))
    await node.end()
    return logged


def check(folder: Path, server: Server, worlds: int) -> None:
    """Every row that was logged is there, once, in one run."""
    began = SystemClock().now()
    logged = asyncio.run(_killed(folder, server, worlds))
    assert list(server.runs) == [f"{RUN}-script"]
    found = Counter((row["world"], row["row"]) for row in server.runs[f"{RUN}-script"].history)
    lost, doubled = logged - found, found - logged
    whole = worlds - len({world for world, _ in (*lost, *doubled)})
    took_s = SystemClock().now() - began
    print(f"{whole} of {worlds} worlds whole: {logged.total()} rows logged, {found.total()} found, {took_s:.0f} s")
    assert (lost, doubled) == (Counter(), Counter())


@pytest.mark.long
def test_what_a_killed_script_logged_is_found(tmp_path: Path, server: Server) -> None:
    check(tmp_path, server, 2)


@pytest.mark.soak
def test_what_a_killed_script_logged_is_found_a_hundred_times(tmp_path: Path, server: Server) -> None:
    check(tmp_path, server, 100)

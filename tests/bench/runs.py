"""What do many runs write, as their supervisor would? A stand-in that decides with the real core, a step a second each.

`python -m tests.bench.runs HOME RUNS RANKS orchestrator.serve`: the last word is what clients know a supervisor by.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from monitors import signals as s
from monitors.hardware import GpuLooked
from monitors.signals import StepReported
from orchestrator.home import Home
from orchestrator.journal import Journal
from orchestrator.roster import Roster
from tests.story.scripted import PLAN, Script

PER_NODE = 8


def scripts(journal: Journal, runs: int, ranks: int) -> list[Script]:
    """Runs that train; the first has `ranks`."""
    found = []
    for n in range(runs):
        plan = replace(PLAN, nodes=ranks // PER_NODE, ranks_per_node=PER_NODE) if n == 0 else PLAN
        script = Script(journal, run=f"run-{n:05d}", plan=plan)
        script.now = time.time() - 10
        found.append(script.join().begin(0).train(5))
    return found


class Ranks:
    """What the ranks of the large run do."""

    def __init__(self, ranks: int) -> None:
        self._ranks = ranks
        self._roster = Roster(ranks=ranks, ranks_per_node=PER_NODE, rank_of=lambda node, gpu: node * PER_NODE + gpu)
        self._roster.began(1)

    def step(self, step: int, now: float) -> None:
        """Every rank finishes one."""
        for rank in range(self._ranks):
            node = rank // PER_NODE
            look = {"at": now, "node": node, "world": 1, "rank": rank}
            self._roster.see(s.RankProgress(**look, step=step, phase=s.Phase.STEP, moved_at=now + rank / 1e6))
            gpu = GpuLooked(at=now, node=node, device=f"GPU-{rank}", index=rank % PER_NODE, power_w=400.0 + rank % 50)
            self._roster.see(replace(gpu, temperature_c=60.0 + (rank + step) % 20, utilisation=0.9))

    def answer(self, now: float) -> bytes:
        """To the question how they stand."""
        nodes = [
            {"node": node, "host": f"host{node}", "there": True, "seen_at": now}
            for node in range(self._ranks // PER_NODE)
        ]
        told = {"ok": True, "at": now, "attempt": 1, "world": 1, "nodes": nodes, "ranks": self._roster.table()}
        return json.dumps(told).encode() + b"\n"


async def main(root: Path, runs: int, ranks: int) -> None:
    """Write for ever."""
    home, table = Home(root), Ranks(ranks)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(table.answer(time.time()))
        await writer.drain()
        writer.close()

    with Journal(home.journal) as journal, (root / "committed").open("a", buffering=1) as committed:
        going = scripts(journal, runs, ranks)
        door = await asyncio.start_server(answer, "127.0.0.1", 0)
        address = {"host": "127.0.0.1", "port": door.sockets[0].getsockname()[1], "pid": os.getpid()}
        (root / "supervisor.json").write_text(json.dumps({**address, "started_at": 0.0, "version": ""}))
        while True:
            began = time.time()
            journal.heartbeat(began)
            table.step(going[0].state.step + 1, began)
            for n, script in enumerate(going):
                script.now = time.time()
                script.train(1, 0.0)
                print(script.run, script.state.step, time.time(), file=committed)
                journal.add_rows(script.run, [_row(script)])
                await asyncio.sleep(max(0.0, began + (n + 1) / len(going) - time.time()))


def _row(script: Script) -> StepReported:
    return StepReported(
        at=script.now, node=0, world=1, rank=0, step=script.state.step, loss=2.0, grad_norm=1.0, tokens=1e4, step_s=1.0
    )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))

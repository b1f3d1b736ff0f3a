"""What do ranks do just now? As the kernel sees them, and as they say themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from jobs.agent.outbox import Outbox
from jobs.agent.worker import Worker
from monitors.sense import flight_recorder, processes, ras
from monitors.sense.flight_recorder_dump import Dump

MUTE_S = 0.3
"""after which a rank that has not told its own stack is interrupted for it; a healthy one answers within 0.1 s"""


async def look_at(asked: Sequence[Worker], *, at: float, env: Mapping[str, str], outbox: Outbox) -> None:
    """Tell each answer when it is there; of those who give none, what NCCL says of them (`env`: where it is asked)."""
    dumps = await asyncio.gather(*(_look_at(worker, at, outbox) for worker in asked))
    mute = {w.child.pid: w for w, dump in zip(asked, dumps, strict=True) if dump is None and w.child.exit is None}
    known = [dump for dump in dumps if dump is not None]
    if mute and known:
        said = await ras.witness(known, {pid: worker.rank for pid, worker in mute.items()}, env)
        for worker in mute.values():
            if worker.rank in said:
                outbox.put(flight_recorder.mute(at, worker.recorder, said[worker.rank]))


async def _look_at(worker: Worker, at: float, outbox: Outbox) -> Dump | None:
    """One that is stopped gives no answer, and holds up nobody's news."""
    recorder = worker.recorder
    recorded = asyncio.create_task(flight_recorder.look(at, recorder))
    pid = worker.child.pid
    seen = processes.look(at, node=recorder.node, world=recorder.world, rank=worker.rank, pid=pid)
    outbox.put(seen)
    await asyncio.wait([recorded], timeout=MUTE_S)
    is_mute = not recorded.done() or recorded.result() is None
    if is_mute and (stack := await processes.stack(pid, worker.folder / "stack.txt")):
        outbox.put(replace(seen, stack=stack))
    dump = await recorded
    if dump is not None:
        outbox.put(replace(seen, stack=dump.stack))
        outbox.put(flight_recorder.looked(at, recorder, dump))
    return dump

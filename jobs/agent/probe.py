"""Is a device as fast as it should be? Asked in a child process with a deadline, so that a device which never answers
is an answer too."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from jobs.agent.child import Child, Exit
from jobs.agent.orders import Probe
from jobs.agent.outbox import Outbox
from monitors.clock import Clock
from monitors.hardware import ProbeDone

DEADLINE_S = 30.0
"""the measures take 1 s; importing torch 2 to 4 s, from a cold file server ten times as long"""
DIES_S = 1.0
"""a process that hangs in the driver does not die even of SIGKILL: it is waited for no longer"""
WORDS_MAX = 300


class Prober:
    """Measures what it is told to on this node: one device at a time, each once, while everything else goes on."""

    def __init__(self, node: int, clock: Clock, outbox: Outbox) -> None:
        self._node = node
        self._clock = clock
        self._outbox = outbox
        self._orders: asyncio.Queue[Probe] = asyncio.Queue()
        self._known: dict[Probe, ProbeDone | None] = {}
        """orders of the newest world, with their answers; None: not measured yet"""

    def obey(self, order: Probe) -> None:
        """Put it in the queue; what was measured is not measured again, but said again."""
        if order in self._known:
            answer = self._known[order]
            if answer is not None:
                self._outbox.put(answer)
            return
        self._known = {known: answer for known, answer in self._known.items() if known.world == order.world}
        self._known[order] = None
        self._orders.put_nowait(order)

    async def run(self) -> None:
        """Work for ever."""
        while True:
            order = await self._orders.get()
            if order not in self._known:
                continue  # of a world that is over
            done = await self._measured(order)
            answer = self._known[order] = replace(done, world=order.world, about=order.about)
            self._outbox.put(answer)

    async def _measured(self, order: Probe) -> ProbeDone:
        try:
            return await probe(self._clock, node=self._node, device=order.device)
        except OSError as error:
            why = f"no process could be started: {error}"
            return ProbeDone(at=self._clock.now(), node=self._node, device=order.device, why=why, unable=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """What the child left behind."""

    tflops: float = 0.0
    bandwidth_bytes_s: float = 0.0
    why: str = ""
    unable: bool = False


async def probe(clock: Clock, *, node: int, device: str | None, deadline_s: float = DEADLINE_S) -> ProbeDone:
    """Measure the GPU of this UUID, or one core of the host (None). Raises OSError when no process can be started."""
    began = clock.now()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        ended = asyncio.get_running_loop().create_future()
        words = ("--parent", str(os.getpid()), *(("--cuda",) if device is not None else ()))
        env = os.environ | ({"CUDA_VISIBLE_DEVICES": device} if device is not None else {})
        argv = (sys.executable, "-P", "-m", "jobs.preflight", *words)
        child = Child(argv, ended.set_result, env=env, stdout=out, stderr=errors)
        in_time = await _ends(child, ended, deadline_s)
        out.seek(0)
        errors.seek(0)
        result = _read(out.read(), errors.read(), child.exit if in_time else deadline_s)
    now = clock.now()
    return ProbeDone(
        at=now,
        node=node,
        device=device,
        tflops=result.tflops,
        bandwidth_bytes_s=result.bandwidth_bytes_s,
        took_s=now - began,
        why=result.why,
        unable=result.unable,
    )


async def _ends(child: Child, ended: asyncio.Future[Exit], deadline_s: float) -> bool:
    """Whether it ends by itself in time; if not, or when nobody wants to know any more, it is ended."""
    try:
        await asyncio.wait({ended}, timeout=deadline_s)
        return ended.done()
    finally:
        if not ended.done():
            child.send_group(signal.SIGKILL)
            await asyncio.wait({ended}, timeout=DIES_S)


def _read(out: bytes, errors: bytes, how: Exit | float | None) -> _Result:
    """Both measures, or why there are none: a result of nothing is a failure, not a healthy device. `how` it ended, or
    the seconds after which it had not.

    What goes wrong before it has begun says nothing of the device.
    """
    said = list(_lines(out))
    begun = any("begun" in line for line in said)
    last: dict[str, Any] = said[-1] if said else {}
    if "unable" in last:
        return _Result(why=str(last["unable"])[:WORDS_MAX], unable=True)
    if isinstance(how, float):
        return _Result(why=f"no answer in {how:.0f} s", unable=not begun)
    try:
        tflops, bandwidth_bytes_s = float(last["tflops"]), float(last["bandwidth_bytes_s"])
    except (ValueError, KeyError, TypeError):
        words = "".join(errors.decode(errors="replace").strip().splitlines()[-1:])[:WORDS_MAX]
        return _Result(why=words or f"it said nothing, and ended as {how}", unable=not begun)
    if not (0.0 < tflops < 1e6 and 0.0 < bandwidth_bytes_s < 1e15):
        return _Result(why=f"it measured {tflops} Tflop/s and {bandwidth_bytes_s} bytes/s, which no device does")
    return _Result(tflops=tflops, bandwidth_bytes_s=bandwidth_bytes_s)


def _lines(out: bytes) -> Iterator[dict[str, Any]]:
    for line in out.splitlines():
        try:
            body = json.loads(line)
        except ValueError:
            continue
        if isinstance(body, dict):
            yield body

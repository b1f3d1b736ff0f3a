"""Is a device as fast as it should be? Asked in a child process with a deadline, so that a device which never answers
is an answer too."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile

from jobs.agent.child import Child, Exit
from monitors.clock import Clock
from monitors.hardware import ProbeDone

DEADLINE_S = 30.0
"""the measures take 1 s; importing torch 2 to 4 s, from a cold file server ten times as long"""
DIES_S = 1.0
"""a process that hangs in the driver does not die even of SIGKILL: it is waited for no longer"""
WORDS_MAX = 300


async def probe(clock: Clock, *, node: int, device: str | None, deadline_s: float = DEADLINE_S) -> ProbeDone:
    """Measure the GPU of this UUID, or one core of the host (None). Raises OSError when no process can be started."""
    began = clock.now()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        ended = asyncio.get_running_loop().create_future()
        argv = (sys.executable, "-P", "-m", "jobs.preflight", *(("--cuda",) if device is not None else ()))
        env = os.environ | ({"CUDA_VISIBLE_DEVICES": device} if device is not None else {})
        child = Child(argv, ended.set_result, env=env, stdout=out, stderr=errors)
        in_time = await _ends(child, ended, deadline_s)
        out.seek(0)
        errors.seek(0)
        measured = _read(out.read(), errors.read(), child.exit) if in_time else (0.0, 0.0, _SILENT.format(deadline_s))
    tflops, bandwidth_bytes_s, why = measured
    now = clock.now()
    return ProbeDone(
        at=now,
        node=node,
        device=device,
        tflops=tflops,
        bandwidth_bytes_s=bandwidth_bytes_s,
        took_s=now - began,
        why=why,
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


_SILENT = "no answer in {:.0f} s"


def _read(out: bytes, errors: bytes, how: Exit | None) -> tuple[float, float, str]:
    """Both measures, and why there are none: a result of nothing is a failure, not a healthy device."""
    try:
        body = json.loads(out)
        tflops, bandwidth_bytes_s = float(body["tflops"]), float(body["bandwidth_bytes_s"])
    except (ValueError, KeyError, TypeError):
        last = errors.decode(errors="replace").strip().splitlines()[-1:]
        return 0.0, 0.0, "".join(last)[:WORDS_MAX] or f"it said nothing, and ended as {how}"
    if not (0.0 < tflops < 1e6 and 0.0 < bandwidth_bytes_s < 1e15):
        return 0.0, 0.0, f"it measured {tflops} Tflop/s and {bandwidth_bytes_s} bytes/s, which no device does"
    return tflops, bandwidth_bytes_s, ""

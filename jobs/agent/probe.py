"""Is a device as fast as it should be? Asked in a child process with a deadline, so that a device which never answers
is an answer too."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress

from monitors.clock import Clock
from monitors.hardware import ProbeDone

DEADLINE_S = 30.0
"""the measures take 1 s; importing torch 2 to 4 s, from a cold file server ten times as long"""
WORDS_MAX = 300


async def probe(clock: Clock, *, node: int, device: str | None, deadline_s: float = DEADLINE_S) -> ProbeDone:
    """Measure the GPU of this UUID, or one core of the host (None). Never raises for what the device does."""
    began = clock.now()
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "jobs.preflight", *(("--cuda",) if device is not None else ())),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | ({"CUDA_VISIBLE_DEVICES": device} if device is not None else {}),
        start_new_session=True,
    )
    reading = asyncio.create_task(child.communicate())
    done, _ = await asyncio.wait({reading}, timeout=deadline_s)
    now = clock.now()
    if not done:
        # A process that hangs in the driver does not die even of SIGKILL: it is not waited for.
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        reading.cancel()
        return ProbeDone(at=now, node=node, device=device, took_s=now - began, why=f"no answer in {deadline_s:.0f} s")
    out, errors = reading.result()
    tflops, bandwidth_bytes_s, why = _read(out, errors, child.returncode)
    return ProbeDone(
        at=now,
        node=node,
        device=device,
        tflops=tflops,
        bandwidth_bytes_s=bandwidth_bytes_s,
        took_s=now - began,
        why=why,
    )


def _read(out: bytes, errors: bytes, status: int | None) -> tuple[float, float, str]:
    """Both measures, and why there are none: a result of nothing is a failure, not a healthy device."""
    try:
        body = json.loads(out)
        tflops, bandwidth_bytes_s = float(body["tflops"]), float(body["bandwidth_bytes_s"])
    except (ValueError, KeyError, TypeError):
        last = errors.decode(errors="replace").strip().splitlines()[-1:]
        return 0.0, 0.0, "".join(last)[:WORDS_MAX] or f"it ended with status {status} and said nothing"
    if not (0.0 < tflops < 1e6 and 0.0 < bandwidth_bytes_s < 1e15):
        return 0.0, 0.0, f"it measured {tflops} Tflop/s and {bandwidth_bytes_s} bytes/s, which no device does"
    return tflops, bandwidth_bytes_s, ""

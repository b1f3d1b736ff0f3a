"""What does a real driver say, and how long does it take to say it?"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time

import torch

from jobs.agent.probe import probe
from monitors import wire
from monitors.clock import SystemClock
from monitors.hardware import GpuLooked
from monitors.signals import Signal

SENSED = wire.by_name(*Signal.__args__)


def looked(seconds: float) -> list[GpuLooked]:
    """What the senses of this node say of its GPUs in so many seconds, while a GPU works."""
    words = (sys.executable, "-P", "-m", "monitors.sense", "--json")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
        until = time.monotonic() + seconds
        busy = torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16)
        while time.monotonic() < until:
            busy = (busy @ busy).clamp(-1, 1)
            torch.cuda.synchronize()
        child.terminate()
        assert child.stdout is not None
        seen = [wire.loads(line, SENSED) for line in child.stdout.read().splitlines() if line]
    for one in seen:
        print(wire.dumps(one))
    return [one for one in seen if isinstance(one, GpuLooked)]


def test_the_driver_is_read_as_it_is() -> None:
    looks = looked(8.0)
    assert len(looks) >= 4
    last = looks[-1]
    properties = torch.cuda.get_device_properties(0)
    assert last.device.startswith("GPU-")
    assert str(properties.uuid) in last.device
    assert last.memory_bytes is not None
    assert abs(last.memory_bytes / properties.total_memory - 1) < 0.1
    asked = "power.draw.instant,temperature.gpu,clocks.sm,enforced.power.limit"
    told = subprocess.run(
        ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader,nounits", "-i", "0"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    power, temperature, clock, limit = (float(word) for word in told.strip().split(","))
    print(told)
    assert last.limit_w == limit
    assert last.power_w is not None
    assert last.power_w > power / 3
    assert last.temperature_c is not None
    assert abs(last.temperature_c - temperature) < 25
    assert last.sm_clock_mhz is not None
    assert clock > 0
    assert last.utilisation is not None
    assert last.utilisation > 0.3
    first = looks[0]
    assert first.energy_j is not None
    assert last.energy_j is not None
    mean_w = (last.energy_j - first.energy_j) / (last.at - first.at)
    assert 0.3 * limit < mean_w < 1.1 * limit


def test_a_sound_gpu_is_measured_as_one() -> None:
    device = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
    done = asyncio.run(probe(SystemClock(), node=0, device=device))
    print(json.dumps(wire.encode(done)))
    assert done.why == ""
    assert done.tflops > 50.0
    assert done.bandwidth_bytes_s > 2e11

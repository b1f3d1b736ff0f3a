"""Which senses see on this machine, and what opens those that do not?"""

from __future__ import annotations

import select
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from monitors.clock import SystemClock
from monitors.hardware import GpuLooked, HostLooked
from monitors.sense.station import Choice, Station, senses
from monitors.signals import Blind, Signal

LOOK_S = 1.0
PATIENCE_S = 8.0
"""for a driver that wakes its GPUs up"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One sense on this machine."""

    sense: str
    sees: str
    """what it sees; empty when it is blind"""
    why: str = ""
    fix: str = ""


@dataclass(slots=True)
class _Seen:
    why: dict[str, str] = field(default_factory=dict)
    gpus: dict[str, GpuLooked] = field(default_factory=dict)
    host: HostLooked | None = None

    def take(self, signal: Signal) -> None:
        match signal:
            case Blind():
                self.why[signal.sense] = signal.why
            case GpuLooked():
                self.gpus[signal.device] = signal
            case HostLooked():
                self.host = signal


def has_driver() -> bool:
    """NVIDIA's driver is loaded: without it there are no GPUs to see, and nothing is wrong."""
    return Path("/proc/driver/nvidia").exists() or Path("/dev/nvidiactl").exists()


def look(choice: Choice) -> Iterator[Sight]:
    """Look for a moment with every sense that is chosen."""
    seen = _Seen()
    clock = SystemClock()
    station = Station(senses(choice), node=choice.node, clock=clock, tell=seen.take)
    began_at = clock.now()
    try:
        while (passed_s := clock.now() - began_at) < PATIENCE_S:
            wait_s = station.turn()
            if passed_s >= LOOK_S and (seen.gpus or seen.why.get("nvml") or not choice.nvml):
                break
            select.select([], [], [], min(wait_s, 0.1))
    finally:
        station.close()
    yield from (_gpus(seen), *_events(seen)) if choice.nvml else ()
    yield from (_kernel(seen),) if choice.kernel != "off" else ()
    yield from (_host(seen),) if choice.host else ()


def _gpus(seen: _Seen) -> Sight:
    why = seen.why.get("nvml") or f"the driver says nothing within {PATIENCE_S:.0f} s"
    if not seen.gpus and not has_driver():
        return Sight(sense="nvml", sees="nothing: no NVIDIA driver on this machine, ranks train on the CPU with gloo")
    names = ", ".join(sorted({gpu.name for gpu in seen.gpus.values()}))
    return Sight(
        sense="nvml",
        sees=f"{len(seen.gpus)} GPUs: {names}" if seen.gpus else "",
        why=why,
        fix="nvidia-smi (it must work for this user); in a container: docker run --gpus all",
    )


def _events(seen: _Seen) -> Iterator[Sight]:
    """Without GPUs there are no events to hear, which the line before this one explains."""
    if seen.gpus:
        why = seen.why.get("nvml_events", "")
        fix = "nvidia-smi -q (see whether the driver is healthy); the kernel's log tells of Xids too"
        yield Sight(sense="nvml_events", sees="" if why else "Xids, as the driver tells of them", why=why, fix=fix)


def _kernel(seen: _Seen) -> Sight:
    from monitors.sense.kernel import remedy

    why = seen.why.get("kernel", "")
    return Sight(sense="kernel", sees="" if why else "the kernel's log", why=why.removesuffix(remedy()), fix=remedy())


def _host(seen: _Seen) -> Sight:
    from monitors.sense.sentences import host

    return Sight(
        sense="host",
        sees=host(seen.host) if seen.host is not None else "",
        why=seen.why.get("host") or "nothing came back",
        fix="mount /proc and /sys in this container",
    )

"""A host over time, as the senses tell of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from monitors.detect.host import Host
from monitors.hardware import HostLooked, KernelSaw
from monitors.incidents import Incident, Kind
from monitors.signals import Signal

GIB = 1 << 30
MIB = 1 << 20
T0 = 1_000_000.0
WELL = HostLooked(
    at=T0,
    node=1,
    memory_bytes=256 * GIB,
    memory_available_bytes=200 * GIB,
    swap_free_bytes=0,
    memory_stalled_share=0.0,
    shm_bytes=128 * GIB,
    shm_free_bytes=120 * GIB,
    disks=(("/", 1000 * GIB, 400 * GIB, 0.9), ("/data", 90_000 * GIB, 4_000 * GIB, 0.5)),
    cpu_steal=0.0,
    load_per_cpu=0.8,
    zombies=3,
    clock_offset_s=0.001,
)


class Case:
    """One host over time, looked at every 5 s."""

    def __init__(self) -> None:
        self.host = Host()
        self.host.world_began(1)
        self.now = T0
        self.told: list[Incident] = []

    def say(self, *signals: Signal) -> list[Incident]:
        new = [incident for signal in signals for incident in self.host.see(signal)]
        self.told += new
        return new

    def look(self, every_s: float = 5.0, **seen: Any) -> list[Incident]:
        self.now += every_s
        if (deadline := self.host.deadline) is not None and deadline <= self.now:
            self.told += self.host.silent(self.now)
        return self.say(replace(WELL, at=self.now, **seen))

    def looks(self, count: int, **seen: Any) -> list[Incident]:
        return [incident for _ in range(count) for incident in self.look(**seen)]

    def line(self, fault: str, action: str = "isolate_node", **fields: Any) -> list[Incident]:
        return self.say(KernelSaw(at=self.now, node=1, fault=fault, action=action, text=f"text of {fault}", **fields))

    def silence(self, seconds: float) -> list[Incident]:
        """Nobody looks; the deadline comes."""
        self.now += seconds
        new = self.host.silent(self.now)
        self.told += new
        return new


def kinds(incidents: Iterable[Incident]) -> list[Kind]:
    return [incident.kind for incident in incidents]

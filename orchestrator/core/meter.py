"""How many seconds and joules did a run take until now? Counted by events alone, each once, whoever supervised.

Seconds are added up where the phase changes, by the phase before: what went on when it was last heard went on, also
while no supervisor was there. They are the ledger's (a test compares). Joules are the running totals that supervisors
tell (`events.EnergyRead`): what nobody read is not in them, and is not zero.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.core.events import EnergyRead
from orchestrator.core.replacing import replace

AWAY = frozenset({"holding", "held", "succeeded", "stopped", "paused"})
"""phases in which nothing is worked on, and nothing counts"""
QUEUED = frozenset({"launching"})
"""phases in which the run waits for its devices"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """What was counted up to `since`, the beginning of the present phase."""

    since: float = 0.0
    """0: an older lastgood did not count; it begins at the next phase"""
    wall_s: float = 0.0
    """in which the run was neither paused, stopped nor held"""
    device_s: float = 0.0
    """of those, in which it had its devices"""
    read: EnergyRead | None = None
    """newest totals of the newest supervisor that read any"""
    earlier_j: float = 0.0
    earlier_gpu_s: float = 0.0
    """of those before it, and the GPU-seconds that they were read for"""

    @property
    def joules(self) -> float:
        """Of the GPUs, as far as they were read."""
        return self.earlier_j + (self.read.joules if self.read is not None else 0.0)

    @property
    def read_gpu_s(self) -> float:
        """GPU-seconds that `joules` cover."""
        return self.earlier_gpu_s + (self.read.gpu_s if self.read is not None else 0.0)


def turned(meter: Meter, phase: str, at: float) -> Meter:
    """The meter as a phase ends."""
    wall_s, device_s = seconds(meter, phase, at)
    return replace(meter, since=at, wall_s=wall_s, device_s=device_s)


def seconds(meter: Meter, phase: str, at: float) -> tuple[float, float]:
    """Seconds worked on, and those with devices, until `at`, in a phase that goes on until then."""
    spent_s = max(0.0, at - meter.since) if meter.since and counts(phase) else 0.0
    return meter.wall_s + spent_s, meter.device_s + (spent_s if phase not in QUEUED else 0.0)


def counts(phase: str) -> bool:
    """Seconds of this phase count."""
    return phase not in AWAY


def has_devices(phase: str) -> bool:
    """GPU-seconds of this phase count."""
    return phase not in AWAY and phase not in QUEUED


def heard(meter: Meter, read: EnergyRead | None) -> Meter:
    """With what a supervisor added up; a total that is read twice or late adds nothing."""
    if read is None:
        return meter
    known = meter.read
    if known is None or read.since == known.since:
        newer = known is None or (read.gpu_s, read.joules) > (known.gpu_s, known.joules)
        return replace(meter, read=read) if newer else meter
    if read.since < known.since:
        return meter  # of a supervisor that is gone, and was counted
    earlier_j, earlier_gpu_s = meter.earlier_j + known.joules, meter.earlier_gpu_s + known.gpu_s
    return replace(meter, read=read, earlier_j=earlier_j, earlier_gpu_s=earlier_gpu_s)

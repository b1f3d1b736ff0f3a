"""How is the hardware of a node? GPUs, mounts and ports that break, and what their driver says when it is asked."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from monitors.hardware import GpuFailed, GpuLooked, HostLooked
from tests.simulation.timeline import EPOCH_S

NO_ANSWER_S, ASKED_AGAIN_S = 5.0, 30.0
"""until a call that does not return is given up, and until another is tried: those of `monitors/sense/gpus.py`"""
FULL_W, SPIN_W, IDLE_W, LIMIT_W = 640.0, 270.0, 75.0, 700.0
LINKS = 18
GIB = 1 << 30


class Work(StrEnum):
    """What a GPU is doing."""

    COMPUTES = "computes"
    WAITS = "waits"
    """it spins in a collective"""
    IDLE = "idle"


DRAWN_W = {Work.COMPUTES: FULL_W, Work.WAITS: SPIN_W, Work.IDLE: IDLE_W}


@dataclass(slots=True, kw_only=True)
class Gpu:
    """One board."""

    node: int
    index: int
    generation: int = 0
    """boards that were in this place before"""
    silent_since: float | None = None
    """calls about it do not return since then"""
    told_silent_at: float = float("-inf")
    lost: bool = False
    verdict: int = 0
    """the driver's: 0 none, 1 reset, 2 reboot, 3 drain"""
    corrected: int = 0
    uncorrected: int = 0
    links_down: int = 0
    hot_since: float | None = None
    heated_s: float = 0.0
    """that it was slowed for heat before"""
    cap_w: float = LIMIT_W

    device: str = field(init=False)
    """its UUID"""
    pci: str = field(init=False)
    """as the kernel writes it"""

    def __post_init__(self) -> None:
        self.device = f"GPU-{self.node}-{self.index}-{self.generation}"
        self.pci = f"0000:{0x1B + 0x20 * self.index:02x}:00"

    @property
    def well(self) -> bool:
        """Nothing of it needs a reset."""
        return not (self.lost or self.verdict or self.links_down) and self.silent_since is None

    def cool(self, now: float) -> None:
        """Nothing slows it any more."""
        if self.hot_since is not None:
            self.heated_s += now - self.hot_since
        self.hot_since, self.cap_w = None, LIMIT_W

    def asked(self, now: float, work: Work, dice: Random) -> GpuLooked | GpuFailed | None:
        """The driver is asked about it; None while the answer is waited for."""
        if self.lost:
            return self._failed(now, "lost")
        if self.silent_since is not None:
            due = now - self.silent_since >= NO_ANSWER_S and now - self.told_silent_at >= ASKED_AGAIN_S
            self.told_silent_at = now if due else self.told_silent_at
            return self._failed(now, "no_answer") if due else None
        return self._looked(now, work, dice)

    def _failed(self, now: float, error: str) -> GpuFailed:
        return GpuFailed(at=now, node=self.node, device=self.device, index=self.index, error=error, pci=self.pci)

    def _looked(self, now: float, work: Work, dice: Random) -> GpuLooked:
        hot = self.hot_since is not None
        watts = min(DRAWN_W[work], self.cap_w) if work is Work.COMPUTES else DRAWN_W[work]
        full = work is Work.COMPUTES and not hot
        hot_s = self.heated_s + (now - self.hot_since if self.hot_since is not None else 0.0)
        uptime_s = now - EPOCH_S
        return GpuLooked(
            at=now,
            node=self.node,
            device=self.device,
            index=self.index,
            name="simulated",
            pci=self.pci,
            recovery_action=self.verdict,
            power_w=watts * dice.uniform(0.98, 1.02) * (0.7 if hot else 1.0),
            limit_w=self.cap_w,
            limit_default_w=LIMIT_W,
            utilisation=0.0 if work is Work.IDLE else 1.0,
            sm_clock_mhz=1100.0 if hot else 1700.0 if full else 1980.0,
            sm_clock_max_mhz=1980.0,
            temperature_c=92.0 if hot else 64.0,
            # At full load every GPU runs into its power limit: bit 4 and its counter are no fault.
            throttles=0x40 if hot else 0x4 if full else 0,
            throttled_s=(("power_cap", 0.6 * uptime_s), ("hw_thermal", hot_s), ("power_brake", 0.0)),
            ecc_corrected=self.corrected,
            ecc_uncorrected=self.uncorrected,
            nvlinks=LINKS,
            nvlinks_up=LINKS - self.links_down,
            pcie_width=16,
            pcie_width_max=16,
        )


@dataclass(slots=True)
class Machine:
    """The host that stands in for a node."""

    node: int
    gpus: list[Gpu]
    log: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=64))
    """the kernel's newest lines, which a new agent reads again"""
    dead_mounts: tuple[str, ...] = ()
    links_down: tuple[str, ...] = ()

    @classmethod
    def built(cls, node: int, gpus: int) -> Machine:
        """A node with so many GPUs."""
        return cls(node, [Gpu(node=node, index=index) for index in range(gpus)])

    @property
    def well(self) -> bool:
        """Nothing of it is broken."""
        return not self.dead_mounts and not self.links_down and all(gpu.well for gpu in self.gpus)

    def reset(self) -> None:
        """It was reset: what works after that works."""
        self._renew(0)

    def replace(self) -> None:
        """Another host takes its place."""
        self._renew(1)
        self.log.clear()

    def _renew(self, generations: int) -> None:
        old = self.gpus
        self.gpus = [Gpu(node=self.node, index=g.index, generation=g.generation + generations) for g in old]
        self.dead_mounts = self.links_down = ()

    def looked(self, now: float) -> HostLooked:
        """What its counters say."""
        return HostLooked(
            at=now,
            node=self.node,
            memory_bytes=2000 * GIB,
            memory_available_bytes=1500 * GIB,
            swap_free_bytes=0,
            cpu_steal=0.0,
            load_per_cpu=0.4,
            dead_mounts=self.dead_mounts,
            links_down=self.links_down,
        )

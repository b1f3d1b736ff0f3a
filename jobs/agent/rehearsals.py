"""What would a sense see if this part of a node failed? Drills that enter at a sense's door and touch no hardware.

Kernel lines go through the same reading as those that the kernel writes; counters of GPUs and of the host cannot be
turned by anybody, so what a poll would have said is given instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from monitors import wire
from monitors.hardware import GpuLooked, HostLooked

PCI = "0000:3b:00"
POLLS = 18
"""before the fault, and as many with it: longer than any detector wants to see before it believes a counter"""
POLL_S = 2.0
GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Where and when a drill is played."""

    at: float
    node: int
    pid: int
    """of the rank that the drill names"""
    gpus: int = 2
    """how many GPUs play along, the first of them the faulty one"""


Fed = list[dict[str, Any]]
"""lines for the station: `{"kernel": text}` or `{"signal": ...}`"""


def _kernel(*lines: str, pci: str = PCI) -> Callable[[Scene], Fed]:
    return lambda scene: [{"kernel": line.format(pci=pci, pid=scene.pid)} for line in lines]


def _gpus(scene: Scene, drill: str, odd: Callable[[GpuLooked, int], GpuLooked]) -> Fed:
    """Polls of GPUs that all work well, but for the first one in the second half: it needs a history.

    Every drill has GPUs of its own: no time runs backwards for any.
    """
    looks = []
    for poll in range(-POLLS, POLLS):
        for index in range(scene.gpus):
            look = _well(scene, f"{drill}-{index}", index, poll)
            looks.append(odd(look, poll) if poll >= 0 and index == 0 else look)
    return [{"signal": wire.encode(look)} for look in looks]


def _well(scene: Scene, name: str, index: int, poll: int) -> GpuLooked:
    age_s = (POLLS - 1 - poll) * POLL_S
    return GpuLooked(
        at=scene.at - age_s,
        node=scene.node,
        device=f"GPU-drill-{scene.node}-{name}",
        index=index,
        name="drill",
        pci=PCI if index == 0 else f"0000:{0x5D + index:02x}:00",
        recovery_action=0,
        power_w=600.0,
        power_mean_w=600.0,
        limit_w=700.0,
        limit_default_w=700.0,
        energy_j=1e6 - 600.0 * age_s,
        utilisation=1.0,
        sm_clock_mhz=1900.0,
        sm_clock_max_mhz=1980.0,
        temperature_c=60.0,
        throttles=0,
        throttled_s=(("hw_thermal", 0.0), ("power_brake", 0.0)),
    )


def _throttle(scene: Scene) -> Fed:
    def hot(look: GpuLooked, poll: int) -> GpuLooked:
        times = (("hw_thermal", (poll + 1) * POLL_S), ("power_brake", 0.0))
        return replace(look, throttles=64, throttled_s=times, temperature_c=91.0, sm_clock_mhz=900.0)

    return _gpus(scene, "hot", hot)


def _idle_power(scene: Scene) -> Fed:
    return _gpus(scene, "idle", lambda look, _: replace(look, power_w=95.0, power_mean_w=95.0))


def _host(scene: Scene, **seen: Any) -> Fed:
    looks = [HostLooked(at=scene.at - age * POLL_S, node=scene.node, **seen) for age in reversed(range(POLLS))]
    return [{"signal": wire.encode(look)} for look in looks]


def _steal(scene: Scene) -> Fed:
    return _host(scene, cpu_steal=0.6)


def _disk(scene: Scene) -> Fed:
    return _host(scene, disks=(("/", 1000 * GIB, GIB // 2, 0.5),))


REHEARSALS: dict[str, Callable[[Scene], Fed]] = {
    "xid79": _kernel(
        "NVRM: GPU at PCI:{pci}: GPU-00000000-0000-0000-0000-000000000000",
        "NVRM: Xid (PCI:{pci}): 79, pid={pid}, name=python, GPU has fallen off the bus.",
        "NVRM: GPU {pci}.0: GPU has fallen off the bus.",
    ),
    "xid119": _kernel(
        "NVRM: Xid (PCI:{pci}): 119, pid={pid}, name=python, Timeout after 6s of waiting for RPC response from GPU0 "
        "GSP! Expected function 76 (GSP_RM_CONTROL) (0x2080a0d7 0x108).",
        pci="0000:86:00",  # each drill has a GPU of its own: what is lost already can break no more
    ),
    "xid95": _kernel(
        "NVRM: Xid (PCI:{pci}): 95, pid={pid}, name=python, Uncontained: LTC TAG (0x2,0x0). RST: Yes, D-RST: No",
        pci="0000:af:00",
    ),
    "nvlink": _kernel(
        "NVRM: Xid (PCI:{pci}): 74, pid={pid}, name=python, NVLink: fatal error detected on link 4(0x10000, 0x0, "
        "0x0, 0x0, 0x0, 0x0, 0x0)",
        pci="0000:d8:00",
    ),
    "nic": _kernel("mlx5_core 0000:5e:00.0: health_recovery_work:425:(pid {pid}): unrecoverable hardware error."),
    "mce": _kernel(
        "mce: [Hardware Error]: CPU 12: Machine Check Exception: 5 Bank 7: be00000000800400",
        "mce: [Hardware Error]: Machine check: Processor context corrupt",
    ),
    "readonly": _kernel(
        "EXT4-fs error (device nvme0n1p2): ext4_journal_check_start:83: comm python: Detected aborted journal",
        "EXT4-fs (nvme0n1p2): Remounting filesystem read-only",
    ),
    "oom": _kernel(
        "python invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), order=0, oom_score_adj=0",
        "Out of memory: Killed process {pid} (python) total-vm:91234567kB, anon-rss:60123456kB, file-rss:4096kB, "
        "shmem-rss:0kB, UID:1000 pgtables:120000kB oom_score_adj:0",
    ),
    "throttle": _throttle,
    "power": _idle_power,
    "steal": _steal,
    "disk": _disk,
}
"""The drill `oom` also ends the rank, as the kernel would have."""


def fed(drill: str, scene: Scene) -> Fed:
    """What to give to the station.

    Raises KeyError for a drill that is none of these.
    """
    return REHEARSALS[drill](scene)

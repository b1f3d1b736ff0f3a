"""What did the senses of a node see of its hardware and its host? Facts with a time and a place, and no opinion.

These are signals like those of `monitors/signals.py`, where their union is: what any node says, training or not.
"""

from __future__ import annotations

from dataclasses import dataclass

from monitors.values import quick


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSaw:
    """A line of the kernel's log that the catalogue knows."""

    at: float
    """when the kernel wrote it, as well as that is known"""
    node: int
    fault: str
    """class of the catalogue: `gpu_lost`, `host_oom`, `nvlink_down`..."""
    action: str
    """what the catalogue asks for: none, observe, restart_app, reset_gpu, reboot_node, isolate_node..."""
    cascade: bool = False
    """it only follows another event: it never decides"""
    xid: int | None = None
    sxid: int | None = None
    pci: str | None = None
    """PCI address as the kernel writes it, `0000:3b:00`, or with a function"""
    device: str | None = None
    """GPU UUID, where the address could be mapped"""
    pid: int | None = None
    """of the process that the line is about"""
    text: str = ""
    """the line, cut"""
    count: int = 1
    """equal lines that this one stands for"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuEvent:
    """The driver told of something, once each: never a gauge that is polled."""

    at: float
    node: int
    device: str
    """GPU UUID"""
    event: str
    """xid, ecc_corrected, ecc_uncorrected, page_retired, page_retirement_failed, poison, poison_contained, unavailable
    or recovery_action; event_0x... for a newer one"""
    data: int
    """the Xid, or the recovery action"""
    pci: str | None = None
    fault: str = ""
    """of a Xid: its class by the catalogue of the node that heard it, a site's changes included; empty: not judged"""
    action: str = ""
    """what that catalogue asks for"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFailed:
    """A GPU does not answer as a GPU should. NOT_SUPPORTED is not this."""

    at: float
    node: int
    device: str | None
    """GPU UUID; None when it was never known"""
    index: int
    error: str
    """lost, reset_required, no_answer (a call did not return in time), or the name of NVML's error"""
    pci: str | None = None


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLooked:
    """What the driver says of one GPU now. None: not supported, which is no fault."""

    at: float
    node: int
    device: str
    """GPU UUID"""
    index: int
    name: str = ""
    serial: str | None = None
    pci: str | None = None
    recovery_action: int | None = None
    """the driver's own verdict (field 230): 0 none, 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset..."""
    power_w: float | None = None
    """instant"""
    power_mean_w: float | None = None
    """from the difference of two energy readings"""
    energy_j: float | None = None
    """since the driver was loaded"""
    limit_w: float | None = None
    """enforced"""
    limit_default_w: float | None = None
    utilisation: float | None = None
    """share of time, 0 to 1"""
    sm_clock_mhz: float | None = None
    sm_clock_max_mhz: float | None = None
    temperature_c: float | None = None
    memory_temperature_c: float | None = None
    memory_used_bytes: int | None = None
    memory_bytes: int | None = None
    throttles: int | None = None
    """bit mask of the reasons, as NVML counts them"""
    throttled_s: tuple[tuple[str, float], ...] = ()
    """seconds since the driver was loaded, by reason: power_cap, thermal, sync_boost, sw_thermal, hw_thermal,
    power_brake"""
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    """volatile: since the driver was loaded"""
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    rows_remapped_uncorrected: int | None = None
    pages_retired: int | None = None
    nvlinks_up: int | None = None
    nvlinks: int | None = None
    nvlink_errors: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    pcie_generation: int | None = None
    pcie_generation_max: int | None = None
    pcie_replays: int | None = None
    fabric: str | None = None
    """not_supported, not_started, in_progress, completed; with its health after a colon when that is not fine"""


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class HostLooked:
    """What the host's own counters say now. None or empty: not to be had."""

    at: float
    node: int
    memory_bytes: int | None = None
    """of the host, or of the container where that has less left"""
    memory_available_bytes: int | None = None
    """without swapping: what the page cache can give back counts"""
    swap_free_bytes: int | None = None
    """0 where there is no swap"""
    memory_stalled_share: float | None = None
    """share of the last 10 s in which some task waited for memory (pressure stall information), 0 to 1"""
    shm_bytes: int | None = None
    shm_free_bytes: int | None = None
    disks: tuple[tuple[str, int, int, float], ...] = ()
    """mount point, bytes, bytes free, share of inodes free (1 where they are not counted)"""
    dead_mounts: tuple[str, ...] = ()
    """a stat of them does not return"""
    cpu_steal: float | None = None
    """share of the CPU time that the hypervisor gave to others"""
    load_per_cpu: float | None = None
    zombies: int | None = None
    blocked: tuple[tuple[int, str], ...] = ()
    """pid and name of processes in state D at several looks in a row"""
    clock_offset_s: float | None = None
    """of this host's clock, where a time service says it"""
    links_down: tuple[str, ...] = ()
    """network and InfiniBand ports that were up before"""
    link_errors: tuple[tuple[str, str, float], ...] = ()
    """port, counter, rate per second, of those that grow"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerCapped:
    """The power limits of the run's GPUs on a node were set, or could not be."""

    at: float
    node: int
    watts: float | None
    """of each GPU, as ordered; None: put back to what they were"""
    may_draw_w: float | None = None
    """all of them together, by the limits that hold now; None: not known"""
    least_w: float | None = None
    """that the driver takes as a limit of each"""
    why: str = ""
    """it could not be done: every limit is what it was before the first order"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeDone:
    """What a short product and a copy took on one device, asked for before somebody is sent away for being slow."""

    at: float
    node: int
    device: str | None
    """GPU UUID; None: one core of the host and its memory"""
    tflops: float = 0.0
    bandwidth_bytes_s: float = 0.0
    took_s: float = 0.0
    """of the whole probe, its start included"""
    why: str = ""
    """why there is no result; empty: there is one"""
    unable: bool = False
    """it could not be run at all (no torch, no room in the memory): that says nothing of the device"""
    world: int = 0
    """that trained beside it"""
    about: str = ""
    """the suspect whom it was asked for, as in the order"""

"""Which faults can be injected on purpose, and what should be concluded from each? `injection.py` does them."""

from __future__ import annotations

from dataclasses import dataclass

from monitors.incidents import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """One fault, and what should be concluded from it."""

    name: str
    does: str
    expects: Kind
    by_agent: bool = True
    inside: bool = False
    """by the SDK, in the rank, between two of its steps"""


DRILLS = {
    drill.name: drill
    for drill in (
        Drill(name="kill", does="SIGKILL of a rank", expects=Kind.WORKER_KILLED),
        Drill(name="exception", does="an exception in a rank", expects=Kind.WORKER_EXCEPTION, inside=True),
        Drill(name="exit", does="a rank exits with status 3", expects=Kind.WORKER_EXCEPTION, inside=True),
        Drill(name="stop", does="SIGSTOP of a rank", expects=Kind.HANG),
        Drill(name="spin", does="a rank spins and calls no collective", expects=Kind.HANG, inside=True),
        Drill(name="nan", does="NaN in one weight of a rank", expects=Kind.NONFINITE_LOSS, inside=True),
        Drill(name="slow", does="each step of a rank takes twice as long", expects=Kind.STRAGGLER, inside=True),
        Drill(name="gradient", does="gradients of a rank that are too large", expects=Kind.GRADIENT_SHIFT, inside=True),
        Drill(name="mismatch", does="one collective too many in a rank", expects=Kind.CODE_DIVERGENCE, inside=True),
        Drill(name="xid79", does="the kernel's line of a GPU that fell off the bus", expects=Kind.GPU_LOST),
        Drill(name="xid119", does="the kernel's line of a GPU whose firmware hangs", expects=Kind.GPU_FAULT),
        Drill(name="xid95", does="the kernel's line of an uncontained memory error", expects=Kind.GPU_MEMORY),
        Drill(name="nvlink", does="the kernel's line of a fatal NVLink error", expects=Kind.LINK_FAULT),
        Drill(name="nic", does="the kernel's line of a network card that failed", expects=Kind.NIC_FAULT),
        Drill(name="mce", does="the kernel's line of a fatal machine check", expects=Kind.HOST_FAULT),
        Drill(name="readonly", does="the kernel's line of a disk set read-only", expects=Kind.STORAGE_FAULT),
        Drill(name="oom", does="the kernel's line of the out-of-memory killer, and SIGKILL", expects=Kind.HOST_OOM),
        Drill(name="throttle", does="polls of a GPU that is too hot", expects=Kind.GPU_DEGRADED),
        Drill(name="power", does="polls of a GPU that idles at full use", expects=Kind.POWER_DROP),
        Drill(name="steal", does="looks at a host whose processors are given away", expects=Kind.HOST_DEGRADED),
        Drill(name="disk", does="looks at a disk that is nearly full", expects=Kind.DISK_FULL),
        Drill(
            name="flip",
            does="one flipped bit in the newest checkpoint",
            expects=Kind.CHECKPOINT_CORRUPT,
            by_agent=False,
        ),
        Drill(name="supervisor", does="SIGKILL of the supervisor", expects=Kind.SUPERVISOR_RESTARTED, by_agent=False),
        Drill(name="agent", does="SIGKILL of the agent of node 0", expects=Kind.AGENT_LOST, by_agent=False),
    )
}

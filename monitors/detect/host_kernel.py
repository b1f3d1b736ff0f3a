"""What do lines of the kernel say of a host? By family of the catalogue's class, and by what its row asks for.

What a row only observes must come several times; what it acts on is told at once. A file server that does not answer
and a link that is down may be back in a moment: those wait for what the host's counters say.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from monitors.hardware import KernelSaw
from monitors.incidents import Kind

FAMILIES: tuple[tuple[tuple[str, ...], Kind, Kind], ...] = (
    (("disk_", "fs_", "nvme_", "nfs_", "raid_"), Kind.STORAGE_FAULT, Kind.STORAGE_FAULT),
    (("nic_",), Kind.NIC_FAULT, Kind.NIC_FAULT),
    (("host_", "kernel_", "pcie_", "soft_lockup", "hung_task"), Kind.HOST_FAULT, Kind.HOST_DEGRADED),
)
"""beginnings of classes; the kind when the row asks for something; the kind when it only observes"""
OFTEN: dict[str, tuple[int, float]] = {
    "hung_task": (1, 600.0),  # it has stood for two minutes already
    "host_thermal": (1, 600.0),
    "host_fd_limit": (1, 600.0),
    "nvme_timeout": (3, 600.0),
    "nic_tx_timeout": (3, 3600.0),  # NVSentinel: three errors of a NIC's driver in an hour
    "nic_overtemp": (3, 3600.0),
}
"""how many lines of a class that is only observed, in how many seconds, are worth a word"""
OFTEN_ELSE = (10, 3600.0)
MAY_PASS = {"nfs_stall": 30.0, "nic_link_down": 35.0}
"""seconds after which it is told, unless the host's counters say before that all is well, or tell it themselves"""
DEGRADED_ONLY = frozenset(("host_fd_limit",))
"""asks for a restart of the program that opened too many files, which need not be ours"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grave:
    """One conclusion about a line."""

    what: str
    kind: Kind
    saw: KernelSaw
    words: tuple[str, ...]
    confidence: float
    degree: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A line whose meaning depends on what comes next."""

    saw: KernelSaw
    until: float


class Lines:
    """The kernel's lines of one node."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[float]] = {}
        self.waiting: dict[str, Waiting] = {}

    def read(self, saw: KernelSaw) -> Grave | None:
        """What the line means by itself, with those before it."""
        kinds = _kinds(saw.fault)
        if kinds is None or saw.cascade:
            return None
        if saw.action == "none":
            self.waiting.pop(saw.fault, None)
            return None
        if saw.fault in MAY_PASS and saw.action != "observe":
            self.waiting.setdefault(saw.fault, Waiting(saw=saw, until=saw.at + MAY_PASS[saw.fault]))
            return None
        if saw.action == "observe" or saw.fault in DEGRADED_ONLY:
            return self._observed(saw, kinds[1])
        return Grave(what=f"kernel:{kinds[0]}", kind=kinds[0], saw=saw, words=_words(saw), confidence=0.9, degree=2)

    def due(self, now: float) -> list[Grave]:
        """The lines whose time is over and for which nobody said that all is well."""
        late = [name for name, waiting in self.waiting.items() if now >= waiting.until]
        return [self._told(self.waiting.pop(name).saw) for name in late]

    def all_well(self, at: float, *, mounts: bool, links: bool) -> None:
        """The host's counters, looked at then, show nothing of it any more."""
        for name, is_well in (("nfs_stall", mounts), ("nic_link_down", links)):
            waiting = self.waiting.get(name)
            # A stat that hangs is known after a while only.
            if waiting is not None and is_well and at >= waiting.until - 5.0:
                del self.waiting[name]

    def _told(self, saw: KernelSaw) -> Grave:
        kinds = _kinds(saw.fault)
        assert kinds is not None
        return Grave(what=f"kernel:{kinds[0]}", kind=kinds[0], saw=saw, words=_words(saw), confidence=0.7, degree=2)

    def _observed(self, saw: KernelSaw, kind: Kind) -> Grave | None:
        count, window_s = OFTEN.get(saw.fault, OFTEN_ELSE)
        seen = self._seen.setdefault(saw.fault, deque(maxlen=count))
        seen.extend([saw.at] * min(max(1, saw.count), count))
        if len(seen) < count or abs(saw.at - seen[0]) > window_s:
            return None
        words = _words(saw)
        if count > 1:
            words = (f"{words[0]} (one of {count} within {abs(saw.at - seen[0]):.0f} s)", *words[1:])
        return Grave(what=f"kernel:{kind}", kind=kind, saw=saw, words=words, confidence=0.5, degree=1)


def _kinds(fault: str) -> tuple[Kind, Kind] | None:
    return next((kinds for starts, *kinds in FAMILIES if fault.startswith(starts)), None)  # type: ignore[return-value]


def _words(saw: KernelSaw) -> tuple[str, ...]:
    asks = saw.action.replace("_", " ")
    about = f" about {saw.pci}" if saw.pci is not None else ""
    return (f"kernel{about}: {saw.text or saw.fault}", f"class {saw.fault}; the catalogue asks for: {asks}")

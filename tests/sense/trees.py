"""Folders like /proc and /sys of other machines, small enough to read."""

from __future__ import annotations

from pathlib import Path

MEMINFO = """\
MemTotal:       {total} kB
MemFree:        {free} kB
MemAvailable:   {available} kB
Buffers:             100 kB
Cached:          {cached} kB
SwapTotal:      {swap} kB
SwapFree:       {swap} kB
Shmem:             50 kB
HugePages_Total:       0
Active(anon):       7012 kB
"""
STAT = "cpu  100 0 100 {idle} 0 0 0 {steal} 0 0\ncpu0 1 0 1 1 0 0 0 0 0 0\ncpu1 1 0 1 1 0 0 0 0 0 0\nbtime 1\n"
MOUNTS = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"


class Tree:
    """One machine, whose files a test changes while it is looked at."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.memory()
        self.write("proc/stat", STAT.format(idle=1000, steal=0))
        self.write("proc/loadavg", "0.50 0.40 0.30 1/100 4242\n")
        self.write("proc/self/cgroup", "0::/\n")
        self.write("proc/self/mountinfo", MOUNTS)

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def memory(
        self, *, total: int = 1000, free: int = 100, available: int = 800, cached: int = 700, swap: int = 0
    ) -> None:
        """In kB, as the kernel says it."""
        text = MEMINFO.format(total=total, free=free, available=available, cached=cached, swap=swap)
        self.write("proc/meminfo", text)

    def process(
        self, pid: int, name: str = "python", state: str = "S", *, parent: int = 1, started: int = 7, switches: int = 1
    ) -> None:
        """A line like the kernel's: 52 fields."""
        tail = " ".join(["0"] * 17)
        self.write(f"proc/{pid}/stat", f"{pid} ({name}) {state} {parent} {tail} {started} {' '.join(['0'] * 30)}\n")
        self.write(
            f"proc/{pid}/status",
            f"Name:\t{name}\nvoluntary_ctxt_switches:\t{switches}\nnonvoluntary_ctxt_switches:\t0\n",
        )

    def port(self, name: str, state: str = "up", *, device: str = "pci", flags: str = "0x1003", **counts: int) -> None:
        """A network port; `device` is its bus, empty for a port without hardware."""
        folder = f"sys/class/net/{name}"
        self.write(f"{folder}/operstate", f"{state}\n")
        self.write(f"{folder}/flags", f"{flags}\n")
        self.write(f"{folder}/carrier_changes", f"{counts.pop('carrier_changes', 2)}\n")
        for counter in ("rx_errors", "tx_errors"):
            self.write(f"{folder}/statistics/{counter}", f"{counts.get(counter, 0)}\n")
        if device:
            bus = self.root / "sys/bus" / device
            bus.mkdir(parents=True, exist_ok=True)
            (self.root / folder / "device").mkdir(exist_ok=True)
            link = self.root / folder / "device/subsystem"
            if not link.is_symlink():
                link.symlink_to(bus)

    def infiniband(self, name: str, state: str = "4: ACTIVE", **counts: int) -> None:
        """A device with one port."""
        folder = f"sys/class/infiniband/{name}/ports/1"
        self.write(f"{folder}/state", f"{state}\n")
        for counter in ("symbol_error", "link_downed", "port_xmit_data"):
            self.write(f"{folder}/counters/{counter}", f"{counts.get(counter, 0)}\n")
        self.write(f"{folder}/hw_counters/rnr_nak_retry_err", f"{counts.get('rnr_nak_retry_err', 0)}\n")

"""How is the host under the ranks? Memory, disks, mounts, clock, ports, processes: what Linux says by itself.

Nothing here blocks: whatever may never return is read in a child (`host_reader`). The root folder of /proc and /sys is
a parameter, so that what another machine looked like can be looked at again.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from monitors.hardware import HostLooked
from monitors.sense import host_memory
from monitors.sense.host_links import Links
from monitors.sense.host_processes import Processes, Processors
from monitors.sense.host_reader import Reader
from monitors.sense.mounts import Mounts
from monitors.signals import Blind, Signal

EVERY_S = 5.0
HURRY_S = 1.0
HURRY_SHARE = 0.15
"""of the memory left: from there on a leak may need only seconds"""
ALWAYS_WATCHED = ("/", "/tmp", "/dev/shm")
SHM = "/dev/shm"

_STA_UNSYNC = 0x40
_STA_NANO = 0x2000
_TIME_ERROR = 5


class Host:
    """The sense `host`."""

    def __init__(self, *, node: int, paths: Sequence[str | Path] = (), root: Path = Path("/")) -> None:
        """`paths` are further folders whose disks matter."""
        self.every_s = EVERY_S
        self._node = node
        self._root = root
        watched = [*map(str, paths), *ALWAYS_WATCHED]
        self._mounts = Mounts(watched, table=root / "proc/self/mountinfo", reader=Reader())
        self._links = Links(root, Reader())
        self._processes = Processes(root / "proc")
        self._processors = Processors(root / "proc")
        self._blind = ""

    def look(self, now: float) -> list[Signal]:
        """One look at everything."""
        offset_s = clock_offset_s(now)  # first, because `now` gets older
        memory = host_memory.look(self._root)
        if memory is None:
            return self._tell_blind(f"{self._root / 'proc/meminfo'} cannot be read", now)
        left = memory.available / max(1, memory.total)
        self.every_s = HURRY_S if left < HURRY_SHARE else EVERY_S
        rooms, dead = self._rooms(now)
        shm = next((room for room in rooms if room[0] == SHM), None)
        steal, load = self._processors.look()
        blocked = self._processes.look(now)
        down, errors = self._links.look(now)
        looked = HostLooked(
            at=now,
            node=self._node,
            memory_bytes=memory.total,
            memory_available_bytes=memory.available,
            swap_free_bytes=memory.swap_free,
            memory_stalled_share=memory.stalled_share,
            shm_bytes=None if shm is None else shm[1],
            shm_free_bytes=None if shm is None else shm[2],
            disks=tuple(room for room in rooms if room is not shm),
            dead_mounts=dead,
            cpu_steal=steal,
            load_per_cpu=load,
            zombies=self._processes.zombies,
            blocked=blocked,
            clock_offset_s=offset_s,
            links_down=down,
            link_errors=errors,
        )
        return [*self._tell_blind("", now), looked]

    def close(self) -> None:
        """End the children."""
        self._mounts.close()
        self._links.close()

    def _rooms(self, now: float) -> tuple[tuple[tuple[str, int, int, float], ...], tuple[str, ...]]:
        with suppress(OSError):  # no table of mounts, or no more processes: the rest can be seen all the same
            return self._mounts.look(now)
        return (), ()

    def _tell_blind(self, why: str, now: float) -> list[Signal]:
        if why == self._blind:
            return []
        self._blind = why
        return [Blind(at=now, node=self._node, sense="host", why=why)]


def clock_offset_s(now: float) -> float | None:
    """How far `now` is ahead of the time by the service that disciplines the kernel's clock; None when none does.

    The kernel knows what the service has not corrected yet. A step that it made since this process began is not in
    `now`, which goes on as it was: it shows as an offset too, as it should, because our times carry it.
    """
    if os.uname().machine not in ("x86_64", "aarch64"):
        return None
    # adjtimex(2) with modes 0 only reads. struct timex, 64 bits: offset at 8, status at 40, tv_sec and tv_usec at 72.
    timex = (ctypes.c_byte * 256)()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    status = ctypes.c_int.from_buffer(timex, 40).value
    if state < 0 or state == _TIME_ERROR or status & _STA_UNSYNC:
        return None
    unit = 1e-9 if status & _STA_NANO else 1e-6
    left, second, fraction = (ctypes.c_long.from_buffer(timex, at).value for at in (8, 72, 80))
    return now - (second + fraction * unit) - left * unit

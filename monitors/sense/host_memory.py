"""How much memory is left before the kernel kills somebody? The host's, or the container's where that is less."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

UNLIMITED = 1 << 60
"""Version 1 says "no limit" by the largest number of pages."""
_NUMBER = re.compile(r"^(\w+)(?:\(\w+\))?:?\s+(\d+)", re.MULTILINE)
_SOME = re.compile(r"^some avg10=([\d.]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes, and the share of time in which somebody waited for some."""

    total: int
    available: int
    swap_free: int
    stalled_share: float | None


def look(root: Path) -> Memory | None:
    """What is left, by the files under a root folder; None when /proc/meminfo cannot be read."""
    host = _numbers(root / "proc/meminfo")
    if "MemTotal" not in host:
        return None
    total = host["MemTotal"] * 1024
    # Kernels before 3.14 do not say what is available.
    free = host.get("MemAvailable", host.get("MemFree", 0) + host.get("Cached", 0) - host.get("Shmem", 0)) * 1024
    swap_free = host.get("SwapFree", 0) * 1024
    groups = list(_groups(root))
    for limit, used, swap_left in filter(None, map(_limited, groups)):
        if limit - used < free:
            total, free = limit, max(0, limit - used)
            swap_free = min(swap_free, swap_left)
    shares = [_stalled(root / "proc/pressure/memory"), *(_stalled(group / "memory.pressure") for group in groups[:1])]
    return Memory(
        total=total,
        available=free,
        swap_free=swap_free,
        stalled_share=max((share for share in shares if share is not None), default=None),
    )


def _numbers(path: Path) -> dict[str, int]:
    try:
        return {name: int(value) for name, value in _NUMBER.findall(path.read_text())}
    except OSError:
        return {}


def _number(path: Path) -> int | None:
    """None where the file is not there, or says `max`."""
    with suppress(OSError, ValueError):
        return int(path.read_text())
    return None


def _groups(root: Path) -> Iterator[Path]:
    """Our own control group and those above it, innermost first: each of them may have a limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        tops: tuple[str, ...] = ()
        if not controllers:
            tops = ("sys/fs/cgroup", "sys/fs/cgroup/unified")
        elif "memory" in controllers.split(","):
            tops = ("sys/fs/cgroup/memory",)
        # In a container, the path is that on the host, and the top that is mounted is already ours.
        inner = PurePosixPath(path.lstrip("/"))
        for top in tops:
            yield from (folder for part in (inner, *inner.parents) if (folder := root / top / part).is_dir())


def _limited(group: Path) -> tuple[int, int, int] | None:
    """Limit, use that cannot be given back, and swap left, of a group that has a limit."""
    second = group / "memory.max"
    if second.exists():
        names = ("memory.max", "memory.current", "memory.swap.max", "memory.swap.current")
    else:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "", "")
    limit, used, swap_max, swap_used = (_number(group / name) if name else 0 for name in names)
    if limit is None or used is None or limit >= UNLIMITED:
        return None
    counted = _numbers(group / "memory.stat")
    prefix = "" if second.exists() else "total_"
    cache = sum(counted.get(f"{prefix}{name}", 0) for name in ("active_file", "inactive_file", "slab_reclaimable"))
    swap_left = UNLIMITED if swap_max is None else max(0, swap_max - (swap_used or 0))
    return limit, max(0, used - cache), swap_left


def _stalled(path: Path) -> float | None:
    """A kernel built without pressure information, or started without it, has no such file or refuses to read it."""
    with suppress(OSError):
        if found := _SOME.search(path.read_text()):
            return float(found[1]) / 100
    return None

"""How much memory may still be taken on this node before somebody is killed for it?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MEMORY_SHARE = 0.4
"""of the memory that is free when room is made: for the copies of all ranks of the node, then for those of a peer"""


def free_bytes(root: Path = Path("/")) -> int:
    """What the host can give without swapping, or what is left to this container where that is less."""
    lines = (root / "proc/meminfo").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    host = int(fields["MemAvailable"].split()[0]) * 1024
    return max(0, min([host, *_left_to_groups(root)]))


def _left_to_groups(root: Path) -> Iterator[int]:
    """For each control group around this process that has a limit."""
    for folder, limit, usage in _groups(root):
        with suppress(OSError, ValueError):  # no limit is told as `max`
            most = int((folder / limit).read_text())
            used = int((folder / usage).read_text())
            if most < 1 << 60:  # version 1 has a number for none, too
                yield most - used + _given_back(folder)


def _groups(root: Path) -> Iterator[tuple[Path, str, str]]:
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0":
                yield from _upwards(root / "sys/fs/cgroup", path, "memory.max", "memory.current")
            elif "memory" in controllers.split(","):
                names = "memory.limit_in_bytes", "memory.usage_in_bytes"
                yield from _upwards(root / "sys/fs/cgroup/memory", path, *names)


def _upwards(top: Path, path: str, limit: str, usage: str) -> Iterator[tuple[Path, str, str]]:
    """A container sees its own group as the top, whatever its path says."""
    parts = [part for part in path.split(os.sep) if part and part != ".."]
    for depth in range(len(parts), -1, -1):
        yield top.joinpath(*parts[:depth]), limit, usage


def _given_back(folder: Path) -> int:
    """File pages that are not in use count, and are let go first."""
    with suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, number = line.partition(" ")
            if name in ("inactive_file", "total_inactive_file"):
                return int(number)
    return 0

"""Which processes belong to a world, wherever they hid? Found by the marks in their environment, ended by pidfd.

A data loader or a helper that made a session of its own is in no group and no tree of ours once its parent is dead;
its environment still says whose it is.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Whose processes; `world` None means any world, which never matches an agent: it has none."""

    mark: str
    node: int
    world: int | None = None

    def match(self, environ: bytes) -> bool:
        """Whether `/proc/PID/environ` carries the marks."""
        variables = set(environ.split(b"\0"))
        if f"LASTGOOD_MARK={self.mark}".encode() not in variables:
            return False
        if f"LASTGOOD_NODE={self.node}".encode() not in variables:
            return False
        if self.world is None:
            return any(variable.startswith(b"LASTGOOD_WORLD=") for variable in variables)
        return f"LASTGOOD_WORLD={self.world}".encode() in variables


def find(marks: Marks, spared: Collection[int] = ()) -> list[int]:
    """Living processes with these marks, but for the caller and the sessions of `spared` leaders; zombies have no
    environment and are not found."""
    own = os.getpid()
    pids = (int(entry.name) for entry in os.scandir(PROC) if entry.name.isdigit())
    found = [pid for pid in pids if pid != own and marks.match(_environ(pid))]
    return [pid for pid in found if not spared or _session(pid) not in spared]


def kill(marks: Marks, spared: Collection[int] = ()) -> int:
    """SIGKILL every process with these marks that is not spared; gives how many there were."""
    return sum(_kill(pid, marks) for pid in find(marks, spared))


def kill_sessions(leaders: set[int]) -> None:
    """SIGKILL the sessions of children not waited for yet: until then the kernel keeps their numbers for us."""
    for entry in os.scandir(PROC):
        if entry.name.isdigit() and _session(int(entry.name)) in leaders:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(int(entry.name), signal.SIGKILL)


def _kill(pid: int, marks: Marks) -> bool:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        # Looked at again through the pidfd's lifetime: the number may have gone to a stranger since.
        if not marks.match(_environ(pid)):
            return False
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)


def _environ(pid: int) -> bytes:
    try:
        return (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return b""  # gone, or another user's


def _session(pid: int) -> int:
    try:
        stat = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return -1
    # "pid (name with anything) state ppid pgrp session ..."
    return int(stat.rpartition(b")")[2].split()[3])

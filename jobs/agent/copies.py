"""Where do ranks keep the copies of their state? In memory that belongs to this agent.

Files without a name: they outlive every rank, are gone with the agent however it ends, and are not bounded by the size
of /dev/shm, which containers keep small. A rank opens them through /proc.
"""

from __future__ import annotations

import logging
import os

TURNS = 3
"""copies of a rank: one is whole while another is written, and one may be held for the saver"""

log = logging.getLogger(__name__)


class Copies:
    """Those of all ranks of this node; empty until a rank makes room in them."""

    def __init__(self) -> None:
        self._files: dict[int, tuple[int, ...]] = {}

    def paths(self, rank: int) -> tuple[str, ...]:
        """Where a rank finds its files, in every world the same; none where the kernel refuses them."""
        if rank not in self._files:
            self._files[rank] = _made(rank)
        return tuple(f"/proc/{os.getpid()}/fd/{fd}" for fd in self._files[rank])

    def close(self) -> None:
        """Give the memory back."""
        for fds in self._files.values():
            for fd in fds:
                os.close(fd)
        self._files.clear()


def _made(rank: int) -> tuple[int, ...]:
    try:
        return tuple(os.memfd_create(f"lastgood-rank{rank}.{turn}", os.MFD_CLOEXEC) for turn in range(TURNS))
    except OSError as error:
        log.warning("no memory for copies of rank %d: %s", rank, error)
        return ()

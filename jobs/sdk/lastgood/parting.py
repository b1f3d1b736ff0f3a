"""How does a rank leave the groups of a world whose peers may never answer again?

NCCL aborts its communicators. gloo cannot: a collective of its own ends only when a connection does. So the connections
that were made with each group are remembered, and shut down: whoever waits on either end wakes at once. Who waits to be
dialled by a peer that stopped half-way into a group has no connection yet: it does not wake, and is killed in time.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

_connections: set[tuple[int, int]] = set()
"""descriptor and inode of each socket that came with a process group of this process"""
_making: list[set[tuple[int, int]]] = []
"""the connections there were before each group that is just being made"""


def watch_groups() -> None:
    """Remember the connections of every process group made from now on; a second call does nothing."""
    import torch.distributed.distributed_c10d as c10d

    make: Callable[..., Any] | None = getattr(c10d, "_new_process_group_helper", None)
    if make is None or getattr(make, "watched", False):
        return  # another torch: ranks wake when their peers' processes end

    def watched(*args: Any, **kwargs: Any) -> Any:
        with remembered():
            return make(*args, **kwargs)

    watched.watched = True  # type: ignore[attr-defined]
    c10d._new_process_group_helper = watched


@contextmanager
def remembered() -> Iterator[None]:
    """The connections that are made in here are the groups': their own, and that to the store, at which a rank waits
    that makes a group with a peer who never comes."""
    before = set(_sockets())
    _making.append(before)
    try:
        yield
    finally:
        _connections.update(set(_sockets()) - before)
        _making.remove(before)


def wake() -> None:
    """End what any thread waits for in a collective; the groups are of no use after this."""
    disconnect()
    _abort_nccl()


def disconnect() -> None:
    """End every connection of a group, also of one that is just being made; safe to do again and again."""
    there = set(_sockets())
    for fd, inode in (there & _connections).union(*(there - before for before in tuple(_making))):
        with suppress(OSError), socket.socket(fileno=os.dup(fd)) as connection:
            if os.fstat(fd).st_ino == inode:
                connection.shutdown(socket.SHUT_RDWR)


def forget() -> None:
    """No group is left in this process, and the names of the next ones are those of a new process."""
    _connections.clear()
    if "torch.distributed" not in sys.modules:
        return
    import torch.distributed as dist
    import torch.distributed.distributed_c10d as c10d

    if dist.is_initialized():
        c10d._abort_process_group()  # type: ignore[no-untyped-call]


def _abort_nccl() -> None:
    """All communicators at once, as they might wait for each other; the groups stay known until `forget`."""
    if "torch.distributed" not in sys.modules:
        return
    import torch
    import torch.distributed as dist
    import torch.distributed.distributed_c10d as c10d

    if not (dist.is_initialized() and dist.is_nccl_available() and torch.cuda.is_initialized()):
        return
    groups = sorted(c10d._world.pg_names, key=lambda group: c10d._world.pg_names[group], reverse=True)
    nccl = [group for group in groups if torch.device("cuda") in group._device_types]
    if not nccl:
        return
    backend = nccl[-1]._get_backend(torch.device("cuda"))
    backend._group_start()
    for group in nccl:
        group.abort()
    backend._group_end()


def _sockets() -> Iterator[tuple[int, int]]:
    """Connections over IP that this process has: descriptor and inode."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        with suppress(OSError):
            found = os.fstat(fd)
            if stat.S_ISSOCK(found.st_mode) and _is_connection(fd):
                yield fd, found.st_ino


def _is_connection(fd: int) -> bool:
    with socket.socket(fileno=os.dup(fd)) as one:
        if one.family not in (socket.AF_INET, socket.AF_INET6) or one.type != socket.SOCK_STREAM:
            return False
        with suppress(OSError):
            return bool(one.getpeername())
        return False

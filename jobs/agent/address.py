"""Where is the supervisor, and is it alive? Read anew from the state folder each time: it moves when it restarts."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

_START_SLACK_S = 2.0
"""the kernel gives the boot time, from which the start of a process is counted, in whole seconds"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The part of `supervisor.json` that an agent needs."""

    host: str
    port: int
    pid: int
    started_at: float

    @property
    def is_here(self) -> bool:
        """The supervisor lives on this host: its address is one of ours."""
        with socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET) as probe:
            try:
                probe.bind((self.host, 0))
            except OSError:
                return False
        return True

    @property
    def is_alive(self) -> bool:
        """Its process runs on this host; a stranger that got its number started later than it wrote this file."""
        try:
            process = psutil.Process(self.pid)
            return process.create_time() < self.started_at + _START_SLACK_S and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


def read(home: Path) -> Address | None:
    """None when no supervisor ever wrote one, or when it cannot be read now."""
    try:
        body = json.loads((home / "supervisor.json").read_text())
        return Address(
            host=str(body["host"]),
            port=int(body["port"]),
            pid=int(body["pid"]),
            started_at=float(body["started_at"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def reachable_host(home: Path) -> str:
    """The name under which the other nodes of the attempt find this host."""
    address = read(home)
    if address is None or address.host in {"127.0.0.1", "localhost", "::1"}:
        return "127.0.0.1"
    return socket.gethostname()


def is_locked(home: Path) -> bool:
    """A supervisor holds the state folder. Takes the lock for a moment, so ask only before starting one."""
    try:
        fd = os.open(home / "supervisor.lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False

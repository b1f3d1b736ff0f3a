"""Which processes are stuck or dead, and who else uses this host's processors?"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SCAN_EVERY_S = 30.0
"""A node has thousands of processes; reading one takes about 15 microseconds."""
BLOCKED_LOOKS = 3
"""in a row, in state D and without having run in between: a process that reads or writes much is in D whenever one
looks, but it runs between looks"""
KERNEL_THREADS_PARENT = 2
_SWITCHES = re.compile(r"^(?:non)?voluntary_ctxt_switches:\s+(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stat:
    name: str
    state: str
    parent: int
    started: str


@dataclass(frozen=True, slots=True)
class _Sleep:
    started: str
    switches: tuple[str, ...]
    looks: int
    name: str


class Processes:
    """Zombies, and processes that do not come out of state D."""

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self._scanned_at = float("-inf")
        self._kernel: set[int] = set()
        self._asleep: dict[int, _Sleep] = {}
        self.zombies: int | None = None

    def look(self, now: float) -> tuple[tuple[int, str], ...]:
        """Processes that are stuck: pid and name."""
        seen: dict[int, _Stat] = {}
        if now - self._scanned_at >= SCAN_EVERY_S:
            self._scanned_at = now
            seen = self._scan()
        candidates = {pid for pid, stat in seen.items() if stat.state == "D"} | self._asleep.keys()
        self._asleep = {pid: sleep for pid in candidates if (sleep := self._look_at(pid)) is not None}
        return tuple((pid, sleep.name) for pid, sleep in sorted(self._asleep.items()) if sleep.looks >= BLOCKED_LOOKS)

    def _scan(self) -> dict[int, _Stat]:
        """Every process but the kernel's own threads: some of those sleep in state D all their life."""
        pids = set(self._pids())
        self._kernel &= pids
        seen = {pid: stat for pid in pids - self._kernel if (stat := self._stat(pid)) is not None}
        mine = {pid for pid, stat in seen.items() if stat.parent == KERNEL_THREADS_PARENT}
        self._kernel |= mine
        seen = {pid: stat for pid, stat in seen.items() if pid not in mine and pid != KERNEL_THREADS_PARENT}
        self.zombies = sum(stat.state == "Z" for stat in seen.values())
        return seen

    def _look_at(self, pid: int) -> _Sleep | None:
        stat = self._stat(pid)
        if stat is None or stat.state != "D":
            return None
        before, switches = self._asleep.get(pid), self._switches(pid)
        same = before is not None and (before.started, before.switches) == (stat.started, switches)
        return _Sleep(stat.started, switches, before.looks + 1 if same and before else 1, stat.name)

    def _pids(self) -> Iterator[int]:
        with suppress(OSError):
            yield from (int(name) for name in os.listdir(self._proc) if name.isdecimal())

    def _stat(self, pid: int) -> _Stat | None:
        try:
            text = (self._proc / str(pid) / "stat").read_text(errors="replace")
        except OSError:
            return None
        # "pid (name with anything) state ppid ... starttime": field 22.
        head, _, tail = text.rpartition(")")
        fields = tail.split()
        if len(fields) < 20:
            return None
        name = head.partition("(")[2]
        return _Stat(name=name, state=fields[0], parent=int(fields[1]), started=fields[19])

    def _switches(self, pid: int) -> tuple[str, ...]:
        """How often it was given a processor, or gave it back: any of it means that it lives."""
        with suppress(OSError):
            return tuple(_SWITCHES.findall((self._proc / str(pid) / "status").read_text(errors="replace")))
        return ()


class Processors:
    """Steal and load."""

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self._before: tuple[int, int] | None = None

    def look(self) -> tuple[float | None, float | None]:
        """Share of the time that the hypervisor gave to others since the last look, and load per CPU."""
        try:
            lines = (self._proc / "stat").read_text().splitlines()
            load = float((self._proc / "loadavg").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None, None
        cpus = sum(re.match(r"cpu\d", line) is not None for line in lines)
        return self._steal(lines), load / cpus if cpus else None

    def _steal(self, lines: list[str]) -> float | None:
        times = next((line.split()[1:9] for line in lines if line.startswith("cpu ")), [])
        if len(times) < 8:
            return None
        # user nice system idle iowait irq softirq steal; guest time is part of user.
        now = (int(times[7]), sum(map(int, times)))
        before, self._before = self._before, now
        if before is None or now[1] <= before[1] or now[0] < before[0]:
            return None
        return (now[0] - before[0]) / (now[1] - before[1])

"""What is wrong with a host by its own counters? One look, and a little history, to findings; no persistence here.

Where a number has no source beside it, it is our own: early enough to act, and not seen on healthy hosts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import isfinite
from statistics import median

from monitors.hardware import HostLooked
from monitors.incidents import Kind
from monitors.values import quick

GIB = 1 << 30
MIB = 1 << 20

MEMORY_TIGHT = 0.10
MEMORY_WELL = 0.15
MEMORY_FORESEEN_S = 60.0
MEMORY_HISTORY_S = 60.0
STALLED = 0.4
"""systemd-oomd acts at 0.6 of all tasks for 30 s; here it is some task, and only a word"""
DISK_FORESEEN_S = 600.0
DISK_HISTORY_S = 600.0
DISK_SAMPLE_S = 10.0
STEAL = 0.10
CLOCK_OFF_S = 0.5
"""what ranks say is put in order by time: half a second decides who failed first"""
ZOMBIES = 1000
"""gpud's"""
LOAD_PER_CPU = 4.0

ANY_GROWTH = frozenset(
    ("excessive_buffer_overrun_errors", "local_link_integrity_errors", "rnr_nak_retry_err"),
)
"""each one is a loss; NVSentinel's, facts in health.md 1.2"""
RATES = {
    "symbol_error": 10.0,
    "link_error_recovery": 5 / 60,
    "port_rcv_errors": 10.0,
    "local_ack_timeout_err": 1.0,
    "port_xmit_discards": 100.0,
    "roce_slow_restart": 10.0,
    "carrier_changes": 2 / 60,
    "link_downed": 2 / 60,
    "rx_errors": 10.0,
    "tx_errors": 10.0,
    "rx_crc_errors": 10.0,
    "tx_carrier_errors": 1.0,
}
"""a second; NVSentinel's where it has one"""


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, right, or in between."""

    what: str
    kind: Kind
    wrong: bool | None
    words: tuple[str, ...] = ()
    confidence: float = 0.7
    hold_s: float = 0.0
    looks: int = 2
    degree: int = 1
    pids: tuple[int, ...] = ()
    """processes that it is about"""


class Trend:
    """Where a number that falls will be at zero."""

    def __init__(self, *, history_s: float, sample_s: float) -> None:
        self._history_s = history_s
        self._sample_s = sample_s
        self._seen: deque[tuple[float, float]] = deque(maxlen=64)

    def add(self, at: float, value: float) -> None:
        """Remember it; time that runs backwards begins a new history."""
        if self._seen and at < self._seen[-1][0]:
            self._seen.clear()
        while self._seen and self._seen[0][0] < at - self._history_s:
            self._seen.popleft()
        if not self._seen or at - self._seen[-1][0] >= self._sample_s:
            self._seen.append((at, value))

    def zero_in_s(self, *, span_s: float) -> float | None:
        """Seconds until zero, by the median of all slopes (a burst does not move it); None when it does not fall."""
        if len(self._seen) < 4 or self._seen[-1][0] - self._seen[0][0] < span_s:
            return None
        some = list(self._seen)[:: 1 + len(self._seen) // 24]
        slopes = [(v - u) / (t - s) for (s, u), (t, v) in combinations(some, 2) if t > s]
        slope = median(slopes) if slopes else 0.0
        return self._seen[-1][1] / -slope if slope < 0 else None


class Levels:
    """The counters of one host."""

    def __init__(self) -> None:
        self._memory = Trend(history_s=MEMORY_HISTORY_S, sample_s=0.5)
        self._disks: dict[str, Trend] = {}
        self._had_room: set[str] = set()

    def read(self, looked: HostLooked) -> Iterator[Finding]:
        """Everything that this look says."""
        yield from self._left(looked)
        yield from self._rooms(looked)
        yield from _mounts_and_links(looked)
        yield from _slow(looked)

    def _left(self, looked: HostLooked) -> Iterator[Finding]:
        memory = _memory(looked)
        if memory is None:
            return
        left, total = memory
        share, stalled = left / total, looked.memory_stalled_share
        self._memory.add(looked.at, left)
        zero_s = self._memory.zero_in_s(span_s=5.0) if share < MEMORY_TIGHT else None
        signs = [
            "it is nearly gone" if left < min(GIB, total // 100) else "",
            f"at this rate it is gone in {zero_s:.0f} s" if zero_s is not None and zero_s < MEMORY_FORESEEN_S else "",
            f"tasks waited for it in {stalled:.0%} of the last 10 s"
            if stalled is not None and stalled >= STALLED and share < MEMORY_TIGHT
            else "",
        ]
        said = ", ".join(filter(None, signs))
        yield Finding(
            what="memory",
            kind=Kind.HOST_OOM,
            wrong=True if said else (False if share >= MEMORY_WELL else None),
            words=(
                f"{_size(left)} of {_size(total)} memory are left: {said}",
                "the kernel is about to end a process; none was ended yet",
            ),
            confidence=0.5,
        )

    def _rooms(self, looked: HostLooked) -> Iterator[Finding]:
        rooms = {point: (size, free, inodes) for point, size, free, inodes in looked.disks}
        if looked.shm_bytes is not None and looked.shm_free_bytes is not None:
            rooms["/dev/shm"] = (looked.shm_bytes, looked.shm_free_bytes, 1.0)
        self._disks = {point: trend for point, trend in self._disks.items() if point in rooms}
        for point, (size, free, inodes) in rooms.items():
            if free > 0 or inodes > 0:
                self._had_room.add(point)
            if size > 0 and point in self._had_room:  # an image is full from the first, without space or inodes
                yield from self._room(point, size, max(0, free), inodes if isfinite(inodes) else 1.0, looked.at)

    def _room(self, point: str, size: int, free: int, inodes: float, at: float) -> Iterator[Finding]:
        trend = self._disks.setdefault(point, Trend(history_s=DISK_HISTORY_S, sample_s=DISK_SAMPLE_S))
        trend.add(at, free)
        share = free / size
        zero_s = trend.zero_in_s(span_s=120.0) if share < 0.2 else None
        left = f"{point}: {_size(free)} of {_size(size)} are free"
        is_full = (share < 0.001 and free < GIB) or free < min(64 * MIB, size // 100) or inodes < 0.001
        signs = [
            "it is full" if is_full and inodes >= 0.001 else "",
            f"{inodes:.1%} of its inodes are left" if inodes < 0.02 else "",
            f"at this rate it is full in {zero_s / 60:.0f} min"
            if zero_s is not None and zero_s < DISK_FORESEEN_S
            else "",
        ]
        said = ", ".join(filter(None, signs))
        near = share < 0.05 and free < 10 * GIB
        yield Finding(
            what=f"room:{point}",
            kind=Kind.DISK_FULL,
            wrong=True if said or near else (False if share > 0.06 or free > 12 * GIB else None),
            words=(f"{left}: {said}" if said else left, _advice(point)),
            confidence=1.0 if is_full else 0.7,
            looks=2 if is_full else 3,
            degree=2 if is_full else 1,
        )


def _advice(point: str) -> str:
    if point == "/dev/shm":
        return "data loaders pass batches through it, and die of a bus error when it is full"
    return f"saves and logs there will fail; see `du -xh --max-depth=2 {point} | sort -h | tail`"


def _memory(looked: HostLooked) -> tuple[int, int] | None:
    """Left, swap included, and total."""
    total, available = looked.memory_bytes, looked.memory_available_bytes
    if total is None or available is None or total <= 0:
        return None
    return max(0, available) + max(0, looked.swap_free_bytes or 0), total


def _mounts_and_links(looked: HostLooked) -> Iterator[Finding]:
    for point in looked.dead_mounts:
        yield Finding(
            what=f"mount:{point}",
            kind=Kind.STORAGE_FAULT,
            wrong=True,
            words=(f"{point} does not answer: whoever reads or writes there stands still",),
            confidence=0.9,
            hold_s=15.0,
        )
    for port in looked.links_down:
        yield Finding(
            what=f"port:{port}",
            kind=Kind.NIC_FAULT,
            wrong=True,
            words=(f"port {port}, which was up, is down",),
            confidence=0.8,
            hold_s=25.0,  # gpud: what is back sooner is a flap
        )
    for port, counter, rate in looked.link_errors:
        sure = counter in ANY_GROWTH
        if rate > 0 if sure else rate > RATES.get(counter, float("inf")):
            yield Finding(
                what=f"errors:{port}:{counter}",
                kind=Kind.NIC_FAULT,
                wrong=True,
                words=(f"port {port} counts {counter}: {rate:.3g} a second",),
                confidence=0.6,
                # The counters are read every 30 s: two readings.
                hold_s=0.0 if sure else 40.0,
                looks=1 if sure else 2,
            )


_CLOCK_OFF = "the clock is off by {:+.1f} s: times of this node cannot be compared"


def _slow(looked: HostLooked) -> Iterator[Finding]:
    stalled, offset_s = looked.memory_stalled_share, looked.clock_offset_s
    memory = _memory(looked)
    if memory is not None and memory[0] < MEMORY_TIGHT * memory[1]:
        stalled = None  # that is graver, and told as such
    off_s = None if offset_s is None else abs(offset_s)
    for what, value, least, hold_s, words in (
        ("steal", looked.cpu_steal, STEAL, 30.0, "the hypervisor gave {:.0%} of the processors' time to others"),
        ("clock", off_s, CLOCK_OFF_S, 30.0, _CLOCK_OFF.format(offset_s or 0.0)),
        ("zombies", looked.zombies, ZOMBIES, 60.0, "{} dead processes wait for their parent"),
        ("load", looked.load_per_cpu, LOAD_PER_CPU, 300.0, "{:.1f} processes want each processor"),
        ("stalled", stalled, STALLED, 60.0, "tasks waited for memory in {:.0%} of the last 10 s"),
    ):
        wrong = None if value is None else value >= least
        said = (words.format(value),) if wrong else ()
        yield Finding(what=what, kind=Kind.HOST_DEGRADED, wrong=wrong, words=said, hold_s=hold_s, looks=3)
    names = ", ".join(f"{name} ({pid})" for pid, name in looked.blocked[:5])
    yield Finding(
        what="blocked",
        kind=Kind.HOST_DEGRADED,
        wrong=bool(looked.blocked),
        words=(f"{len(looked.blocked)} processes stand in the kernel and do not run: {names}",),
        hold_s=45.0,
        looks=3,
        pids=tuple(pid for pid, _ in looked.blocked),
    )


def _size(count: float) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"

"""What does the kernel say of a process? State, CPU use of its tree, and the stack of its Python code."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat as modes
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from monitors.signals import ProcessLooked

PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

_EXITING = 0x4  # PF_EXITING, linux/sched.h
_HARMLESS = frozenset((1, 4, 5, *range(136, 144)))
"""major numbers (Linux, devices.txt) of /dev/null and its like, of terminals, of pseudo-terminals"""

STACK_SIGNAL = signal.SIGRTMIN + 3
"""a worker's fault handler writes its stacks to `stack.txt` on it"""
STACK_WAIT_S = 0.5
_STACK_POLL_S = 0.02

BUSY_SHARE = 0.05
"""of one core: below it a process is as good as idle (a data loader that polls its queue uses 1 to 2 %)"""
BUSY_WINDOW_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """The part of /proc/PID/stat that we need."""

    state: str
    parent: int
    cpu_s: float
    """user and system time, that of children already waited for included"""


def stat(pid: int) -> Stat | None:
    """None when there is no such process."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # "pid (name with anything) state ppid ... utime stime cutime cstime": fields 3, 4 and 14 to 17.
    fields = text.rpartition(")")[2].split()
    ticks = sum(int(field) for field in fields[11:15])
    return Stat(state=fields[0], parent=int(fields[1]), cpu_s=ticks / _TICKS_PER_S)


def last_status(pid: int) -> int | None:
    """Wait status (wait(2)) of a process that is ending, once no thread of it can run its code any more; its memory and
    files may still be there. None before, for a status of 0, and where the kernel does not show it to us."""
    flags, status = _ending(PROC / str(pid) / "stat")
    if not flags & _EXITING or status == 0:  # 0 is shown to whom it is hidden from, too
        return None
    with suppress(OSError):
        threads = list((PROC / str(pid) / "task").iterdir())
        # One that was reaped between the two looks has ended.
        return status if all(_ending(thread / "stat")[0] & _EXITING for thread in threads) else None
    return None


def has_device(pid: int) -> bool:
    """Whether it has a device open that is more than a terminal or a source of zeros: a GPU, say. True when that cannot
    be told: a process without files is closing them."""
    files = list(_open_files(pid))
    devices = (os.major(file.st_rdev) for file in files if modes.S_ISCHR(file.st_mode))
    return not files or any(major not in _HARMLESS for major in devices)


def _open_files(pid: int) -> Iterator[os.stat_result]:
    with suppress(OSError):
        for entry in os.scandir(PROC / str(pid) / "fd"):
            with suppress(OSError):
                yield entry.stat()


def _ending(stat_file: Path) -> tuple[int, int]:
    """Flags and exit status of a thread: fields 9 and 52 of proc(5), counted from the third."""
    try:
        fields = stat_file.read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return _EXITING, 0
    return int(fields[6]), int(fields[49])


def table() -> dict[int, Stat]:
    """Every process of the host."""
    pids = (int(entry.name) for entry in os.scandir(PROC) if entry.name.isdigit())
    return {pid: seen for pid in pids if (seen := stat(pid)) is not None}


def tree_cpu_s(processes: Mapping[int, Stat], root: int) -> float:
    """CPU time of a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for pid, seen in processes.items():
        children.setdefault(seen.parent, []).append(pid)
    total, left = 0.0, [root]
    while left:
        pid = left.pop()
        total += processes[pid].cpu_s if pid in processes else 0.0
        left.extend(children.get(pid, ()))
    return total


class CpuUse:
    """Which of some processes work? Compared over windows of a second, because the kernel counts in ticks."""

    def __init__(self) -> None:
        self._before: dict[int, float] = {}
        self._at = float("-inf")

    def busy(self, now: float, pids: Iterable[int]) -> frozenset[int]:
        """Those whose tree used BUSY_SHARE of a core since the last window; empty between windows."""
        window_s = now - self._at
        if window_s < BUSY_WINDOW_S:
            return frozenset()
        processes = table()
        used = {pid: tree_cpu_s(processes, pid) for pid in pids}
        busy = {p for p, s in used.items() if p in self._before and s - self._before[p] >= BUSY_SHARE * window_s}
        self._before, self._at = used, now
        return frozenset(busy)


def look(at: float, *, node: int, world: int, rank: int, pid: int) -> ProcessLooked:
    """What the kernel says of a worker; no stack."""
    seen = stat(pid)
    return ProcessLooked(
        at=at,
        node=node,
        world=world,
        rank=rank,
        state="Z" if seen is None else seen.state,
        cpu_s=0.0 if seen is None else seen.cpu_s,
    )


async def stack(pid: int, stack_file: Path) -> tuple[str, ...]:
    """Frames of a worker's main thread, for one that cannot tell them itself. Takes up to STACK_WAIT_S."""
    seen = stat(pid)
    if seen is None or seen.state in "TtZX":
        return ()
    if _catches(pid, STACK_SIGNAL):
        return await _stack_by_signal(pid, stack_file)
    if shutil.which("py-spy"):
        return await _stack_by_py_spy(pid)
    return ()


def _catches(pid: int, number: int) -> bool:
    """Whether the process has a handler: without one, this signal would end it."""
    try:
        status = (PROC / str(pid) / "status").read_text()
    except OSError:
        return False
    masks = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")]
    return bool(masks) and bool(int(masks[0], 16) >> (number - 1) & 1)


async def _stack_by_signal(pid: int, stack_file: Path) -> tuple[str, ...]:
    before = _size(stack_file)
    with suppress(ProcessLookupError):
        os.kill(pid, STACK_SIGNAL)
    last = before
    for _ in range(round(STACK_WAIT_S / _STACK_POLL_S)):
        await asyncio.sleep(_STACK_POLL_S)
        size = _size(stack_file)
        if size > before and size == last:  # it stopped growing
            break
        last = size
    if last <= before:
        return ()
    with stack_file.open("rb") as file:
        file.seek(before)
        return parse_stack(file.read().decode(errors="replace"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def parse_stack(text: str) -> tuple[str, ...]:
    """Frames of the thread that answered the signal, innermost last, from what `faulthandler` wrote.

    It writes one block a thread, innermost frame first: `Current thread 0x... (most recent call first):`, or for one
    thread alone `Stack (most recent call first):`, then lines like `  File "train.py", line 3 in step`.
    """
    blocks: list[tuple[bool, list[str]]] = []
    for line in text.splitlines():
        if line.startswith(("Current thread", "Thread", "Stack")):
            blocks.append((not line.startswith("Thread"), []))
        elif line.startswith("  File ") and blocks:
            blocks[-1][1].append(line.strip())
    current = [frames for is_current, frames in blocks if is_current]
    chosen = current[-1] if current else blocks[-1][1] if blocks else []
    return tuple(reversed(chosen))


async def _stack_by_py_spy(pid: int) -> tuple[str, ...]:
    """For a program that is not ours; py-spy needs the right to ptrace, and says nothing useful without."""
    process = await asyncio.create_subprocess_exec(
        *("py-spy", "dump", "--nonblocking", "--pid", str(pid)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), 10 * STACK_WAIT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        return ()
    return parse_py_spy(out.decode(errors="replace"))


def parse_py_spy(text: str) -> tuple[str, ...]:
    """Frames of the main thread, innermost last: py-spy writes `Thread PID (state): "MainThread"`, then the frames."""
    frames: list[str] = []
    inside = False
    for line in text.splitlines():
        if line.startswith("Thread "):
            inside = line.rstrip().endswith('"MainThread"')
        elif inside and line.startswith("    "):
            frames.append(line.strip())
    return tuple(reversed(frames))

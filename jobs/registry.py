"""What was launched, and does it still run? TorchX forgets local apps with the process that launched them.

Everything here is about processes of this host and this user, without torchx. A process belongs to an attempt when
its environment holds the attempt's mark, which no worker can lose by accident: children inherit it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from monitors.clock import Clock, SystemClock

MARK = "LASTGOOD_MARK"
AGENT = "jobs.agent"
LAUNCHER = "jobs.launch"
"""the modules, as they stand on the command lines of processes"""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
START_SLACK_S = 2.0
"""The kernel gives the boot time in whole seconds, and slews it with the clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One agent as it was started."""

    node: int
    pid: int
    started_at: float
    """seconds since the epoch, by the kernel: what tells a reused pid"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One submission: the content of `launched.json`."""

    run: str
    attempt: int
    handle: str
    """TorchX's name for the app"""
    scheduler: str
    host: str
    at: float
    agents: tuple[Process, ...]
    adopted: bool = False
    """the launcher before died between starting the agents and writing this down"""


def attempt_folder(home: Path, run: str, attempt: int) -> Path:
    """`runs/RUN/attempts/001`."""
    return home / "runs" / run / "attempts" / f"{attempt:03}"


def mark(run: str, attempt: int) -> str:
    """What the environment of every process of the attempt says."""
    return f"{run}:{attempt}"


def read(home: Path, run: str, attempt: int) -> Record | None:
    """The record of an attempt, None when nothing was launched."""
    try:
        body = json.loads((attempt_folder(home, run, attempt) / "launched.json").read_text())
    except FileNotFoundError:
        return None
    return Record(**{**body, "agents": tuple(Process(**agent) for agent in body["agents"])})


def request(home: Path, run: str, attempt: int, exclude: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Write the request to submit an attempt; returns the command that submits it and prints one line of JSON.

    `exclude`: hosts that the scheduler must not give it.
    `{"ok": true, ...the record}` or `{"ok": false, "why": ...}`. It may be run again: an attempt is submitted once.
    """
    folder = attempt_folder(home, run, attempt)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "request.json"
    replace(path, {"home": str(home), "run": run, "attempt": attempt, "exclude": exclude})
    return (sys.executable, "-P", "-m", LAUNCHER, str(path))


def write(home: Path, record: Record) -> None:
    """Write the record so that a reader sees all of it or nothing, also after a power cut."""
    replace(attempt_folder(home, record.run, record.attempt) / "launched.json", as_json(record))


def as_json(record: Record) -> dict[str, Any]:
    """The record as it is written."""
    return asdict(record)


def replace(path: Path, body: dict[str, Any]) -> None:
    """Put a JSON file in place in one step."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w") as file:
        json.dump(body, file)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _stat(pid: int) -> tuple[str, float] | None:
    """State letter and start (seconds since boot) of a process, None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold spaces and parentheses itself.
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], int(fields[19]) / TICKS_PER_S


def _booted_at() -> float:
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    raise OSError("/proc/stat has no btime")


def started_at(pid: int) -> float | None:
    """When a process started, in seconds since the epoch; None when there is none."""
    found = _stat(pid)
    return None if found is None else _booted_at() + found[1]


def alive(pid: int, started: float) -> bool:
    """This very process runs: a zombie does not, and another process that got the same number is not it."""
    return why_dead(pid, started) is None


def why_dead(pid: int, started: float) -> str | None:
    """One sentence saying how it is known that a process is dead; None when it lives."""
    found = _stat(pid)
    if found is None:
        return f"process {pid} is gone"
    state, since_boot_s = found
    if state in "ZX":
        return f"process {pid} is dead and waits for its parent (state {state})"
    now_started = _booted_at() + since_boot_s
    if abs(now_started - started) > START_SLACK_S:
        return f"process number {pid} belongs to another process, started {now_started - started:+.0f} s after"
    return None


def environment(pid: int) -> dict[str, str]:
    """The environment a process was started with; empty when it is gone, dead, or somebody else's."""
    try:
        body = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (entry.partition(b"=") for entry in body.split(b"\0") if entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def marked(run: str, attempt: int) -> tuple[int, ...]:
    """Every living process of the attempt on this host, agents, workers and a launcher alike."""
    wanted = f"{MARK}={mark(run, attempt)}".encode()
    return tuple(pid for pid in _pids() if pid != os.getpid() and _holds(pid, wanted))


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def _holds(pid: int, wanted: bytes) -> bool:
    try:
        return wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def agents(run: str, attempt: int) -> tuple[Process, ...]:
    """The agents of the attempt as the process table shows them, in the order of their nodes."""
    oldest: dict[int, Process] = {}
    for pid in marked(run, attempt):
        node, started = _node_of(pid), started_at(pid)
        if node is None or started is None:
            continue
        found = Process(node=node, pid=pid, started_at=started)
        # A child that an agent forked looks like the agent until it executes another program.
        oldest[node] = min(found, oldest.get(node, found), key=lambda agent: (agent.started_at, agent.pid))
    return tuple(oldest[node] for node in sorted(oldest))


def _node_of(pid: int) -> int | None:
    """The node whose agent this process is, None when it is no agent."""
    words = _words(pid)
    with suppress(IndexError, ValueError):
        return int(words[words.index("--node") + 1]) if AGENT in words else None
    return None


def _words(pid: int) -> list[str]:
    """The command line of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def end(home: Path, run: str, attempt: int, *, within_s: float = 10.0, clock: Clock | None = None) -> tuple[int, ...]:
    """End every process of an attempt on this host, and refuse any later submission of it.

    Returns the processes that are still there after `within_s` seconds: empty means that none is left. Raises OSError
    when none is left but the refusal could not be written, so that a launcher on its way may still start some.
    """
    clock = clock or SystemClock()
    folder = attempt_folder(home, run, attempt)
    # First the refusal: a launcher that comes to it later starts nothing, one that was earlier holds the mark.
    unwritten = _refuse(folder, clock.now())
    left = sweep(run, attempt, within_s=within_s, clock=clock)
    # Without its folder no request to launch was ever written either.
    if unwritten is not None and not left and folder.is_dir():
        raise unwritten
    return left


def _refuse(folder: Path, at: float) -> OSError | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace(folder / "ended.json", {"at": at})
    except OSError as error:
        return error
    return None


def sweep(run: str, attempt: int, *, within_s: float, clock: Clock, launchers: bool = True) -> tuple[int, ...]:
    """SIGKILL every process of an attempt on this host but the caller; returns those left after `within_s` seconds.

    `launchers` false spares other submissions of the attempt: they wait for the claim that the caller holds.
    """

    def found() -> tuple[int, ...]:
        return tuple(pid for pid in marked(run, attempt) if launchers or LAUNCHER not in _words(pid))

    deadline = clock.now() + within_s
    wanted = f"{MARK}={mark(run, attempt)}".encode()
    left, clean = found(), 0
    # A process that forks while /proc is read can be missed once, but not by a second, complete reading.
    while clean < 2 and (not left or clock.now() < deadline):
        clean = 0 if left else clean + 1
        _kill(left, wanted, wait_s=max(0.0, min(1.0, deadline - clock.now())), clock=clock)
        left = found()
    return left


def _kill(pids: tuple[int, ...], wanted: bytes, *, wait_s: float, clock: Clock) -> None:
    handles = [handle for pid in pids if (handle := _handle(pid, wanted)) is not None]
    poll = select.poll()
    try:
        for handle in handles:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            poll.register(handle, select.POLLIN)
        waiting, until = len(handles), clock.now() + wait_s
        while waiting and (remaining_s := until - clock.now()) > 0:
            for handle, _ in poll.poll(remaining_s * 1000):
                poll.unregister(handle)
                waiting -= 1
    finally:
        for handle in handles:
            os.close(handle)


def _handle(pid: int, wanted: bytes) -> int | None:
    """A handle that cannot hit a process that took the number over: the mark is read after it is held."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return None
    if _holds(pid, wanted):
        return handle
    os.close(handle)
    return None


def ended(home: Path, run: str, attempt: int) -> bool:
    """The attempt was ended: nothing may be started for it any more."""
    return (attempt_folder(home, run, attempt) / "ended.json").exists()


def witnesses(home: Path, run: str, attempt: int, node: int) -> tuple[str, ...]:
    """Sentences that prove the agent of a node dead; empty when it lives, or when this host cannot know.

    Two senses that do not know of each other: the number under which the agent was recorded, and the mark in the
    environment of every process of the host.
    """
    host = os.uname().nodename
    known = _recorded(home, run, attempt, node)
    if known is None or known[0] != host:
        return ()
    why = why_dead(known[1].pid, known[1].started_at)
    # The cheap sense first: this is asked often while an agent is only unseen.
    if why is None or any(agent.node == node for agent in agents(run, attempt)):
        return ()
    return (why, f"no agent among the processes of {host} says {mark(run, attempt)}, node {node}")


def _recorded(home: Path, run: str, attempt: int, node: int) -> tuple[str, Process] | None:
    """Host and process of an agent, by the launcher's record; or by its own, when the launcher wrote none."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        record = read(home, run, attempt)
        found = [agent for agent in record.agents if agent.node == node] if record is not None else []
        if record is not None and found:
            return record.host, found[0]
    with suppress(OSError, ValueError, KeyError, TypeError):
        own = json.loads((attempt_folder(home, run, attempt) / f"node{node}" / "agent.json").read_text())
        return str(own["host"]), Process(node=node, pid=int(own["pid"]), started_at=float(own["started_at"]))
    return None

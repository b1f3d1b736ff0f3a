"""Would a run survive on this machine? One line per thing that must be right, and what repairs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from monitors.clock import SystemClock
from orchestrator.cli.outcome import Exit
from orchestrator.cli.runs import json_option, print_answer
from orchestrator.home import Home, HomeError, default

COLOURS = {"PASS": "green", "WARN": "yellow", "FAIL": "red"}
TORCH_OLDEST = (2, 11)
SHM_BYTES_LEAST = 1 << 30
"""Data loaders pass batches through it; the 64 MB of a container's default is the usual cause of bus errors."""
FREE_BYTES_LEAST = 10 << 30
"""A save must fit beside those that are kept."""
FREE_INODES_LEAST = 10_000
PROBE_BYTES = 64 << 20
WRITE_LEAST = 50e6
"""bytes per second: below it, saving a 1 GB shard takes longer than most runs want to wait between saves"""


CHILD_S = 60.0
"""for a process that imports torch or TorchX from a cold and busy file server"""


class Verdict(StrEnum):
    """What a line says."""

    PASS = "PASS"
    WARN = "WARN"
    """runs work, something is missing or slow"""
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line."""

    check: str
    verdict: Verdict
    found: str
    fix: str = ""


@click.command()
@click.option("--notify", is_flag=True, help="Send a test message through every channel of alerts, too.")
@json_option
def doctor(notify: bool, as_json: bool) -> int:
    """Check this machine: versions, GPUs, folders, clock, supervisor. Ends with 0, 1 for warnings, 2 for failures."""
    findings: list[Finding] = []
    for check in (*CHECKS, channels) if notify else CHECKS:
        for finding in check():
            findings.append(finding)
            if not as_json:
                _print(finding)
    if as_json:
        print_answer(findings=[asdict(finding) for finding in findings])
    verdicts = {finding.verdict for finding in findings}
    return Exit.USAGE if Verdict.FAIL in verdicts else Exit.TOOL if Verdict.WARN in verdicts else Exit.SUCCEEDED


def _print(finding: Finding) -> None:
    click.echo(f"{click.style(finding.verdict, fg=COLOURS[finding.verdict])}  {finding.check:14} {finding.found}")
    if finding.fix:
        click.echo(f"{'':6}{'':14} fix: {finding.fix}")


def _passed(check: str, found: str) -> Finding:
    return Finding(check=check, verdict=Verdict.PASS, found=found)


def _warned(check: str, found: str, fix: str) -> Finding:
    return Finding(check=check, verdict=Verdict.WARN, found=found, fix=fix)


def _failed(check: str, found: str, fix: str) -> Finding:
    return Finding(check=check, verdict=Verdict.FAIL, found=found, fix=fix)


def versions() -> Iterator[Finding]:
    """The packages that decide whether a run starts, without importing them."""
    import platform

    yield _passed("python", f"{platform.python_version()} on {platform.system()} {platform.release()}")
    torch = _version("torch")
    if torch is None:
        yield _failed("torch", "is not installed", "pip install torch")
    elif tuple(int(part) for part in torch.split("+")[0].split(".")[:2]) < TORCH_OLDEST:
        oldest = ".".join(map(str, TORCH_OLDEST))
        yield _warned(
            "torch", f"{torch} is older than {oldest}, which is what is tested", f"pip install 'torch>={oldest}'"
        )
    else:
        yield _passed("torch", torch)
    for package, need in (("torchx", _failed), ("wandb", _warned)):
        found = _version(package)
        yield _passed(package, found) if found else need(package, "is not installed", f"pip install {package}")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def senses() -> Iterator[Finding]:
    """What each sense sees; not seeing is said with what opens it, and is not the same as healthy."""
    from monitors.sense.station import Choice
    from orchestrator.cli.sensing import look

    for sight in look(Choice()):
        check = "GPUs" if sight.sense == "nvml" else f"sense {sight.sense}"
        yield _passed(check, sight.sees) if sight.sees else _warned(check, f"blind: {sight.why}", sight.fix)


def schedulers() -> Iterator[Finding]:
    """Whether TorchX can prepare an attempt for each scheduler that a spec may name, by the code that launches."""
    from typing import get_args

    from jobs import launch, registry
    from jobs.spec import Spec

    for name in get_args(Spec.model_fields["scheduler"].annotation):
        _, trouble = _asked(registry.LAUNCHER, launch.CHECK, name, str(default().root))
        if trouble:
            yield _failed("scheduler", f"{name}: {trouble}", "pip install --force-reinstall torchx, then this again")
        else:
            yield _passed("scheduler", f"{name}: TorchX can be asked for agents on this machine")


def nccl() -> Iterator[Finding]:
    """What ranks talk over, where GPUs are; without any they talk over gloo."""
    from orchestrator.cli.sensing import has_driver

    if not has_driver():
        return
    found, trouble = _asked("jobs.preflight_nccl")
    yield nccl_finding(json.loads(found)) if not trouble else _failed("NCCL", trouble, "pip install --upgrade torch")


def nccl_finding(found: dict[str, Any]) -> Finding:
    """What is to be said of the torch of a machine with GPUs."""
    if found["cuda"] is None:
        why = f"torch {found['torch']} is built without CUDA: ranks would leave the GPUs idle"
        return _failed("NCCL", why, "pip install --force-reinstall torch, without an index of CPU builds")
    if found["nccl"] is None:
        why = f"torch {found['torch']} is built without NCCL: several GPUs cannot train together"
        return _warned("NCCL", why, "pip install --force-reinstall torch, from PyPI or pytorch.org")
    return _passed("NCCL", f"{found['nccl']}, of torch for CUDA {found['cuda']}")


def _asked(module: str, *words: str) -> tuple[str, str]:
    """What a module prints in a process of its own, and why it failed; empty when it did not."""
    command = [sys.executable, "-P", "-m", module, *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_S, check=False)
    except subprocess.TimeoutExpired:
        return "", f"{module} says nothing within {CHILD_S:.0f} s"
    if done.returncode == 0:
        return done.stdout, ""
    return "", (done.stderr.strip().splitlines() or [f"{module} ended with status {done.returncode}"])[-1]


def channels() -> Iterator[Finding]:
    """Whether a test message arrives, in each channel of alerts; what `lastgood alerts test` sends."""
    from jobs.errors import SpecError
    from orchestrator.alerts import reading, trying
    from orchestrator.alerts.config import FILE_NAME

    path = default().root / FILE_NAME
    if not path.exists():
        yield _warned("alerts", "nobody is told when a run needs somebody", f"lastgood alerts init, then edit {path}")
        return
    try:
        loaded = reading.load(path, os.environ)
    except SpecError as error:
        yield _failed("alerts", str(error), f"edit {path}")
        return
    if not loaded.config.channels:
        yield _warned("alerts", f"{path} names no channel: nobody is told", "name one under `channels`")
    for one in trying.tried(loaded, list(loaded.config.channels), os.uname().nodename, SystemClock().now()):
        check = f"alerts {one.channel}"
        fix = f"edit {path}, then: lastgood alerts test {one.channel}"
        yield _failed(check, f"{one.kind}: {one.error}", fix) if one.error else _passed(check, f"{one.kind}: delivered")


def shared_memory() -> Iterator[Finding]:
    """Where the progress of ranks lies, and what data loaders use."""
    folder = Path("/dev/shm")
    if not os.access(folder, os.W_OK):
        yield _warned(
            "/dev/shm", "cannot be written: progress goes through the state folder", "mount a tmpfs at /dev/shm"
        )
        return
    total = shutil.disk_usage(folder).total
    found = f"{total / 1e9:.1f} GB"
    if total < SHM_BYTES_LEAST:
        yield _warned("/dev/shm", f"{found} is little for data loaders", "docker run --shm-size=8g, or --ipc=host")
    else:
        yield _passed("/dev/shm", found)


def state_folder() -> Iterator[Finding]:
    """Private, with room, and fast enough."""
    home = default()
    try:
        home.create()
    except HomeError as error:
        yield _failed("state folder", str(error), "set LASTGOOD_HOME to a folder of your own")
        return
    room = os.statvfs(home.root)
    free, inodes = room.f_bavail * room.f_frsize, room.f_favail
    found = f"{home.root}: {free / 1e9:.1f} GB and {inodes:,} inodes free"
    if free < FREE_BYTES_LEAST or (room.f_files and inodes < FREE_INODES_LEAST):
        yield _warned("state folder", found, "make room, or name another folder in checkpoint.folder of the spec")
    else:
        yield _passed("state folder", found)
    yield _write_speed(home)


def _write_speed(home: Home) -> Finding:
    """How fast bytes become durable: written and fsynced, as a checkpoint is."""
    block, now = os.urandom(1 << 20), SystemClock().now
    try:
        with tempfile.TemporaryFile(dir=home.root) as file:
            began = now()
            for _ in range(PROBE_BYTES // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            speed = PROBE_BYTES / max(1e-9, now() - began)
    except OSError as error:
        return _failed("write speed", f"{home.root}: {error.strerror}", "make room, or set LASTGOOD_HOME")
    found = f"{speed / 1e6:.0f} MB/s, durable"
    if speed < WRITE_LEAST:
        return _warned("write speed", found, "name a faster disk in checkpoint.folder of the spec")
    return _passed("write speed", found)


def clock() -> Iterator[Finding]:
    """Whether somebody keeps the clock right: times of several nodes are compared."""
    import ctypes

    # adjtimex(2) with modes 0 only reads; status bit 64 says that nobody disciplines the clock.
    timex = (ctypes.c_byte * 256)()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    status = ctypes.c_int.from_buffer(timex, 40).value
    if state < 0 or status & 64:
        yield _warned("clock", "is not synchronised", "run chrony or systemd-timesyncd on every node")
    else:
        yield _passed("clock", "synchronised")


def journal() -> Iterator[Finding]:
    """Whether what was decided can be read."""
    from orchestrator import contract
    from orchestrator.journal import JournalUnavailable

    try:
        found = contract.runs(default().root)["runs"]
    except JournalUnavailable as error:
        what, _, fix = str(error).rpartition(": ")
        yield _failed("journal", what, fix)
    else:
        yield _passed("journal", f"{len(found)} runs")


def supervisor() -> Iterator[Finding]:
    """Whether one runs, and of which version."""
    from orchestrator import client

    home = default()
    address = client.running(home)
    if address is None:
        yield _no_supervisor(home)
        return
    try:
        answer = client.ask(home.root, {"ask": "ping"}, start=False)
    except (client.NoSupervisor, HomeError) as error:
        yield _failed("supervisor", f"process {address.pid}: {error}", "lastgood serve --stop; lastgood serve -d")
        return
    ours = _version("lastgood")
    found = f"process {address.pid}, version {address.version}, {len(answer.get('runs', []))} runs"
    if address.version != ours:
        yield _warned("supervisor", f"{found}; this is {ours}", "lastgood serve --stop; lastgood serve -d")
    else:
        yield _passed("supervisor", found)


def _no_supervisor(home: Home) -> Finding:
    """Nobody watches: fine as long as there is nothing to watch."""
    from orchestrator import contract
    from orchestrator.journal import JournalUnavailable

    try:
        runs = contract.runs(home.root)["runs"]
    except JournalUnavailable:  # said in a line of its own
        runs = []
    alone = [run["run"] for run in runs if run["exit_code"] == contract.NOT_FINISHED]
    if alone:
        return _warned("supervisor", f"none runs, and nobody watches {', '.join(alone)}", "lastgood serve -d")
    return _passed("supervisor", "none runs; submitting a run starts one")


def stacks() -> Iterator[Finding]:
    """What can say where a hung rank stands."""
    if shutil.which("py-spy"):
        yield _passed("stacks", "py-spy, and faulthandler inside ranks that use the SDK")
    else:
        yield _passed("stacks", "faulthandler, inside ranks that use the SDK; py-spy (not installed) sees any rank")


def wandb() -> Iterator[Finding]:
    """Whether runs can be told to W&B: by whose key (never which), and whether the server answers."""
    from orchestrator import tracker_key

    url = tracker_key.server(None, os.environ)
    key, mode = tracker_key.found_in(url, os.environ), tracker_key.mode("auto", url, os.environ)
    if mode != "online":
        why = "no key" if not key else "WANDB_MODE says so"
        yield _passed("W&B", f"{mode}: {why}; `wandb login` and WANDB_MODE=online change it")
        return
    found = f"online, key in {key or 'no place known'}, {url}"
    if not key:
        yield _warned("W&B", found, "wandb login, or set WANDB_API_KEY before the supervisor starts")
    elif trouble := tracker_key.unreachable(url):
        yield _warned("W&B", f"{found} does not answer: {trouble}", "nothing is lost: rows wait, and are sent later")
    else:
        yield _passed("W&B", found)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    versions,
    schedulers,
    senses,
    nccl,
    shared_memory,
    state_folder,
    clock,
    journal,
    supervisor,
    stacks,
    wandb,
)

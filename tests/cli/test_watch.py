"""Watching a machine without a run: real senses, in a process as a person starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(sys.executable).parent / "lastgood"
XID = "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, name=python, GPU has fallen off the bus.\n"
WITHIN_S = 30.0


@contextmanager
def watching(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Start it, and end it whatever happens."""
    with subprocess.Popen(
        (str(SCRIPT), "watch", *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "NO_COLOR": "1"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(process: subprocess.Popen[str], word: str) -> list[str]:
    """Its lines up to the first with this word."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if word in line:
            return lines
    raise AssertionError(f"no {word!r} in {lines}")


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Ctrl-C: exit status and what stderr says."""
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    status = process.wait(WITHIN_S)
    return status, process.stderr.read()


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_line_of_the_kernel_is_one_line_and_ctrl_c_ends_everything(tmp_path: Path) -> None:
    log = tmp_path / "kernel.log"
    log.touch()
    with watching("--kernel", str(log), "--every", "1") as process:
        until(process, "memory left")
        with log.open("a") as file:
            file.write(XID)
        line = until(process, "gpu_lost")[-1]
        assert "0000:3b:00" in line
        assert "reboot node" in line
        below = children(process.pid)
        assert interrupted(process) == (0, "")
    deadline = time.monotonic() + WITHIN_S
    while any(map(runs, below)):
        assert time.monotonic() < deadline, below
        time.sleep(0.05)


def test_an_incident_stands_out_and_says_why(tmp_path: Path) -> None:
    log = tmp_path / "kernel.log"
    log.touch()
    with watching("--kernel", str(log)) as process:
        until(process, "memory left")
        with log.open("a") as file:
            file.write("EXT4-fs (nvme0n1p2): Remounting filesystem read-only\n")
        assert "node 0" in until(process, "STORAGE_FAULT")[-1]
        assert "nvme0n1p2" in until(process, "Remounting")[-1]
        assert interrupted(process) == (0, "")


def test_json_is_signals_a_line_each(tmp_path: Path) -> None:
    log = tmp_path / "kernel.log"
    log.write_text("")
    with watching("--json", "--kernel", str(log)) as process:
        until(process, "HostLooked")
        with log.open("a") as file:
            file.write(XID)
        lines: list[dict[str, Any]] = [json.loads(line) for line in until(process, "KernelSaw")]
        assert lines[-1]["xid"] == 79
        assert {line["is"] for line in lines} <= {"Blind", "HostLooked", "GpuLooked", "KernelSaw", "Incident"}
        assert interrupted(process) == (0, "")


@pytest.mark.long
def test_every_thins_out_looks(tmp_path: Path) -> None:
    log = tmp_path / "kernel.log"
    log.write_text("")
    with watching("--json", "--every", "3600", "--kernel", str(log)) as process:
        until(process, "HostLooked")
        # Its host is looked at every 5 s, the kernel "sees" after 5 s: nothing else comes in between.
        rest = until(process, '"kernel"')
        assert not any("HostLooked" in line for line in rest)


@pytest.mark.parametrize("words", ["", "--json"])
def test_a_reader_that_leaves_is_no_error(words: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{SCRIPT} watch {words} --every 0 --kernel off | head -n 1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "0", done
    assert done.stderr == ""


def test_no_torch_is_needed() -> None:
    program = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchx", "numpy", "jobs", "wandb", "rich"}:
            raise ImportError(f"{name} is not installed")
sys.meta_path.insert(0, Refuse())
from orchestrator.cli import main
sys.argv = ["lastgood", "watch", "--json"]
main()
"""
    with subprocess.Popen([sys.executable, "-P", "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            until(process, "HostLooked")
        finally:
            process.kill()


def test_what_is_no_number_of_seconds_is_refused() -> None:
    done = subprocess.run([SCRIPT, "watch", "--every", "-1"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")

"""What memory does each process of a supervised run hold? `python -m tests.bench processes`

Own: pages that no other process has (a fork shares those of the zygote until either writes to them).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from tests.e2e.lab import Lab, gpt

STEPS = 300
READY_STEP = 60
"""by then the processes that wait to be ranks have learned what they can"""
ROLES = {
    "nvml_child": "senses, for NVML",
    "host_reader": "senses, for files",
    "monitors.sense": "senses",
    "orchestrator.serve": "supervisor",
    "jobs.agent": "agent",
    "jobs.keeper": "keeper of copies",
}
MIB = 1 << 20


def main() -> None:
    """Of a run with two ranks on one node."""
    with tempfile.TemporaryDirectory(prefix="lastgood-bench-") as folder:
        lab = Lab(Path(folder))
        try:
            lab.reach(lab.submit(gpt(lab.folder, "--step-s", "0.1", steps=STEPS)), READY_STEP)
            _tell(folder)
        finally:
            lab.close()


def _tell(folder: str) -> None:
    zygotes = 0
    for process in _of(folder):
        role = _role(process)
        if role == "zygote":
            zygotes += 1
            role = "zygote" if zygotes == 1 else "waits to be a rank"
        held = process.memory_full_info()
        print(f"{role:20} own {held.uss / MIB:6.1f} MiB, resident {held.rss / MIB:6.1f} MiB")


def _of(folder: str) -> Iterator[psutil.Process]:
    """Processes of the runs in a folder, the oldest first."""
    for process in sorted(psutil.process_iter(), key=lambda one: one.create_time()):
        with suppress(psutil.Error):
            if folder in " ".join(process.cmdline()) or process.environ().get("LASTGOOD_HOME", "").startswith(folder):
                yield process


def _role(process: psutil.Process) -> str:
    line = " ".join(process.cmdline())
    if process.name().startswith("lastgood-"):
        return process.name().removeprefix("lastgood-")
    if "lastgood.zygote" in line:
        return "rank" if process.environ()["LASTGOOD_WORLD"].strip("-") else "zygote"
    return next((role for word, role in ROLES.items() if word in line), "another")

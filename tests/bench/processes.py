"""What memory does each process of a supervised run hold? `python -m tests.bench processes`

Own: pages that no other process has (a fork shares those of the zygote until either writes to them).
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from tests.bench import figures
from tests.e2e.lab import Lab, gpt

STEPS = 300
READY_STEP = 60
"""by then the processes that wait to be ranks have learned what they can"""
SENSES, KEEPER, SPARE = "senses", "keeper of copies", "waits to be a rank"
ROLES = {
    "nvml_child": f"{SENSES}, for NVML",
    "host_reader": f"{SENSES}, for files",
    "monitors.sense": SENSES,
    "orchestrator.serve": "supervisor",
    "jobs.agent": "agent",
    "jobs.keeper": KEEPER,
}
MOST_MIB = {KEEPER: 15.0, SENSES: 72.0, SPARE: 120.0}
"""of its own, the largest of each; all senses of a node together. What ARCHITECTURE.md says (12, 60, 100) and a fifth
more, for another Python or another torch"""
MIB = 1 << 20


def main() -> bool:
    """Of a run with two ranks on one node; whether each holds as little as it should."""
    with tempfile.TemporaryDirectory(prefix="lastgood-bench-") as folder:
        lab = Lab(Path(folder))
        try:
            lab.reach(lab.submit(gpt(lab.folder, "--step-s", "0.1", steps=STEPS)), READY_STEP)
            missed = figures.above(_told(folder), MOST_MIB, " MiB of its own")
        finally:
            lab.close()
    print(figures.verdict(missed))
    return not missed


def _told(folder: str) -> Mapping[str, float]:
    """Print what each holds; role to MiB of its own, as it is judged."""
    zygotes, most = 0, defaultdict[str, float](float)
    for process in _of(folder):
        role = _role(process)
        if role == "zygote":
            zygotes += 1
            role = "zygote" if zygotes == 1 else SPARE
        held = process.memory_full_info()
        print(f"{role:20} own {held.uss / MIB:6.1f} MiB, resident {held.rss / MIB:6.1f} MiB")
        if role.startswith(SENSES):
            most[SENSES] += held.uss / MIB
        else:
            most[role] = max(most[role], held.uss / MIB)
    return most


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

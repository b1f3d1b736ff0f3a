"""Do the joules that GPUs count reach the ledger, though the supervisor dies meanwhile?"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from lab import Lab

from monitors.fakenvml.build import compiler
from monitors.fakenvml.control import ALL, FakeNvml
from orchestrator import contract

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(compiler() is None, reason="needs a C compiler: install gcc"),
]

PROGRAM = """
step=0
while [ ! -e {folder}/enough ]; do
    step=$((step + 1))
    echo "step $step loss 1.5"
    sleep 0.05
done
"""
WATTS = 400.0
"""of each GPU, all the time: so the joules are those of the GPU-seconds that were read"""


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Two GPUs that are made up, for whatever is started from here."""
    fake = FakeNvml(tmp_path / "gpus", gpus=2)
    fake.set(ALL, "power_mw", WATTS * 1000)
    for name, value in fake.environment.items():
        monkeypatch.setenv(name, value)
    return fake


@pytest.mark.long
def test_joules_go_on_being_counted_when_the_supervisor_dies(lab: Lab, gpus: FakeNvml) -> None:  # noqa: ARG001
    run = lab.submit(
        ["bash", "-c", PROGRAM.format(folder=lab.folder)],
        python=False,
        progress={"pattern": r"step (?P<step>\d+) loss (?P<loss>[\d.]+)"},
        senses={"kernel": "off", "host": "off"},
    )
    lab.wait(run, lambda _: contract.ledger(lab.home, run)["energy_per_step_j"] is not None, within_s=30)
    before, pid = contract.ledger(lab.home, run)["energy_j"], lab.supervisor_pid()
    os.kill(pid, signal.SIGKILL)
    lab.wait(run, lambda _: contract.ledger(lab.home, run)["energy_j"] > before + 1000.0, within_s=30)
    assert lab.supervisor_pid() != pid
    (lab.folder / "enough").touch()
    lab.finish(run)
    books = contract.ledger(lab.home, run)
    assert books["energy_j"] > before + 1000.0
    read_s = books["energy_known_share"] * books["gpu_hours"] * 3600
    assert books["energy_known_share"] > 0.5, books
    assert books["energy_j"] == pytest.approx(WATTS * read_s, rel=0.05), books
    assert books["energy_per_step_j"] > 0.95 * 2 * WATTS * 0.05, "a step is never shorter than its sleep"
    assert books["energy_lost_j"] == 0.0

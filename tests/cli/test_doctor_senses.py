"""What the doctor says of the senses: on, or blind with the command that opens them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monitors.fakenvml.build import compiler
from monitors.fakenvml.control import FakeNvml
from monitors.sense.station import Choice
from orchestrator.cli.sensing import look
from tests.cli.conftest import Say
from tests.cli.test_front import SCRIPT, run


def test_every_sense_is_shown(say: Say) -> None:
    findings = {one["check"]: one for one in json.loads(say("doctor", "--json").stdout)["findings"]}
    assert {"GPUs", "sense kernel", "sense host"} <= findings.keys()
    assert findings["sense host"]["verdict"] == "PASS"
    assert "memory left" in findings["sense host"]["found"]


def test_a_blind_sense_names_why_and_the_command_that_opens_it(tmp_path: Path) -> None:
    (kernel,) = look(Choice(nvml=False, host=False, kernel=str(tmp_path / "none")))
    assert (kernel.sense, kernel.sees) == ("kernel", "")
    assert "No such file" in kernel.why
    assert "sudo usermod -aG systemd-journal" in kernel.fix
    assert kernel.fix not in kernel.why


@pytest.mark.skipif(compiler() is None, reason="no C compiler")
def test_gpus_that_are_there_are_counted(tmp_path: Path) -> None:
    fake = FakeNvml(tmp_path / "gpus", gpus=2)
    done = run(str(SCRIPT), "doctor", "--json", LASTGOOD_HOME=str(tmp_path / "home"), **fake.environment)
    findings = {one["check"]: one for one in json.loads(done.stdout)["findings"]}
    assert findings["GPUs"]["found"].startswith("2 GPUs: ")
    assert findings["sense nvml_events"]["verdict"] == "PASS"

"""Does `lastgood submit --probe` tell what comes back from what does not, and leave nothing that goes on?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, gpt

from orchestrator import contract
from orchestrator.alerts.outbox import FILE_NAME, Kept, Outbox
from orchestrator.comeback import SAVE_EVERY_STEPS
from tests.story.test_contract import Reader

pytestmark = [pytest.mark.e2e]
SCRIPT = str(Path(sys.executable).parent / "lastgood")
WITHIN_S = 240.0
PATTERN = r"step (?P<step>\d+)"
TICKS = """
for step in range(1, 100000):
    print(f"step {step}", flush=True)
    time.sleep(0.05)
"""
ONCE = f"""import pathlib, time
begun = pathlib.Path("begun")
if begun.exists():
    raise ValueError("cannot begin twice")
begun.touch()
{TICKS}"""

Probe = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def probe(lab: Lab) -> Iterator[Probe]:
    """Start a probe of a spec; when all are over no run goes on."""

    def started(command: list[str], *words: str, **spec: Any) -> subprocess.Popen[str]:
        path = lab.folder / "mine.yaml"
        path.write_text(json.dumps({"name": "mine", "command": command, "env": {"OMP_NUM_THREADS": "1"}, **spec}))
        return subprocess.Popen(
            [SCRIPT, "submit", str(path), "--probe", *words],
            env={**os.environ, "LASTGOOD_HOME": str(lab.home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    yield started
    states = [run["state"] for run in contract.runs(lab.home)["runs"]]
    assert states == ["STOPPED"]


def messages(lab: Lab, run: str) -> list[Kept]:
    """What people are told, once whoever tells them has read to the end of the run."""
    last = contract.events(lab.home, run)["events"][-1]["id"]
    deadline = time.monotonic() + WITHIN_S
    while True:
        with Outbox(lab.home / FILE_NAME) as outbox:
            desk = outbox.desk()
            if desk is not None and desk[1] >= last:
                return outbox.newest(10)
        assert time.monotonic() < deadline, "nobody reads the journal for alerts"
        time.sleep(0.1)


def script(lab: Lab, text: str) -> list[str]:
    """A training script, as a command."""
    (lab.folder / "train.py").write_text(text)
    return ["train.py"]


@pytest.mark.long
def test_a_run_that_comes_back_passes_and_its_own_checkpoints_are_left_alone(lab: Lab, probe: Probe) -> None:
    own = lab.folder / "own"
    checkpoint = {"folder": str(own), "every_steps": 1000}
    began = probe(gpt(lab.folder, steps=5000), "--json", ranks_per_node=2, checkpoint=checkpoint)
    out, told = began.communicate(timeout=WITHIN_S)
    assert began.returncode == 0, told
    answer = json.loads(out)
    Reader().read("Probed", answer)
    assert (answer["passed"], answer["uses_sdk"], answer["unjudged"]) == (True, True, [])
    assert answer["restored"]
    assert answer["steps_lost"] <= SAVE_EVERY_STEPS + 5  # the save, or copy, before the newest may be the one taken
    assert all(answer["phases_s"][phase] is not None for phase in ("detect", "stop", "start", "restore", "first_step"))
    assert answer["run"].startswith("mine-probe-")
    assert lab.kinds(answer["run"]) == ["worker_killed"]
    assert not own.exists(), "the folder of the user's checkpoints is not the probe's"
    assert all(Path(one["path"]).is_relative_to(lab.home) for one in lab.checkpoints(answer["run"]))


def test_a_script_that_cannot_begin_twice_fails_with_the_reason_and_wakes_nobody(lab: Lab, probe: Probe) -> None:
    lab.home.mkdir(mode=0o700)
    alerts = lab.home / "alerts.yaml"
    alerts.write_text("channels: {all: {webhook: {url: 'http://127.0.0.1:9'}}}\ngroup: {wait: 0s}\n")
    alerts.chmod(0o600)
    began = probe(script(lab, ONCE), progress={"pattern": PATTERN})
    out, told = began.communicate(timeout=WITHIN_S)
    (run,) = contract.runs(lab.home)["runs"]
    assert messages(lab, run["run"]) == []
    assert began.returncode == 100, told
    assert out.startswith("FAIL  mine-probe-")
    assert "it was given up, after the fault: crash_loop" in out
    assert "cannot begin twice" in out
    assert "--rank culprit" in out


@pytest.mark.long
def test_a_script_without_the_sdk_passes_and_what_was_not_seen_is_said(lab: Lab, probe: Probe) -> None:
    began = probe(script(lab, f"import time\n{TICKS}"), progress={"pattern": PATTERN})
    out, told = began.communicate(timeout=WITHIN_S)
    assert began.returncode == 0, told
    assert out.startswith("PASS  mine-probe-")
    assert "not judged: whether its state came back" in out


@pytest.mark.long
def test_what_never_trains_fails_in_time_and_says_what_it_waited_for(lab: Lab, probe: Probe) -> None:
    began = probe(script(lab, "import time\ntime.sleep(600)\n"), "--probe-timeout", "3s")
    out, told = began.communicate(timeout=WITHIN_S)
    assert began.returncode == 100, told
    assert "not within 3.00 s (--probe-timeout): it waited for a first step" in out


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_a_probe_that_is_interrupted_stops_its_run(lab: Lab, probe: Probe, number: signal.Signals) -> None:
    began = probe(script(lab, "import time\ntime.sleep(600)\n"))
    deadline = time.monotonic() + WITHIN_S
    while not [run for run in contract.runs(lab.home)["runs"] if run["state"] == "STARTING"]:
        assert time.monotonic() < deadline, "nothing starts"
        time.sleep(0.05)
    began.send_signal(number)
    began.communicate(timeout=WITHIN_S)
    assert began.returncode == 130

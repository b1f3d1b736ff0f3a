"""The drills of runbooks that no single injected fault plays: slow starts, refusals, silence, drift, full disks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from lab import Lab

from jobs import registry
from lastgood import manifest
from orchestrator import contract
from orchestrator.home import Home
from orchestrator.replay import replay
from tests.story.test_contract import Reader

pytestmark = [pytest.mark.e2e]

SCRIPT = """
import os, sys, time
from pathlib import Path
import torch
import lastgood

def train(run):
    model = torch.nn.Linear({width}, {width})
    for step in run.steps({{"model": model}}, until={until}):
        time.sleep({step_s})
        with torch.no_grad():
            model.weight.fill_(step)
        run.report(loss={loss})

lastgood.main(train)
"""
"""One layer that holds the number of its step, and a loss that is written down instead of computed."""
FALLING = "3.0 - 0.002 * step + 0.01 * (step * 7919 % 13 - 6) / 6"


def script(
    lab: Lab, *, until: int, loss: str = FALLING, step_s: float = 0.02, width: int = 4, name: str = "tiny.py"
) -> list[str]:
    """The command of a run that needs next to nothing."""
    path = lab.folder / name
    path.write_text(SCRIPT.format(until=until, loss=loss, step_s=step_s, width=width))
    return [str(path)]


Told = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def told(lab: Lab) -> Told:
    """What the hook of this home was told until now."""
    Home(lab.home).create()
    said, hook = lab.folder / "said", lab.home / "on-alert"
    hook.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$(cat)\" >> {said}\n")
    hook.chmod(0o700)
    return lambda: [json.loads(line) for line in said.read_text().splitlines()] if said.exists() else []


@pytest.fixture(autouse=True)
def books(lab: Lab) -> Iterator[None]:
    """Whatever was done to a run: its ledger balances, its journal replays, and its JSON has every field."""
    yield
    for status in contract.runs(lab.home)["runs"]:
        check(lab, status["run"])


def check(lab: Lab, run: str) -> None:
    """The journal of a run agrees with itself."""
    ledger = contract.ledger(lab.home, run)
    assert round(sum(ledger["buckets"].values()), 3) == ledger["wall_s"], ledger
    again = replay(lab.home, run, None)
    assert again["different"] == [], json.dumps(again["different"][:3], indent=1)
    status = lab.status(run)
    if status["state"] == "SUCCEEDED":
        assert ledger["wall_s"] == pytest.approx(status["ended_at"] - status["submitted_at"], abs=0.002)
        assert again["end"]["reason"] == status["reason"]
    reader = Reader()
    status.pop("schema")
    reader.read("Status", status)
    reader.read("Incidents", contract.incidents(lab.home, run))
    reader.read("Checkpoints", contract.checkpoints(lab.home, run))
    reader.read("Ledger", ledger)
    reader.read("Story", contract.story(lab.home, run))
    reader.read("Events", contract.events(lab.home, run))
    for incident in lab.incidents(run):
        assert incident["blame"], incident
        assert incident["evidence"], incident
        assert incident["onset"] <= incident["detected"], incident


def worker(lab: Lab, run: str, rank: int, world: int = 1) -> int:
    """Process number of a rank, from what its agent wrote."""
    log = next((lab.home / "runs" / run / "attempts").glob("*/node0/agent.log")).read_text()
    return int(re.findall(rf"world {world}: rank {rank} is process (\d+)", log)[-1])


def has_worker(lab: Lab, run: str, rank: int, world: int = 1) -> bool:
    """The process of a rank is there."""
    logs = (lab.home / "runs" / run / "attempts").glob("*/node0/agent.log")
    return any(f"world {world}: rank {rank} is process" in log.read_text() for log in logs)


def test_a_rank_that_is_stopped_before_its_first_step_is_started_anew(lab: Lab) -> None:
    command = script(lab, until=20)
    text = (lab.folder / "tiny.py").read_text()
    # Forked ranks are at their first step at once: one that takes its time can be stopped before.
    (lab.folder / "tiny.py").write_text(text.replace("    model =", "    time.sleep(2)\n    model =", 1))
    run = lab.submit(command, ranks_per_node=1, detect={"hang": {"start_s": 10.0}})
    # Ranks are forked some seconds after their world was ordered: once the imports are done.
    lab.wait(run, lambda _: has_worker(lab, run, 0))
    lab.drill(run, "stop", 0)
    lab.finish(run)
    stalled = lab.incidents(run)[0]
    assert (stalled["kind"], stalled["response"], stalled["drill"]) == ("start_stalled", "restart", "stop")
    assert stalled["subject"] == {"node": 0, "rank": 0, "device": None}, stalled["evidence"]
    assert 10.0 < stalled["phases_s"]["detect"] < 14.0, stalled
    assert lab.status(run)["restarts"] >= 1


@pytest.mark.long
def test_a_refused_launch_is_tried_again(lab: Lab) -> None:
    run = lab.submit(script(lab, until=150), ranks_per_node=1)
    lab.reach(run, 20)
    (lab.home / "runs" / run / "attempts" / "002").touch()
    lab.drill(run, "agent")
    status = lab.finish(run)
    assert lab.kinds(run) == ["agent_lost", "launch_failed"], lab.told(run)
    assert status["attempt"] == 3
    refused = lab.concluded(run)[1]
    assert "002" in refused["evidence"][0]
    assert refused["resumed_from_step"] > 0


def test_a_stopped_agent_is_told_and_nothing_is_ended(lab: Lab, told: Told) -> None:
    run = lab.submit(script(lab, until=250), ranks_per_node=1, detect={"unseen_s": 2.0})
    lab.reach(run, 20)
    agent = int(json.loads((lab.home / "runs" / run / "attempts" / "001" / "node0" / "agent.json").read_text())["pid"])
    rank = worker(lab, run, 0)
    os.kill(agent, signal.SIGSTOP)
    try:
        lab.wait(run, lambda s: bool(s["open_incidents"]), within_s=20)
        at = lab.status(run)["step"]
        assert registry.alive(rank, registry.started_at(rank) or 0.0), "a rank was ended"
    finally:
        os.kill(agent, signal.SIGCONT)
    lab.wait(run, lambda s: not s["open_incidents"] and s["step"] > at)
    status = lab.finish(run)
    assert lab.kinds(run) == ["node_unseen"], lab.told(run)
    assert (status["attempt"], status["world"], status["restarts"]) == (1, 1, 0)
    unseen = lab.concluded(run)[0]
    assert (unseen["subject"]["node"], unseen["response"], unseen["actions"]) == (0, "observe", [])
    assert [(page["incident"], page["page"]) for page in told()] == [(unseen["id"], False)]
    assert [row.step for row in lab.rows(run)] == list(range(1, 251)), "steps were not reported later"


@pytest.mark.long
def test_a_loss_that_drifts_up_again_after_a_rewind_holds_the_run(lab: Lab, told: Told) -> None:
    drifting = "2.0 + 0.01 * (step * 7919 % 13 - 6) / 6 + max(0, step - 200) / 400"
    checkpoint = {"every_steps": 20, "probation_steps": 40, "keep": 3}
    run = lab.submit(script(lab, until=5000, loss=drifting, step_s=0.004), ranks_per_node=1, checkpoint=checkpoint)
    status = lab.wait(run, lambda s: bool(s["state"] == "HELD"))
    assert lab.kinds(run) == ["loss_divergence", "loss_divergence"], lab.told(run)
    assert (status["exit_code"], status["cause"], status["restarts"]) == (106, "loss_divergence", 1)
    first, second = lab.concluded(run)
    assert (first["response"], second["response"]) == ("rewind_skip", "hold")
    assert 200 < first["onset_step"] < first["step"] < 400
    assert 0 < first["resumed_from_step"] < first["onset_step"]
    assert lab.skips(run)[0][0] < first["step"] <= lab.skips(run)[0][1]
    pages = [page for page in told() if page["page"]]
    assert [page["incident"] for page in pages] == [second["id"]]
    assert pages[0]["severity"] == "critical"


def test_a_loss_that_jumps_and_recovers_is_only_noted(lab: Lab, told: Told) -> None:
    jumping = f"9.0 if 150 <= step <= 152 else {FALLING}"
    run = lab.submit(script(lab, until=300, loss=jumping, step_s=0.004), ranks_per_node=1)
    status = lab.finish(run)
    assert lab.kinds(run) == ["loss_transient"], lab.told(run)
    assert (status["world"], status["restarts"], status["open_incidents"]) == (1, 0, [])
    noted = lab.concluded(run)[0]
    assert (noted["onset_step"], noted["response"], noted["actions"]) == (150, "observe", [])
    assert noted["resolved"] is not None
    assert told() == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs root and the right to mount")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all the space that is left."""
    file = disk / "filler"
    with file.open("wb", buffering=0) as filling, suppress(OSError):
        while True:
            filling.write(bytes(4096))
    return file


def test_a_full_disk_costs_no_step_and_ends_when_there_is_room(lab: Lab, told: Told, small_disk: Path) -> None:
    folder = small_disk / "checkpoints"
    checkpoint = {"every_steps": 20, "probation_steps": 30, "keep": 2, "folder": str(folder)}
    run = lab.submit(script(lab, until=400, width=100), ranks_per_node=1, checkpoint=checkpoint)
    lab.reach(run, 30)
    filler = fill(small_disk)
    lab.wait(run, lambda _: lab.kinds(run) == ["save_failed"])
    at = lab.status(run)["step"]
    lab.wait(run, lambda s: s["step"] > at + 30)
    full = lab.concluded(run)[0]
    assert (full["resolved"], full["response"], full["blame"]) == (None, "observe", "storage")
    assert "no space left" in " ".join(full["evidence"]).lower()
    whole = [str(name) for name in manifest.names(str(folder))]
    for name in whole:
        manifest.verify(str(folder / name))
    assert set(whole) <= {c["name"] for c in lab.checkpoints(run)}, "a checkpoint that nobody knows of"
    filler.unlink()
    status = lab.finish(run)
    assert (status["restarts"], status["open_incidents"], lab.kinds(run)) == (0, [], ["save_failed"])
    assert lab.concluded(run)[0]["resolved"] is not None
    assert [(page["incident"], page["page"]) for page in told()] == [("i1", True)]
    newest = manifest.names(str(folder))[-1]
    assert newest.step == 400
    manifest.verify(str(folder / str(newest)))
    assert [path.name for path in folder.iterdir() if manifest.parse_name(path.name) is None] == []


PROGRAM = """
for step in $(seq 1 60); do
    {says}
    sleep 0.05
    if [ $step = 30 ] && [ ! -e hung ]; then touch hung; sleep 600; fi
done
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("says", "spec", "step"),
    [
        pytest.param(
            'echo "step $step loss 2.$((99 - step))"',
            {"progress": {"pattern": r"step (?P<step>\d+) loss (?P<loss>\S+)"}},
            60,
            id="with a pattern",
        ),
        pytest.param('echo "working"', {"detect": {"hang": {"unlearned_s": 2.0}}}, 0, id="with nothing but output"),
    ],
)
def test_a_program_that_falls_silent_is_started_anew(lab: Lab, says: str, spec: dict[str, Any], step: int) -> None:
    run = lab.submit(["bash", "-c", PROGRAM.format(says=says)], python=False, ranks_per_node=1, **spec)
    status = lab.finish(run)
    assert lab.kinds(run) == ["hang"], lab.told(run)
    assert (status["step"], status["restarts"]) == (step, 1)
    hang = lab.concluded(run)[0]
    assert (hang["subject"]["rank"], hang["response"]) == (0, "restart")
    assert 1.0 <= hang["phases_s"]["detect"] < 5.0
    assert hang["resolved"] is not None

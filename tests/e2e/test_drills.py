"""The drills of runbooks that no single injected fault plays: slow starts, refusals, silence, drift, full disks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lab import Lab

from orchestrator import contract
from orchestrator.contract import NOT_FINISHED
from orchestrator.home import Home
from orchestrator.replay import replay

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]

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


@pytest.fixture
def pages(lab: Lab) -> Callable[[], list[dict[str, Any]]]:
    """What the hook of this home was told until now."""
    Home(lab.home).create()
    told, hook = lab.folder / "told", lab.home / "on-alert"
    hook.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$(cat)\" >> {told}\n")
    hook.chmod(0o700)
    return lambda: [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []


@pytest.fixture(autouse=True)
def books(lab: Lab) -> Iterator[None]:
    """Whatever was done to a run: its ledger balances, its journal replays, and its JSON has every field."""
    yield
    with contract._opened(lab.home) as journal:
        runs = [submission.run for submission in journal.runs()]
    for run in runs:
        check(lab, run)


def check(lab: Lab, run: str) -> None:
    """The journal of a run agrees with itself."""
    ledger = contract.ledger(lab.home, run)
    assert round(sum(ledger["buckets"].values()), 3) == round(ledger["wall_s"], 3), ledger
    again = replay(lab.home, run, None)
    assert again["different"] == [], json.dumps(again["different"][:3], indent=1)
    status = lab.status(run)
    if status["exit_code"] != NOT_FINISHED:
        assert round(ledger["wall_s"], 3) == round(status["ended_at"] - status["submitted_at"], 3)
        assert again["end"]["reason"] == status["reason"]
    for incident in lab.incidents(run):
        assert incident["blame"], incident
        assert incident["evidence"], incident
        assert incident["onset"] <= incident["detected"], incident


def kinds(lab: Lab, run: str) -> list[str]:
    """What was concluded, in order."""
    return [incident["kind"] for incident in lab.incidents(run)]


def worker(lab: Lab, run: str, rank: int, world: int = 1) -> int:
    """Process number of a rank, from what its agent wrote."""
    log = next((lab.home / "runs" / run / "attempts").glob("*/node0/agent.log")).read_text()
    return int(re.findall(rf"world {world}: rank {rank} is process (\d+)", log)[-1])


def test_a_rank_that_is_stopped_before_its_first_step_is_started_anew(lab: Lab) -> None:
    run = lab.submit(script(lab, until=20), ranks_per_node=1, detect={"hang": {"start_s": 8.0}})
    lab.wait(run, lambda s: bool(s["state"] == "STARTING"))
    lab.drill(run, "stop", 0)
    lab.finish(run)
    stalled = lab.incidents(run)[0]
    assert (stalled["kind"], stalled["response"], stalled["drill"]) == ("start_stalled", "restart", "stop")
    assert stalled["subject"] == {"node": 0, "rank": 0, "device": None}, stalled["evidence"]
    assert 8.0 < stalled["phases_s"]["detect"] < 12.0
    assert lab.status(run)["restarts"] >= 1


def test_a_refused_launch_is_tried_again(lab: Lab) -> None:
    run = lab.submit(script(lab, until=150), ranks_per_node=1)
    lab.reach(run, 20)
    (lab.home / "runs" / run / "attempts" / "002").touch()
    lab.drill(run, "agent")
    status = lab.finish(run)
    assert kinds(lab, run) == ["agent_lost", "launch_failed"], lab.told(run)
    assert status["attempt"] == 3
    refused = lab.incidents(run)[1]
    assert "002" in refused["evidence"][0]
    assert refused["resumed_from_step"] > 0

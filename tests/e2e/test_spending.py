"""Does a real run save and stop when its budget is spent, go on with more, and keep to a power budget?"""

from __future__ import annotations

import time

import pytest
from lab import Lab, gpt

from monitors.fakenvml.build import compiler
from monitors.fakenvml.control import NO_PERMISSION, FakeNvml
from monitors.incidents import Kind
from orchestrator import contract
from orchestrator.client import ask
from orchestrator.core import events as e
from orchestrator.home import Home
from orchestrator.journal import Journal

pytestmark = [pytest.mark.e2e]

STEPS = 160
"""8 s on an idle machine, and enough for what is asked meanwhile on a busy one"""
WITHIN_S = 600.0
PRICES = {"currency": "EUR", "gpu_hour": 2.0}
SET = "nvmlDeviceSetPowerManagementLimit"


def asked(lab: Lab, **request: object) -> None:
    answer = ask(lab.home, dict(request), start=True)
    assert answer["ok"], answer


@pytest.mark.long
def test_a_run_whose_budget_is_spent_saves_is_held_and_goes_on_with_more(lab: Lab) -> None:
    run = lab.submit(gpt(lab.folder, "--step-s", "0.05", steps=STEPS), cost=PRICES)
    status = lab.reach(run, 20)
    assert status["target_step"] == STEPS
    spent = contract.ledger(lab.home, run)["cost"]["money"]
    asked(lab, ask="budget", run=run, limits={"money": spent + 2.0 * 2 * 3.0 / 3600})  # three more seconds of two ranks
    held = lab.wait(run, lambda status: status["state"] == "HELD")
    assert (held["cause"], held["exit_code"]) == ("budget_spent", 104)
    assert 0 < held["step"] < STEPS
    assert lab.checkpoints(run)[-1]["step"] == held["best_step"], "it saved before it ended"
    use = held["budget"][0]
    assert use["spent"] <= use["limit"] + 2.0 * 2 * 60.0 / 3600, "over by no more than the last save may take"
    refused = ask(lab.home, {"ask": "resume", "run": run}, start=True)
    assert (refused["ok"], "is spent" in refused["error"]) == (False, True)
    asked(lab, ask="budget", run=run, limits={"money": 100.0})
    asked(lab, ask="resume", run=run)
    done = lab.finish(run, within_s=WITHIN_S)
    assert done["step"] == STEPS
    assert done["budget"][0]["spent"] == pytest.approx(contract.ledger(lab.home, run)["cost"]["money"], rel=1e-3)


@pytest.mark.long
@pytest.mark.skipif(compiler() is None, reason="needs a C compiler")
@pytest.mark.parametrize("has_right", [True, False])
def test_a_power_budget_limits_the_gpus_or_pauses_the_run(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, has_right: bool
) -> None:
    fake = FakeNvml(lab.folder / "nvml", gpus=2)
    for name, value in fake.environment.items():
        monkeypatch.setenv(name, value)
    if not has_right:
        fake.fail(None, NO_PERMISSION, SET)
    run = lab.submit(
        gpt(lab.folder, "--step-s", "0.05", steps=STEPS), senses={"nvml": "auto", "kernel": "off", "host": "off"}
    )
    lab.reach(run, 10)
    asked(lab, ask="power", run=run, watts=800.0)
    if has_right:
        lab.wait(run, lambda status: bool(status["power"]["limited"]))
        assert [fake.limit_w(gpu) for gpu in (0, 1)] == [400.0, 400.0]
        asked(lab, ask="power", run=run, watts=600.0)
        lab.wait(run, lambda status: status["power"]["may_draw_w"] == 600.0)
    else:
        paused = lab.wait(run, lambda status: status["state"] == "PAUSED")
        assert paused["paused_by"] == "the power budget"
        assert "1400 W of 800 W" in paused["reason"]
        asked(lab, ask="power", run=run, watts=1500.0)
    lab.finish(run, within_s=WITHIN_S)
    end = time.monotonic() + 30.0
    while has_right and [fake.limit_w(gpu) for gpu in (0, 1)] != [700.0, 700.0]:
        assert time.monotonic() < end, "the limits were not put back"
        time.sleep(0.05)
    with Journal(Home(lab.home).journal, read_only=True) as journal:
        kinds = [
            event.incident.kind
            for _, event in journal.events(run, kind=e.IncidentDetected)
            if isinstance(event, e.IncidentDetected)
        ]
    # A busy machine may make a rank late; of power and devices nothing may be said.
    assert set(kinds) <= {Kind.STRAGGLER}, "nobody is blamed for our own limits"

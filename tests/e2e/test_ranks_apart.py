"""The drills of ranks that differ from their peers, and of numbers that are not what they were."""

from __future__ import annotations

from typing import Any

import pytest
from lab import Lab, gpt
from test_drills import script

from orchestrator import contract

pytestmark = [pytest.mark.e2e]


TOGETHER = """
import time
import torch
import torch.distributed as dist
import lastgood

def train(run):
    model = torch.nn.Linear(4, 4)
    for step in run.steps({"model": model}, until=500):
        time.sleep(0.05)
        dist.all_reduce(torch.ones(8))
        run.report(loss=3.0 - 0.001 * step)

lastgood.main(train)
"""
"""One collective a step, so that a short record of collectives reaches over many steps."""


@pytest.mark.long
@pytest.mark.alone
def test_a_rank_that_dawdles_is_named(lab: Lab) -> None:
    path = lab.folder / "together.py"
    path.write_text(TOGETHER)
    run = lab.submit([str(path)], checkpoint={"every_steps": 50, "keep": 1})
    lab.reach(run, 60)
    lab.drill(run, "slow", 1)
    lab.wait(run, lambda _: bool(lab.incidents(run)))
    assert not probed(lab, run), "the naming waits for no probe"
    lab.wait(run, lambda _: bool(probed(lab, run)), within_s=30)
    (slow,) = lab.incidents(run)  # a rank that sleeps is no slow device
    assert (slow["kind"], slow["subject"]["rank"], slow["response"]) == ("straggler", 1, "observe"), slow
    assert lab.status(run)["restarts"] == 0


def probed(lab: Lab, run: str) -> list[str]:
    """What the story says of devices that were measured."""
    told = [sentence["text"] for sentence in contract.story(lab.home, run)["sentences"]]
    return [text for text in told if "probed" in text or "multiplies and copies" in text]


def test_a_rank_that_calls_another_collective_holds_the_run(lab: Lab) -> None:
    run = lab.submit(gpt(lab.folder, steps=400))
    lab.reach(run, 30)
    lab.drill(run, "mismatch", 1)
    status = lab.wait(run, lambda s: bool(s["state"] == "HELD"))
    assert status["cause"] == "code_divergence", lab.told(run)
    assert lab.incidents(run)[-1]["subject"]["rank"] == 1


@pytest.mark.long
def test_gradients_that_stay_too_large_are_noted(lab: Lab) -> None:
    run = lab.submit(gpt(lab.folder, "--step-s", "0.02", steps=900))
    lab.reach(run, 250)
    lab.drill(run, "gradient", 1)

    def shifts() -> list[dict[str, Any]]:
        return [one for one in lab.incidents(run) if one["kind"] == "gradient_shift"]

    # What all ranks share has risen as well; the recipe tells each rank's own norm, and only one of them did. On a
    # loaded machine few steps are compared, and who it is may be known a little later than that something is.
    lab.wait(run, lambda _: any(one["subject"]["rank"] is not None for one in shifts()))
    shift = shifts()[-1]
    assert (shift["subject"]["node"], shift["subject"]["rank"]) == (0, 1), shift
    assert "the gradient norm of rank 1 alone stepped up" in shift["evidence"][0]
    assert lab.status(run)["restarts"] == 0, lab.told(run)


@pytest.mark.long
def test_a_schedule_that_begins_anew_after_a_restart_is_told(lab: Lab) -> None:
    forgetful = script(lab, until=400, step_s=0.01)
    text = (lab.folder / "tiny.py").read_text()
    # The learning rate counts the steps of this process, not those of the run.
    text = text.replace("    for step in", "    begun = None\n    for step in")
    text = text.replace(
        "run.report(", "begun = begun or step\n        run.report(lr=min(1.0, (step - begun + 1) / 50), "
    )
    (lab.folder / "tiny.py").write_text(text)
    run = lab.submit(forgetful, ranks_per_node=1, checkpoint={"every_steps": 20, "probation_steps": 30, "keep": 3})
    lab.reach(run, 110)
    lab.drill(run, "kill", 0)
    lab.finish(run)
    assert lab.kinds(run) == ["worker_killed", "resume_mismatch"], lab.told(run)
    mismatch = lab.concluded(run)[1]
    assert (mismatch["response"], mismatch["actions"]) == ("observe", []), mismatch


@pytest.mark.long
def test_a_loss_that_falls_too_well_is_noted(lab: Lab) -> None:
    learned = "2.0 + step * 7 % 11 / 50 if step <= 200 else 2.1 * 2.718 ** ((200 - step) / 30)"
    run = lab.submit(script(lab, until=320, loss=learned, step_s=0.004), ranks_per_node=1)
    status = lab.finish(run)
    assert lab.kinds(run) == ["loss_too_good"], lab.told(run)
    assert status["restarts"] == 0
    assert 198 <= lab.concluded(run)[0]["onset_step"] <= 210

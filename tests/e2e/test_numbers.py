"""Faults of data and of storage: a poisoned window is skipped, a flipped bit never reaches the model."""

from __future__ import annotations

import json

import pytest
from lab import Alone, Lab, gpt, read, undisturbed

pytestmark = [pytest.mark.e2e]


def test_a_poisoned_window_is_skipped_as_if_it_had_been_left_out_from_the_start(lab: Lab) -> None:
    poison = ("--poison", "45:61")
    run = lab.submit(gpt(lab.folder, *poison, steps=90))
    lab.finish(run)
    spikes = [i for i in lab.incidents(run) if i["kind"] in ("loss_spike", "loss_divergence")]
    assert len(spikes) == 1, lab.told(run)
    assert abs(spikes[0]["onset_step"] - 46) <= 3
    window = lab.skips(run)
    assert window[0][0] <= 48
    assert window[-1][1] >= 61
    expected = undisturbed(lab.folder / "undisturbed", *poison, "--steps", "90", skips=window)
    trained = read(lab.folder / "losses", lab.folder / "weights")
    assert trained.losses == expected.losses
    assert trained.weights == expected.weights


def test_a_flipped_bit_is_named_and_the_older_checkpoint_taken(lab: Lab, alone: Alone) -> None:
    # Slow steps: no newer checkpoint may come between the flip and the crash. And no copy of that very step in memory.
    saves = {"every_steps": 12, "keep": 3, "memory_every_steps": 0}
    run = lab.submit(gpt(lab.folder, "--step-s", "0.2"), checkpoint=saves)
    lab.reach(run, 26)
    lab.wait(run, lambda _: len(lab.restorable(run)) >= 2)
    said = lab.drill(run, "flip")
    lab.drill(run, "kill", 0)
    lab.finish(run)
    found = {i["kind"]: i for i in lab.concluded(run)}
    assert set(found) == {"checkpoint_corrupt", "worker_killed"}, lab.told(run)
    assert any(name in said for name in (".distcp", ".metadata", "manifest.json")), said
    resumed = found["worker_killed"]["resumed_from_step"]
    damaged = json.dumps(found["checkpoint_corrupt"]["evidence"])
    assert f"{resumed:08d}" not in damaged
    expected = alone()
    trained = read(lab.folder / "losses", lab.folder / "weights")
    assert (trained.losses, trained.weights) == (expected.losses, expected.weights)


def test_the_same_exception_at_the_same_step_holds_the_run(lab: Lab) -> None:
    script = lab.folder / "stubborn.py"
    script.write_text(STUBBORN)
    run = lab.submit([str(script)], ranks_per_node=1)
    status = lab.wait(run, lambda s: bool(s["state"] == "HELD"))
    assert status["exit_code"] == 100
    assert lab.incidents(run)[-1]["kind"] == "crash_loop"
    assert "KeyError" in status["reason"]


STUBBORN = """
import torch
import lastgood

def train(run):
    model = torch.nn.Linear(4, 4)
    for step in run.steps({"model": model}, until=20):
        run.report(loss=1.0)
        if step == 8:
            raise KeyError("always the same")

lastgood.main(train)
"""

"""For each fault: the run finishes, untouched, and what it trained is bit-identical to an undisturbed run."""

from __future__ import annotations

import pytest
from lab import Alone, Lab, gpt, read

pytestmark = [pytest.mark.e2e]

STEPS = 90
"""enough for a drill to strike before the end, on a machine that is slow to carry it out, too"""
SAVES = {"every_steps": 20, "probation_steps": 12, "keep": 3}


@pytest.mark.parametrize(
    ("drill", "rank", "kind"),
    [
        ("kill", 1, "worker_killed"),
        ("exception", 1, "worker_exception"),
        ("spin", 0, "hang"),
        ("nan", 1, "nonfinite_loss"),
    ],
)
def test_a_fault_costs_steps_and_changes_nothing(lab: Lab, alone: Alone, drill: str, rank: int, kind: str) -> None:
    run = lab.submit(gpt(lab.folder, steps=STEPS), checkpoint=SAVES)
    lab.reach(run, 35)
    lab.drill(run, drill, rank)
    lab.finish(run)
    trained = read(lab.folder / "losses", lab.folder / "weights")
    assert lab.kinds(run) == [kind]
    incident = lab.concluded(run)[0]
    # A loss that is averaged over the ranks cannot say whose weight is wrong.
    assert incident["subject"]["rank"] == (None if drill == "nan" else rank), incident
    assert (trained.losses, trained.weights) == (alone(STEPS).losses, alone(STEPS).weights)
    assert len(trained.losses) == STEPS

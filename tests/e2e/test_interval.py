"""Is the interval between durable saves measured, told to the ranks that train, and given to the world after them?"""

from __future__ import annotations

import pytest
from lab import Lab, gpt

from orchestrator import contract
from orchestrator.core import actions as a
from orchestrator.home import Home
from orchestrator.journal import Journal

pytestmark = [pytest.mark.e2e]

STEPS = 150


def told(lab: Lab, run: str) -> list[tuple[int, int]]:
    """World and interval of each order that has one."""
    with Journal(Home(lab.home).journal, read_only=True) as journal:
        orders = [action for entry in journal.entries(run) for action in entry.actions]
    return [
        (order.world, order.steps if isinstance(order, a.SaveEvery) else order.save_every)
        for order in orders
        if isinstance(order, a.SaveEvery | a.StartWorld)
    ]


@pytest.mark.long
def test_the_first_save_is_measured_and_the_next_ones_come_as_seldom_as_that_is_worth(lab: Lab) -> None:
    run = lab.submit(
        gpt(lab.folder, "--step-s", "0.05", steps=STEPS),
        checkpoint={"probation_steps": 12, "keep": 9, "memory_every_steps": 1},
    )
    status = lab.wait(run, lambda status: (status["save_every_steps"] or 10) != 10)
    every = status["save_every_steps"]
    assert every > STEPS, "a save costs milliseconds, and copies in memory answer what fails"
    assert status["save_every_why"].startswith("a save costs 0.")
    lab.reach(run, 25)
    lab.drill(run, "kill", 1)
    lab.finish(run)
    steps = [save["step"] for save in lab.checkpoints(run)]
    assert steps[0] == 10
    assert steps[-1] == STEPS
    assert set(steps) <= {10, 20, 30, STEPS}, "the ranks heard of it at one of the next saves"
    orders = told(lab, run)
    assert orders[:2] == [(1, 10), (1, every)]
    newest = [steps for world, steps in orders if world == 1][-1]
    assert next(steps for world, steps in orders if world == 2) == newest, "the next world begins with it"
    assert any(f"Saves every {every} steps now" in one["text"] for one in contract.story(lab.home, run)["sentences"])

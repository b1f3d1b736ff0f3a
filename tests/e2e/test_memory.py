"""Does a world go on from what the one before it left in memory, bit for bit, and lose a step at most?"""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import Alone, Lab, Trained, gpt, read

from orchestrator.core import events as e
from orchestrator.home import Home
from orchestrator.journal import Journal

pytestmark = [pytest.mark.e2e]

STEPS = 120
NEVER = {"every_steps": 1000, "probation_steps": 12, "keep": 3}
"""no save before the last step: what comes back came from memory"""


def restored(lab: Lab, run: str) -> list[e.WorldRestored]:
    """What each world went on from."""
    with Journal(Home(lab.home).journal, read_only=True) as journal:
        return [entry.event for entry in journal.entries(run) if isinstance(entry.event, e.WorldRestored)]


def same(lab: Lab, expected: Trained) -> None:
    """It was trained as if nothing had happened."""
    trained = read(lab.folder / "losses", lab.folder / "weights")
    assert trained.repeats_differ == ()
    assert trained.losses == expected.losses
    assert trained.weights == expected.weights


@pytest.mark.parametrize(("drill", "rank"), [("kill", 1), ("stop", 1)])
def test_a_crash_costs_a_step_at_most(lab: Lab, alone: Alone, drill: str, rank: int) -> None:
    run = lab.submit(gpt(lab.folder, steps=STEPS), checkpoint={**NEVER, "memory_every_steps": 1})
    lab.wait(run, lambda status: status["step"] >= 35)
    lab.drill(run, drill, rank)
    lab.finish(run)
    (incident,) = [one for one in lab.incidents(run) if one["resumed_from_step"] is not None] or [lab.told(run)]
    _first, second = restored(lab, run)
    assert (second.checkpoint, second.copied_in) == (None, 1)
    assert incident["steps_lost"] <= 1, incident
    assert incident["resumed_from_step"] == second.step >= 34
    same(lab, alone(STEPS))
    assert not list(Path("/dev/shm").glob(f"lastgood.*{run}*")), "nothing stays in memory"

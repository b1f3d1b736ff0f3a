"""Does a world go on from what the one before it left in memory, bit for bit, and lose a step at most?"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from lab import Alone, Lab, Trained, gpt, read

from jobs.keeper import door
from orchestrator.core import events as e
from orchestrator.home import Home
from orchestrator.journal import Journal

pytestmark = [pytest.mark.e2e]

STEPS = 90
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


@pytest.mark.parametrize(("drill", "rank"), [("kill", 1), pytest.param("stop", 1, marks=pytest.mark.soak)])
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


@pytest.mark.long
def test_copies_outlive_their_agent(lab: Lab, alone: Alone) -> None:
    run = lab.submit(gpt(lab.folder, "--step-s", "0.05", steps=STEPS), checkpoint={**NEVER, "memory_every_steps": 1})
    lab.wait(run, lambda status: status["step"] >= 35)
    (keeper,) = keepers(lab, run)
    lab.drill(run, "agent")
    lab.wait(run, lambda status: status["attempt"] == 2 and status["step"] >= 36)
    assert keepers(lab, run) == [keeper]
    lab.finish(run)
    _first, second = restored(lab, run)
    assert (second.checkpoint, second.copied_in, second.from_peer) == (None, 1, 0)
    assert lost(lab, run) <= 1, lab.told(run)
    same(lab, alone(STEPS))
    gone(lab, run)


@pytest.mark.long
def test_copies_outlive_their_node(lab: Lab, alone: Alone) -> None:
    """A node is gone with all that is on it: its ranks come back from what it had sent to another one."""
    run = lab.submit(
        gpt(lab.folder, "--step-s", "0.05", steps=STEPS),
        nodes=2,
        ranks_per_node=1,
        checkpoint={**NEVER, "memory_every_steps": 1},
    )
    lab.wait(run, lambda status: status["step"] >= 35)
    _kept, second = keepers(lab, run)
    os.kill(second, signal.SIGKILL)
    agent = lab.home / "runs" / run / "attempts" / "001" / "node1" / "agent.json"
    os.kill(json.loads(agent.read_text())["pid"], signal.SIGKILL)
    lab.finish(run)
    assert lab.kinds(run) == ["agent_lost"], lab.told(run)
    _first, last = restored(lab, run)
    assert (last.checkpoint, last.copied_in, last.from_peer) == (None, 1, 1), lab.told(run)
    assert lost(lab, run) <= 2, lab.told(run)
    assert "1 rank by way of another node" in lab.told(run)
    same(lab, alone(STEPS))
    gone(lab, run)


def keepers(lab: Lab, run: str) -> list[int]:
    """Processes that keep copies of a run, by node."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "jobs.keeper" in words and run in words and str(lab.home) in words:
            found[int(words[words.index("--node") + 1])] = int(entry.parent.name)
    return [found[node] for node in sorted(found)]


def lost(lab: Lab, run: str) -> int:
    """Steps that the incident cost which ended the first world."""
    (incident,) = [one for one in lab.incidents(run) if one["resumed_from_step"] is not None] or [lab.told(run)]
    return int(incident["steps_lost"])


def gone(lab: Lab, run: str) -> None:
    """The run is over, and nobody keeps anything for it."""
    deadline = time.monotonic() + 5.0
    while keepers(lab, run):
        assert time.monotonic() < deadline, "a keeper stays"
        time.sleep(0.02)
    assert door.nodes_here(lab.home, run) == []

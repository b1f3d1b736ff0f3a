"""Do ranks that are not to blame keep their process, and does that change nothing in what is trained?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from lab import Alone, Lab, gpt, read

from jobs import registry

pytestmark = [pytest.mark.e2e]

STEPS = 90
LONGER = (("exception", 0), ("stop", 1))
SAVES = {"every_steps": 10, "probation_steps": 12, "keep": 3, "memory_every_steps": 1}


def processes(lab: Lab, run: str, rank: int) -> list[str]:
    """Of a rank, world by world, as its agent wrote them down."""
    said = f": rank {rank} is process "
    found = sorted((lab.home / "runs" / run).glob("attempts/*/node0/agent.log"))
    lines = [line for path in found for line in path.read_text().splitlines() if said in line]
    return [line.rpartition(" ")[2] for line in lines]


@pytest.mark.parametrize(
    ("drill", "rank"),
    [
        ("kill", 1),
        pytest.param("spin", 0, marks=pytest.mark.long),
        *(pytest.param(*one, marks=pytest.mark.soak) for one in LONGER),
    ],
)
def test_the_others_go_on_in_their_process(lab: Lab, alone: Alone, drill: str, rank: int) -> None:
    run = lab.submit(gpt(lab.folder, steps=STEPS), checkpoint=SAVES, recovery={"in_process": True})
    lab.wait(run, lambda status: status["step"] >= 35)
    lab.drill(run, drill, rank)
    lab.finish(run)
    culprit, other = processes(lab, run, rank), processes(lab, run, 1 - rank)
    assert len(culprit) == len(set(culprit)) == 2
    assert len(other) == 2
    assert len(set(other)) == 1
    assert read(lab.folder / "losses", lab.folder / "weights") == alone(STEPS)


@pytest.mark.long
def test_a_spare_takes_the_place_of_a_lost_rank(lab: Lab, alone: Alone) -> None:
    # Spares are made by what the ranks leave of the machine: long steps leave most of it, and end long after.
    run = lab.submit(gpt(lab.folder, "--step-s", "0.4", steps=STEPS), checkpoint=SAVES)
    lab.wait(run, lambda _: len(spares(run)) == 2)
    waiting = spares(run)
    lab.drill(run, "kill", 1)
    lab.finish(run)
    assert {pid for rank in range(2) for pid in processes(lab, run, rank)[1:]} == {str(pid) for pid in waiting}
    assert read(lab.folder / "losses", lab.folder / "weights") == alone(STEPS)
    assert spares(run) == []


def spares(run: str) -> list[int]:
    """Processes of the run that wait for a world, in a session that they do not lead: what they did first is done."""
    return [pid for pid in registry.marked(run, 1) if _waits(pid)]


def _waits(pid: int) -> bool:
    try:
        asleep = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"
        return asleep and os.getsid(pid) != pid
    except OSError:  # it ended a moment ago
        return False

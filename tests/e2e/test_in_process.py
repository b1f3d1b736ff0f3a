"""Do ranks that are not to blame keep their process, and does that change nothing in what is trained?"""

from __future__ import annotations

import pytest
from lab import Alone, Lab, gpt, read

pytestmark = [pytest.mark.e2e]

STEPS = 120
SAVES = {"every_steps": 10, "probation_steps": 12, "keep": 3, "memory_every_steps": 1}


def processes(lab: Lab, run: str, rank: int) -> list[str]:
    """Of a rank, world by world, as its agent wrote them down."""
    said = f": rank {rank} is process "
    found = sorted((lab.home / "runs" / run).glob("attempts/*/node0/agent.log"))
    lines = [line for path in found for line in path.read_text().splitlines() if said in line]
    return [line.rpartition(" ")[2] for line in lines]


@pytest.mark.parametrize(("drill", "rank"), [("kill", 1), ("exception", 0), ("stop", 1), ("spin", 0)])
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

"""An unmodified script over several process groups: who holds up all others is named by what it never called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lab import Lab

pytestmark = [pytest.mark.e2e]

SCRIPT = """
import datetime, os, sys, time
import torch, torch.distributed as dist
torch.set_num_threads(1)
limit = datetime.timedelta(seconds={timeout_s})
dist.init_process_group("gloo", timeout=limit)
rank = dist.get_rank()
across = dist.new_group([0, 2], limit, group_desc="dp"), dist.new_group([1, 3], limit, group_desc="dp")
along = dist.new_group([0, 1], limit, group_desc="tp"), dist.new_group([2, 3], limit, group_desc="tp")
first = not os.path.exists("{folder}/happened")

def load_batch():
    open("{folder}/happened", "w").close()
    time.sleep(3600)

for step in range(1, 80):
    time.sleep(0.02)
    dist.all_reduce(torch.ones(4), group=along[rank // 2])
    if first and step == 40:
        {fault}
    dist.all_reduce(torch.ones(16), group=along[rank // 2])
    dist.all_reduce(torch.ones(8), group=across[rank % 2])
    print("step", step)
dist.destroy_process_group()
"""


def hung(lab: Lab, fault: str, *, timeout_s: float = 600.0, floor_s: float = 1.0) -> dict[str, Any]:
    """The first incident of a run with this fault, whose collectives time out, and whose steps may last so long."""
    (lab.folder / "script.py").write_text(SCRIPT.format(folder=lab.folder, fault=fault, timeout_s=timeout_s))
    run = lab.submit(
        ["script.py"],
        ranks_per_node=4,
        progress={"pattern": r"step (?P<step>\d+)"},
        detect={"hang": {"floor_s": floor_s}},
        senses={"kernel": str(lab.folder / "kernel.log"), "nvml": "off", "host": "off"},
    )
    lab.wait(run, lambda _: bool(lab.incidents(run)))
    return lab.incidents(run)[0]


@pytest.fixture(autouse=True)
def _kernel(tmp_path: Path, lab: Lab) -> None:  # noqa: ARG001
    (lab.folder / "kernel.log").touch()


def test_a_rank_that_sleeps_in_its_data_loader(lab: Lab) -> None:
    incident = hung(lab, "load_batch() if rank == 3 else None")
    assert (incident["kind"], incident["subject"]["rank"]) == ("hang", 3), incident
    evidence = incident["evidence"]
    assert evidence[0].startswith("rank 3 never came to all_reduce 40 of group dp of ranks 1, 3"), evidence
    assert any("group tp of ranks 2-3, where rank 2 waits" in said for said in evidence), evidence
    odd, *others = [said for said in evidence if said.startswith("stack of")]
    assert odd.startswith("stack of rank 3: ")
    assert "load_batch" in odd
    assert others


@pytest.mark.long
def test_a_rank_that_calls_something_else_holds_the_run(lab: Lab) -> None:
    incident = hung(lab, "dist.barrier(along[1]) if rank == 2 else None")
    assert (incident["kind"], incident["subject"]["rank"]) == ("code_divergence", 2), incident


@pytest.mark.long
def test_a_collective_that_times_out_before_anybody_calls_it_a_hang(lab: Lab) -> None:
    """The first to die is a victim: it waited for the rank that sleeps, through another one."""
    incident = hung(lab, "load_batch() if rank == 3 else None", timeout_s=2.0, floor_s=60.0)
    assert (incident["kind"], incident["subject"]["rank"]) == ("hang", 3), incident
    assert any("counted as a victim" in said for said in incident["evidence"]), incident

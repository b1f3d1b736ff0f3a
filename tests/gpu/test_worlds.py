"""Does a run over NCCL survive what kills it, and is each fault told as what it is?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lab import SMALL, Lab

from orchestrator import contract

SHARING = Path(__file__).with_name("sharing.py")
SCENES = (
    (15, "kill", 1, "worker_killed", 1),
    (45, "exception", 1, "worker_exception", 1),
    (75, "stop", 1, "hang", 1),
    (105, "spin", 0, "hang", 0),
    (135, "nan", 1, "nonfinite_loss", None),
)
"""step, drill, rank, and what must be told: kind and rank"""
STEPS = 170


def command(folder: Path, *words: str, steps: int) -> list[str]:
    """The recipe, its ranks sharing a GPU."""
    return [str(SHARING), "--steps", str(steps), *SMALL, "--losses", str(folder / "losses"), *words]


def test_a_world_over_nccl_survives_five_faults(lab: Lab) -> None:
    run = lab.submit(command(lab.folder, "--step-s", "0.1", steps=STEPS))
    for step, drill, rank, _, _ in SCENES:
        lab.reach(run, step)
        lab.drill(run, drill, rank)
        told = len(lab.incidents(run))
        lab.wait(run, lambda _, told=told: len(lab.incidents(run)) > told)
    lab.finish(run)
    print(lab.told(run))
    told = [(incident["kind"], incident["subject"]["rank"]) for incident in lab.incidents(run)]
    assert told == [(kind, rank) for *_, kind, rank in SCENES], lab.incidents(run)
    for incident in lab.incidents(run):
        print(incident["kind"], {phase: round(s, 2) for phase, s in incident["phases_s"].items() if s is not None})
        print("   ", *incident["evidence"], sep="\n      ")


TIMED_OUT = """
import datetime, os, time
os.environ["NCCL_HOSTID"] = os.environ["RANK"]
os.environ["NCCL_SOCKET_IFNAME"] = "lo"
import torch, torch.distributed as dist
torch.cuda.set_device(0)
dist.init_process_group("nccl", timeout=datetime.timedelta(seconds=5))
rank = dist.get_rank()
first = not os.path.exists("{folder}/happened")
for step in range(1, 60):
    time.sleep(0.02)
    dist.all_reduce(torch.ones(8, device="cuda"))
    torch.cuda.synchronize()
    if first and step == 40 and rank == 1:
        {fault}
    print("step", step)
"""
FAULTS = {
    "hang": "open('{folder}/happened', 'w').close(); time.sleep(3600)",
    "code_divergence": "open('{folder}/happened', 'w').close(); dist.all_reduce(torch.ones(16, device='cuda'))",
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_time_out_of_nccl_names_whom_it_waited_for(lab: Lab, kind: str) -> None:
    fault = FAULTS[kind].format(folder=lab.folder)
    (lab.folder / "script.py").write_text(TIMED_OUT.format(folder=lab.folder, fault=fault))
    run = lab.submit(
        ["script.py"],
        progress={"pattern": r"step (?P<step>\d+)"},
        detect={"hang": {"floor_s": 60.0}},
    )
    lab.wait(run, lambda _: bool(lab.incidents(run)), within_s=90)
    incident: dict[str, Any] = lab.incidents(run)[0]
    print(*incident["evidence"], sep="\n")
    assert (incident["kind"], incident["subject"]["rank"]) == (kind, 1), incident


def test_more_ranks_than_gpus_train_on_the_cpu(lab: Lab) -> None:
    import torch

    ranks = torch.cuda.device_count() + 1
    run = lab.submit(["-m", "jobs.recipes.gpt", "--steps", "8", *SMALL], ranks_per_node=ranks)
    lab.finish(run)
    logs = [path.read_text() for path in (lab.home / "runs" / run).rglob("rank0/std*.log")]
    assert any("trains on the CPU" in log for log in logs), logs


def test_energy_and_a_place_for_each_rank(lab: Lab) -> None:
    run = lab.submit(command(lab.folder, "--step-s", "0.2", steps=60), ranks_per_node=1)
    lab.finish(run)
    books = contract.ledger(lab.home, run)
    print(books)
    assert 10.0 < books["energy_j"] < 1000.0 * books["gpu_hours"] * 3600, books
    assert books["energy_per_step_j"] > 0.0

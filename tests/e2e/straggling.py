"""What does a rank of a small synchronous training do, in which one rank sleeps longer from some step on?

`python straggling.py STEPS FOLDER:SLOW_RANK:SLOW_FROM ...`, started once: it forks four gloo ranks for each training,
and all trainings go on at once, for they only sleep. Every rank writes its steps (`stepsRANK.jsonl`: step, when it
ended, how long it took); at the end also what its flight recorder holds.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from lastgood import recorder

RANKS = 4
STEP_S = 0.1
MORE = 0.3


def train(rank: int, folder: Path, steps: int, slow_rank: int, slow_from: int) -> None:
    """Compute (sleep), reduce, compute, reduce; every rank's own time differs a little from step to step."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    gradient = torch.ones(1000)
    with (folder / f"steps{rank}.jsonl").open("w") as rows:
        for step in range(1, steps + 1):
            began = time.monotonic()
            more = 1 + MORE * (rank == slow_rank and step >= slow_from)
            for half in range(2):
                time.sleep(STEP_S / 2 * more * (1 + 0.01 * ((7 * step + 3 * rank + half) % 5)))
                dist.all_reduce(gradient)
            took_s = time.monotonic() - began
            rows.write(json.dumps({"step": step, "at": time.time(), "step_s": took_s}) + "\n")
    dist.barrier()
    recorder.write(_own(folder, rank), asked="end")
    dist.barrier()
    dist.destroy_process_group()


def _own(folder: Path, rank: int) -> Path:
    made = folder / f"rank{rank}"
    made.mkdir(exist_ok=True)
    return made


def start(rank: int, training: str, steps: int) -> int:
    """Fork a rank of `FOLDER:SLOW_RANK:SLOW_FROM`; its process number."""
    child = os.fork()
    if child == 0:
        folder, slow_rank, slow_from = training.rsplit(":", 2)
        train(rank, Path(folder), steps, int(slow_rank), int(slow_from))
        sys.exit(0)
    return child


if __name__ == "__main__":
    count, *trainings = sys.argv[1:]
    children = [start(rank, training, int(count)) for training in trainings for rank in range(RANKS)]
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))

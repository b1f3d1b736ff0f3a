"""A healthy run that looks as unhealthy as one can: uneven steps, long saves, long evaluations, slow data.

python healthy.py SECONDS SEED
"""

from __future__ import annotations

import random
import sys
import time

import torch

import lastgood

SECONDS, SEED = float(sys.argv[1]), int(sys.argv[2])
STEP_S = 0.1
USUAL_S = 0.22
"""of a step with its data"""
EVAL_EVERY, EVAL_S = 15, (1.0, 8.0)
SAVE_EVERY, SAVE_S = 20, (2.0, 5.0)
"""as the test asks for; from and to"""


class Slow:
    """State of the user's own that takes seconds to collect for a save, and none for a copy in memory."""

    def __init__(self) -> None:
        self.step = 0
        self.slept: dict[int, float] = {}

    def state_dict(self) -> dict[str, int]:
        if self.step % SAVE_EVERY == 0 and self.step not in self.slept:
            self.slept[self.step] = random.Random(SEED + self.step).uniform(*SAVE_S)
            time.sleep(self.slept[self.step])
        return {"step": self.step}

    def load_state_dict(self, saved: dict[str, int]) -> None:
        self.step = saved["step"]


def train(run: lastgood.Run) -> None:
    """Every rank draws the same pauses, so that the ranks stay together as collectives would keep them."""
    draw = random.Random(SEED)
    model = torch.nn.Linear(1500, 1500)  # 9 MB a save
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    until = int(SECONDS / (USUAL_S + sum(EVAL_S) / 2 / EVAL_EVERY + sum(SAVE_S) / 2 / SAVE_EVERY))
    noise = random.Random(SEED + 1)
    slow, evaluations = Slow(), 0
    for step in run.steps({"model": model, "optimizer": optimizer, "slow": slow}, until=until):
        slow.step = step
        with run.phase("data"):
            time.sleep(draw.choice((0.0, 0.0, 0.0, 0.02, 0.3)))
        # Mostly even, now and then up to four times as long: a longer sequence, a neighbour on the node.
        time.sleep(STEP_S * draw.choice((0.9, 1.0, 1.0, 1.0, 1.1, 1.2, 2.0, 4.0)))
        if step % EVAL_EVERY == 0:
            evaluations += 1
            with run.phase("eval"):
                time.sleep(draw.uniform(*EVAL_S))
        run.report(loss=2.0 + 3.0 / (1 + step / 50) + noise.gauss(0.0, 0.05), grad_norm=1.0, tokens=1000)
    assert evaluations > 1, "too short for evaluations"
    assert slow.slept, "no save was long"


lastgood.main(train)

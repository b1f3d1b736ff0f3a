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


def train(run: lastgood.Run) -> None:
    """Every rank draws the same pauses, so that the ranks stay together as collectives would keep them."""
    draw = random.Random(SEED)
    model = torch.nn.Linear(1500, 1500)  # 9 MB a save
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    until = int(SECONDS / (2.2 * STEP_S))
    noise = random.Random(SEED + 1)
    for step in run.steps({"model": model, "optimizer": optimizer}, until=until):
        with run.phase("data"):
            time.sleep(draw.choice((0.0, 0.0, 0.0, 0.02, 0.3)))
        # Mostly even, now and then up to four times as long: a longer sequence, a neighbour on the node.
        time.sleep(STEP_S * draw.choice((0.9, 1.0, 1.0, 1.0, 1.1, 1.2, 2.0, 4.0)))
        if step % 60 == 0:
            with run.phase("eval"):
                time.sleep(draw.uniform(1.0, 8.0))
        run.report(loss=2.0 + 3.0 / (1 + step / 50) + noise.gauss(0.0, 0.05), grad_norm=1.0, tokens=1000)


lastgood.main(train)

"""What do two real ranks do whose agents say at different times how often to save?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tests import warm
from tests.sdk.ranks import Rank, advance

STEPS = 40
SAID = {
    0: {9: 7, 25: 6},
    1: {3: 3, 17: 7, 39: 6},
}
"""by rank: after which step its agent writes which interval into its progress file"""


def run(folder: Path) -> list[dict[str, Any]]:
    """What each of two ranks saw."""
    warm.run(main, *((rank, folder) for rank in SAID), folder=folder)
    return [json.loads((folder / f"saw.{rank}.json").read_text()) for rank in SAID]


def _train(number: int, folder: Path) -> dict[str, Any]:
    rank = Rank(
        folder / f"rank{number}", rank=number, world_size=2, save_every=10, checkpoints=str(folder / "checkpoints")
    )
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    state = {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}
    intervals = []
    for step in rank.run.steps(state, until=STEPS):
        advance(state)
        intervals.append(rank.run._interval.every)
        if step in SAID[number]:
            rank.reader.order_save_every(SAID[number][step])
    return {"intervals": intervals, "notes": rank.notes()}


def main(number: int, folder: Path) -> None:
    """One rank."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=number, world_size=len(SAID))
    (folder / f"saw.{number}.json").write_text(json.dumps(_train(number, folder)))
    dist.destroy_process_group()

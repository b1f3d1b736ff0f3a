"""How does the job look where torchft wants it otherwise? Replicas with whole weights that average their gradients.

A rank of the others is a replica here. Nothing is saved: who comes back is sent the state by one that lives.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from job import BATCH, GPT, RANKS, SEQ, VOCABULARY, Lines, digest, parse
from torchft import DistributedDataParallel, Manager, Optimizer, ProcessGroupGloo

COLLECTIVE_S, REPLY_S, QUORUM_S = 2.0, 5.0, 30.0


def main() -> None:
    """Train as one replica."""
    options, replica = parse(), int(os.environ["REPLICA_GROUP_ID"])
    torch.set_num_threads(1)
    lines = Lines(options.out, replica, RANKS)
    torch.manual_seed(0)
    model = GPT()
    adam = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def take(state: dict[str, Any]) -> None:
        model.load_state_dict(state["model"])
        adam.load_state_dict(state["optimizer"])

    manager = Manager(
        pg=ProcessGroupGloo(timeout=timedelta(seconds=COLLECTIVE_S)),
        min_replica_size=1,
        load_state_dict=take,
        state_dict=lambda: {"model": model.state_dict(), "optimizer": adam.state_dict()},
        replica_id=f"replica{replica}",
        timeout=timedelta(seconds=REPLY_S),
        quorum_timeout=timedelta(seconds=QUORUM_S),
    )
    averaged, optimizer = DistributedDataParallel(manager, model), Optimizer(manager, adam)
    while (step := manager.current_step()) < options.until:
        lines.break_down_if_told()
        seed = torch.Generator().manual_seed(step << 10 | replica)
        tokens = torch.randint(VOCABULARY, (BATCH, SEQ + 1), generator=seed)
        optimizer.zero_grad()
        loss = F.cross_entropy(averaged(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        if manager.current_step() > step:  # else the others were lost meanwhile, and the step counts for nothing
            size, done = manager.num_participants(), manager.current_step()
            lines.say("step", step=done, size=size, loss=loss.item().hex())
    lines.say("done", weights=digest(model))


if __name__ == "__main__":
    main()

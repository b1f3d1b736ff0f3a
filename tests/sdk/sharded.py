"""A rank that trains on sharded tensors: what did it ask, what was it told, and what came of it?

Each function is for a process of its own, since what torch knows is known for its life; it leaves a file of JSON.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from lastgood import shardings

Shape = tuple[int, ...]


def _train(dim: int, shape: Shape) -> tuple[bool, list[float]]:
    """Two steps as rank 1 of a world that is not there, each mesh dimension of 2 ranks.

    Whether the parameters are on the mesh of this process, and the sum of each.
    """
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=1, world_size=2 * len(shape))
    shardings.attach()
    torch.manual_seed(0)
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=("a", "b")[: len(shape)])
    model = torch.nn.Sequential(torch.nn.Linear(dim, dim), torch.nn.LayerNorm(dim))
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for _ in range(2):
        model(torch.ones(2, dim)).sum().backward()
        optimizer.step()
    parameters: list[Any] = list(model.parameters())
    here = all(one.device_mesh is mesh for one in parameters)
    return here, [one.to_local().double().sum().item() for one in parameters]


def ask(seen: Path, file: Path, dim: int, shape: Shape) -> None:
    """What was trained, how many questions it asked, and how many are left once they are written down."""
    os.environ[shardings.FILE] = str(file)
    trained = _train(dim, shape)
    asked = len(shardings._asked)
    shardings.note()
    seen.write_text(json.dumps([trained, asked, len(shardings._asked)]))


def learn(seen: Path, file: Path, dim: int, shape: Shape) -> None:
    """How many answers were known before, what was trained, and how many questions it asked nevertheless."""
    os.environ[shardings.FILE] = str(file)
    for _ in shardings.lesson(str(file), 1, on_device=False):
        pass
    known = len(shardings._known)
    seen.write_text(json.dumps([known, _train(dim, shape), len(shardings._asked)]))

"""What does sharding do slowly the first time? Done once here, on nothing, before a rank is forked.

A process group that passes nothing on (torch's own `fake` backend) has neither threads nor sockets, so it can be made
and forgotten in a process that will be forked.
"""

from __future__ import annotations

import torch
import torch.distributed as dist


def shard() -> None:
    """One step of a sharded model, saved and restored: imports and caches of FSDP2, DTensor and the optimizer."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        mesh = init_device_mesh("cpu", (2,))
        model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 4))
        fully_shard(model, mesh=mesh)
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        model(torch.zeros(2, 4)).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        model.state_dict()
    finally:
        dist.destroy_process_group()

"""How do the ranks of a world come together, and part? The process group, unless the training code made its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from lastgood import parting, survivor
from lastgood.place import Place

if TYPE_CHECKING:
    import torch

SUPERVISED_TIMEOUT = timedelta(hours=24)
"""The supervisor finds hangs from progress, in seconds; a collective's own timeout would only end patient runs."""


def device(place: Place) -> torch.device:
    """The device of this rank: its GPU where there is one for each rank of the node, else the CPU."""
    import torch

    if not torch.cuda.is_available() or _must_share(place, torch.cuda.device_count()):
        return torch.device("cpu")
    # A launcher may show each rank its own GPU only, which is then number 0 for all of them.
    return torch.device("cuda", place.local_rank % torch.cuda.device_count())


def _must_share(place: Place, gpus: int) -> bool:
    """NCCL refuses two ranks on one GPU, unless it is told that they are on different hosts.

    Where somebody chose what is seen, a rank that sees one GPU may have it for itself.
    """
    chosen = {"CUDA_VISIBLE_DEVICES", "NCCL_HOSTID"} & os.environ.keys()
    return gpus < place.local_world_size and not chosen


@contextmanager
def joined(place: Place) -> Iterator[Place]:
    """A process group for the ranks of this world; yields the place, as the group knows it.

    A group that is up already is used and left alone. After an exception the group is not torn down: its peers may
    never answer, and the process is about to end.
    """
    if "torch.distributed" not in sys.modules and not place.launched:
        yield place  # alone: torch need not even be imported
        return
    import torch.distributed as dist

    if dist.is_initialized():
        yield replace(place, rank=dist.get_rank(), world_size=dist.get_world_size())
    elif place.launched:
        _join(place)
        yield place
        if dist.is_initialized():
            dist.destroy_process_group()
    else:
        yield place


def _join(place: Place) -> None:
    import torch
    import torch.distributed as dist

    backend = "gloo"
    if (own := device(place)).type == "cuda":
        torch.cuda.set_device(own)
        # gloo too: asynchronous saves talk about CPU memory while NCCL trains.
        backend = "cpu:gloo,cuda:nccl"
    elif torch.cuda.is_available() and place.rank == 0:
        few = f"{torch.cuda.device_count()} for {place.local_world_size} ranks"
        print(f"lastgood: too few GPUs on this node ({few}): this world trains on the CPU", file=sys.stderr)
    timeout = SUPERVISED_TIMEOUT if place.supervised else None
    if survivor.CONTROL not in os.environ:
        dist.init_process_group(backend, timeout=timeout)
        return
    parting.watch_groups()
    with parting.remembered():
        dist.init_process_group(backend, timeout=timeout)

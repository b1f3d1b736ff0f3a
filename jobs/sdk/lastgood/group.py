"""How do the ranks of a world come together, and part? The process group, unless the training code made its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from lastgood.place import Place

if TYPE_CHECKING:
    import torch

SUPERVISED_TIMEOUT = timedelta(hours=24)
"""The supervisor finds hangs from progress, in seconds; a collective's own timeout would only end patient runs."""


def device(place: Place) -> torch.device:
    """The device of this rank: its GPU where there is one, else the CPU."""
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    # A launcher may show each rank its own GPU only, which is then number 0 for all of them.
    return torch.device("cuda", place.local_rank % torch.cuda.device_count())


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
    if torch.cuda.is_available():
        torch.cuda.set_device(device(place))
        # gloo too: asynchronous saves talk about CPU memory while NCCL trains.
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=SUPERVISED_TIMEOUT if place.supervised else None)

"""What does a step pay for a save or a copy? One copy of this rank's shard into memory that is kept from one to the
next; on a GPU not even that."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import finalize

import torch
from torch import nn
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.planner import SavePlan, WriteItem
from torch.optim import Optimizer

from lastgood.copies import Copy
from lastgood.snapshot import State

Buffers = dict[MetadataIndex, torch.Tensor]
"""Host memory for each piece of this rank's shard; pages once touched stay mapped: the next copy takes half as long."""


class StagedPlanner(DefaultSavePlanner):
    """Plans a save from the live state and copies what this rank may have to write; after `stage` the live state is
    not looked at again, so training may go on."""

    def __init__(self, buffers: Buffers) -> None:
        super().__init__()
        self._buffers = buffers
        self._bytes: dict[MetadataIndex, io.BytesIO] = {}

    def stage(self, tree: dict[str, Any], *, is_coordinator: bool) -> SavePlan:
        """Copy everything; the plan names pieces only, its order and number are the coordinator's to change."""
        self.set_up_planner(tree, is_coordinator=is_coordinator)
        plan = self.create_local_plan()
        pieces = [(item, super(StagedPlanner, self).resolve_data(item)) for item in plan.items]
        on_device = [self._stage_piece(item, piece) for item, piece in pieces]
        if any(on_device):
            torch.cuda.current_stream().synchronize()
        self.state_dict = {}
        self._forget_all_but(plan)
        return plan

    def resolve_data(self, write_item: WriteItem) -> torch.Tensor | io.BytesIO:
        """The copy of a piece."""
        found = self._bytes.get(write_item.index)
        return self._buffers[write_item.index] if found is None else found

    def _stage_piece(self, item: WriteItem, piece: torch.Tensor | io.BytesIO) -> bool:
        if isinstance(piece, io.BytesIO):
            self._bytes[item.index] = piece
            return False
        source = piece.detach()
        buffer = self._buffers.get(item.index)
        if buffer is None or buffer.shape != source.shape or buffer.dtype != source.dtype:
            buffer = torch.empty(source.shape, dtype=source.dtype, pin_memory=source.is_cuda)
            self._buffers[item.index] = buffer
        buffer.copy_(source, non_blocking=source.is_cuda)
        return source.is_cuda

    def _forget_all_but(self, plan: SavePlan) -> None:
        for index in self._buffers.keys() - {item.index for item in plan.items}:
            del self._buffers[index]


class SideStream:
    """Copies from a GPU beside training: forward and backward only read what is copied, and the optimizers wait.

    Without a GPU, nothing: a copy is done when it is made.
    """

    def __init__(self) -> None:
        self._stream: torch.cuda.Stream | None = None
        self._done: torch.cuda.Event | None = None

    def register(self, copy: Copy) -> None:
        """Pin its memory as long as it is mapped, so that the GPU writes to it by itself; refused, copies take longer.

        Memory mapped later at the same address would pass for pinned, and the GPU would go on writing to the old pages.
        """
        if not torch.cuda.is_initialized():
            return
        driver = torch.cuda.cudart()
        address, size = copy.address
        if driver.cudaHostRegister(address, size, 0) == driver.cudaError.success:
            finalize(copy, driver.cudaHostUnregister, address).atexit = False

    @contextmanager
    def beside(self, state: State) -> Iterator[None]:
        """What is enqueued in here runs when the present work is done, while training goes on."""
        if not torch.cuda.is_initialized():
            yield
            return
        if self._stream is None:
            self._stream = torch.cuda.Stream()
            for value in state.values():
                if isinstance(value, Optimizer):
                    value.register_step_pre_hook(lambda *_: self._hold())
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield
        self._done = torch.cuda.Event()
        self._done.record(self._stream)
        if not _only_optimizers_write(state):
            self._hold()

    def wait(self) -> None:
        """Until the copy is done; from any thread."""
        if self._done is not None:
            self._done.synchronize()

    def _hold(self) -> None:
        if self._done is not None:
            torch.cuda.current_stream().wait_event(self._done)


def _only_optimizers_write(state: State) -> bool:
    """Buffers change in a forward pass, and what is no module may change at any time."""
    modules = [value for value in state.values() if isinstance(value, nn.Module)]
    others = [value for value in state.values() if not isinstance(value, nn.Module | Optimizer)]
    buffers = any(True for module in modules for _ in module.buffers())
    return not buffers and not any(isinstance(value, torch.Tensor) for value in others)

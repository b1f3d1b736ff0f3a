"""What does a step pay for a save? One copy of this rank's shard into memory that is kept from save to save."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.planner import SavePlan, WriteItem

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

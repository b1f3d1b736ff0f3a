"""What has a copy in memory to hold besides the state, so that another process can make a checkpoint of it?

The plan of torch.distributed.checkpoint, drawn from the live state, and for each item of it where its bytes lie in the
copy: most tensors of a checkpoint are the very ones that the copy is made of anyway. What a state dict made on the fly
lies in no piece of the state, and is copied besides.
"""

from __future__ import annotations

import io
import pickle
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.planner import SavePlan, WriteItem, WriteItemType
from torch.distributed.tensor import DTensor

from lastgood import pieces, snapshot
from lastgood.copies import Copy, offsets
from lastgood.pieces import Pieces
from lastgood.snapshot import OURS, State

Place = tuple[int, tuple[int, ...], torch.dtype]
"""of a tensor in the body of a copy: bytes from its beginning, shape, dtype"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """What stays the same from save to save, as long as the tensors do."""

    plan: SavePlan
    places: dict[MetadataIndex, Place]
    """of the tensors"""


class Drawing:
    """Draws the drafts of one rank: a sketch, pickled, and after it everything else as it is to be written.

    Planning takes as long as a fifth of the copy that a step waits for, so a sketch is drawn once for as long as every
    tensor lies where it lay.
    """

    def __init__(self) -> None:
        self._known: _Layout | None = None
        """how the tensors lay for the sketch; None: another one is drawn next time"""
        self._sketch = b""
        self._others: list[WriteItem] = []
        """of its plan, what is no tensor"""

    def draw(self, state: State, rank: int) -> tuple[Pieces, bytes]:
        """What to copy, and the draft that goes with it. Raises Unfit, and what the user's own state raises."""
        planner = DefaultSavePlanner()
        planner.set_up_planner(snapshot.capture(state, rank), is_coordinator=rank == 0)
        taken = pieces.apart(state)
        layout = _layout(planner, taken.tensors)
        if layout is None or layout != self._known:
            taken = self._sketched(planner, taken, layout)
        bodies = {item.index: planner.resolve_data(item).getvalue() for item in self._others}
        return taken, self._sketch + pickle.dumps(bodies)

    def _sketched(self, planner: DefaultSavePlanner, taken: Pieces, layout: _Layout | None) -> Pieces:
        plan = planner.create_local_plan()
        body = _Body(taken.tensors)
        found: dict[MetadataIndex, tuple[str, int, Tensor]] = {}
        self._others = [item for item in plan.items if item.type is WriteItemType.BYTE_IO]
        for item in plan.items:
            if item.type is not WriteItemType.BYTE_IO:
                value = planner.resolve_data(item).detach()
                found[item.index] = (*body.spot(value), value)
        begins = offsets(body.tensors)
        places = {
            index: (begins[name] + shift, tuple(value.shape), value.dtype)
            for index, (name, shift, value) in found.items()
        }
        self._sketch = pickle.dumps(Sketch(plan=plan, places=places))
        # What a state dict made on the fly is another tensor every time.
        self._known = layout if len(body.tensors) == len(taken.tensors) else None
        return Pieces(tensors=body.tensors, rest=taken.rest)


_Layout = tuple[object, ...]


def _layout(planner: DefaultSavePlanner, tensors: dict[str, Tensor]) -> _Layout | None:
    """All that a sketch depends on; None: it cannot be told."""
    parts: list[object] = [planner.mappings]
    for name, value in planner.state_dict.items():
        if isinstance(value, DTensor):
            parts.append((name, value.shape, value.placements, value.device_mesh, *_where(value.to_local())))
        elif type(value) in (Tensor, nn.Parameter):
            parts.append((name, *_where(value)))
        elif isinstance(value, Tensor):
            return None
        else:
            parts.append(name)
    parts += [(name, *_where(tensor)) for name, tensor in tensors.items()]
    return tuple(parts)


def _where(tensor: Tensor) -> tuple[object, ...]:
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def opened(draft: bytes) -> tuple[Sketch, dict[MetadataIndex, bytes]]:
    """The two parts of a draft."""
    parts = io.BytesIO(draft)
    return pickle.load(parts), pickle.load(parts)


class _Body:
    """The tensors of a copy, found by where they lie in live memory; those that lie nowhere are added."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = dict(tensors)
        # A copy holds a piece in the order of its indices: only in one that lies so itself can a part be found.
        lying = [(t.data_ptr(), name) for name, t in tensors.items() if t.numel() and t.is_contiguous()]
        self._at = sorted(lying)
        self._starts = [start for start, _ in self._at]

    def spot(self, value: Tensor) -> tuple[str, int]:
        """The piece that holds it, and how many bytes from its beginning."""
        start = value.data_ptr()
        # Several may begin there (a view, tied weights): the last one in order may be a shorter one.
        for at in range(bisect_right(self._starts, start) - 1, -1, -1):
            name = self._at[at][1]
            piece, shift = self.tensors[name], start - self._starts[at]
            if _holds(piece, shift, value):
                return name, shift
            if self._starts[at] != start:
                break
        name = f"{OURS}.{len(self.tensors)}"
        self.tensors[name] = value
        return name, 0


def _holds(piece: Tensor, shift: int, value: Tensor) -> bool:
    same = piece.device == value.device and piece.dtype == value.dtype and value.is_contiguous() and value.numel() > 0
    return same and shift % piece.element_size() == 0 and shift + value.nbytes <= piece.nbytes


class DraftPlanner(DefaultSavePlanner):
    """Plans and gives what a copy holds; the live state is another process's, and may be gone."""

    def __init__(self, copy: Copy) -> None:
        """Raises CopyDamaged, and ValueError for a copy that has no draft."""
        super().__init__()
        body = copy.draft()
        if not body:
            raise ValueError(f"{copy.path} holds a copy that was not made to be saved")
        self._copy = copy
        self._sketch, self._bodies = opened(body)

    @property
    def local_plan(self) -> SavePlan:
        """As the rank drew it."""
        return self._sketch.plan

    def resolve_data(self, write_item: WriteItem) -> Any:
        """The bytes of an item, where they lie."""
        body = self._bodies.get(write_item.index)
        return self._copy.part(*self._sketch.places[write_item.index]) if body is None else io.BytesIO(body)

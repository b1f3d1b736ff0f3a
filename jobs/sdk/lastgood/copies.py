"""What does one copy of a rank's state look like, in memory that outlives the rank?

A file in memory that the agent owns, so that its pages stay when the process that wrote them dies:

    0      header: magic, state, sizes of body and tail, digest of both; marks of whoever keeps it (`header.py`), or
           has still to save it (`hold.py`)
    128    body: the tensors, each at a multiple of 64 bytes
    after  tail: facts and the table of the tensors as JSON, then everything else of the state, then, where it is to
           become a part of a checkpoint too, the draft of that (`drafts.py`)

The state is WRITING from before the first byte of a new copy until its digest is known, so that a copy whose writer
died over it is none. Its room is reserved when it is made: a full file system is an error then, not a SIGBUS later.
"""

from __future__ import annotations

import errno
import json
import math
import mmap
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import torch
import xxhash
from torch import Tensor

from lastgood.header import BODY as _BODY
from lastgood.header import EMPTY, FETCHED, FETCHED_AT, MAGIC, SENT, SENT_AT, WHOLE, WRITING, Facts, mark_of
from lastgood.header import HEADER as _HEADER
from lastgood.hold import AT, WORD, is_held
from lastgood.pieces import Pieces

_ALIGN = 64
DRAFT_BYTES = 1024
"""of a draft for each tensor, where its size is not known yet: AdamW's take about 500"""
ROOM = 1 << 16
"""bytes for facts, and for the tail to grow by: plain values change their size"""


class CopyDamaged(Exception):
    """It is not what was written; nothing of it may reach a model."""


@dataclass(frozen=True, slots=True)
class _Spot:
    name: str
    offset: int
    shape: tuple[int, ...]
    dtype: str


def offsets(tensors: dict[str, Tensor]) -> dict[str, int]:
    """Where each tensor of a copy lies in its body."""
    return {spot.name: spot.offset for spot in _spots(tensors)[0]}


def _spots(tensors: dict[str, Tensor]) -> tuple[list[_Spot], int]:
    """Where each tensor lies in the body, and the body's size."""
    spots, offset = [], 0
    for name, tensor in tensors.items():
        spots.append(_Spot(name, offset, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")))
        offset += -(-tensor.nbytes // _ALIGN) * _ALIGN
    return spots, offset


def _tail(facts: Facts, spots: list[_Spot], rest: bytes, draft: bytes) -> bytes:
    table = [[s.name, s.offset, s.shape, s.dtype] for s in spots]
    head = json.dumps({"facts": asdict(facts), "spots": table, "draft": len(draft)}).encode()
    return len(head).to_bytes(8, "little") + head + rest + draft


def needed_bytes(pieces: Pieces, draft: bytes = b"") -> int:
    """Memory that a copy of this state takes, with its draft, if it has one yet."""
    _, body = _spots(pieces.tensors)
    names = sum(len(name) for name in pieces.tensors)
    room = max(len(draft), DRAFT_BYTES * len(pieces.tensors))
    return _BODY + body + len(pieces.rest) + names + 128 * len(pieces.tensors) + room + ROOM


class Copy:
    """One such file, mapped. Whoever owns the file made it, empty."""

    def __init__(self, path: str, *, at_least: int = 0) -> None:
        """`at_least`: bytes that there must be room for; what it holds stays. Raises OSError, for an empty file too."""
        self.path = path
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.fstat(fd).st_size < at_least:
                os.posix_fallocate(fd, 0, at_least)
            self._map = mmap.mmap(fd, 0)
        except ValueError as error:
            raise OSError(errno.ENODATA, f"{path} is empty") from error
        finally:
            os.close(fd)
        self._bytes = torch.frombuffer(self._map, dtype=torch.uint8)
        self._sizes = 0, 0
        self._places: tuple[list[_Spot], list[Tensor]] = [], []
        """of the tensors that were written last: the next ones lie there too, as a rule"""

    @property
    def bytes(self) -> int:
        """Of memory that it takes."""
        return len(self._map)

    @property
    def address(self) -> tuple[int, int]:
        """Where it is mapped, and its size in bytes."""
        return self._bytes.data_ptr(), len(self._map)

    @property
    def send_s(self) -> float:
        """What sending a copy to another node takes, in seconds; 0: nobody sends them, or not yet."""
        return float(SENT.unpack_from(self._map, SENT_AT)[1]) / 1e6

    @property
    def from_peer(self) -> bool:
        """It came from another node."""
        (mark,) = FETCHED.unpack_from(self._map, FETCHED_AT)
        return mark != 0 and mark == mark_of(_HEADER.unpack_from(self._map)[-1])

    @property
    def held(self) -> bool:
        """A saver has still to write it: it must stay as it is."""
        return len(self._map) >= _BODY and is_held(self._map[:_BODY])

    def write(self, facts: Facts, pieces: Pieces, draft: bytes = b"") -> None:
        """Begin a new copy, for which `needed_bytes` says how much room there must be. Of GPU tensors the bytes come
        later, in the order of the current stream. It is none before `seal`. One with a draft is held from here on."""
        spots, body = _spots(pieces.tensors)
        tail = _tail(facts, spots, pieces.rest, draft)
        assert _BODY + body + len(tail) <= len(self._map), f"{self.path} is too small"
        self._mark(WRITING)
        WORD.pack_into(self._map, AT, bool(draft))
        if spots != self._places[0]:
            self._places = spots, [self._view(spot) for spot in spots]
        for place, tensor in zip(self._places[1], pieces.tensors.values(), strict=True):
            place.copy_(tensor, non_blocking=tensor.is_cuda)
        self._map[_BODY + body : _BODY + body + len(tail)] = tail
        self._sizes = body, len(tail)

    def seal(self) -> None:
        """All bytes are there: from now on it is a copy."""
        self._map[: _HEADER.size] = _HEADER.pack(MAGIC, WHOLE, *self._sizes, 0, self._digest(*self._sizes))

    def void(self) -> None:
        """It is a copy no more."""
        self._mark(EMPTY)

    def facts(self) -> Facts | None:
        """Of what it is a copy; None when it is none. Its bytes may still be damaged: `read` looks."""
        sizes = self._whole()
        if sizes is None:
            return None
        with suppress(ValueError, KeyError, TypeError):
            return Facts(**self._head(*sizes)[0]["facts"])
        return None

    def read(self) -> tuple[dict[str, Tensor], bytes]:
        """The tensors, as views of the file, and everything else. Raises CopyDamaged."""
        head, rest = self._sound()
        spots = [_Spot(name, offset, tuple(shape), dtype) for name, offset, shape, dtype in head["spots"]]
        end = len(rest) - int(head.get("draft", 0))
        return {spot.name: self._view(spot) for spot in spots}, rest[:end]

    def draft(self) -> bytes:
        """What stands in it for a saver; empty when nothing does. Raises CopyDamaged."""
        head, rest = self._sound()
        return rest[len(rest) - int(head.get("draft", 0)) :]

    def _sound(self) -> tuple[dict[str, Any], bytes]:
        """Raises CopyDamaged."""
        sizes = self._whole()
        if sizes is None:
            raise CopyDamaged("it is not whole")
        if self._digest(*sizes) != _HEADER.unpack_from(self._map)[-1]:
            raise CopyDamaged("its bytes are not those that were written")
        return self._head(*sizes)

    def _whole(self) -> tuple[int, int] | None:
        if len(self._map) < _BODY:
            return None
        magic, state, body, tail, _, _ = _HEADER.unpack_from(self._map)
        fits = _BODY + body + tail <= len(self._map) and tail >= 8
        return (body, tail) if magic == MAGIC and state == WHOLE and fits else None

    def _head(self, body: int, tail: int) -> tuple[dict[str, Any], bytes]:
        raw = self._map[_BODY + body : _BODY + body + tail]
        length = int.from_bytes(raw[:8], "little")
        return json.loads(raw[8 : 8 + length]), raw[8 + length :]

    def _digest(self, body: int, tail: int) -> bytes:
        with memoryview(self._map) as whole, whole[_BODY : _BODY + body + tail] as part:
            return xxhash.xxh3_128_digest(part)

    def _mark(self, state: int) -> None:
        self._map[: _HEADER.size] = _HEADER.pack(MAGIC, state, 0, 0, 0, bytes(16))

    def _view(self, spot: _Spot) -> Tensor:
        dtype: torch.dtype = getattr(torch, spot.dtype)
        at = _BODY + spot.offset
        return self._bytes[at : at + math.prod(spot.shape) * dtype.itemsize].view(dtype).view(spot.shape)

    def part(self, offset: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """The body's bytes from `offset` on, as a tensor with a storage of its own, which torch writes as it is."""
        count = math.prod(shape)
        if count == 0:
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(self._map, dtype=dtype, count=count, offset=_BODY + offset).view(shape)

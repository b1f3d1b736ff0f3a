"""What stands at the head of a copy in memory, and what of it may be known without torch?

A rank writes the first words, and whoever keeps its copies the marks behind them. A mark names the copy that it is of
by its digest, so that one that comes late, for a copy that is being overwritten, is a mark of nothing.
"""

from __future__ import annotations

import json
import os
import struct
from contextlib import suppress
from dataclasses import dataclass

MAGIC = b"lgcopy\x00\x01"
EMPTY, WRITING, WHOLE = range(3)
HEADER = struct.Struct("<8sQQQQ16s")
BODY = 128
"""where the tensors begin"""
SENT = struct.Struct("<QQ")
"""mark of the copy that arrived on another node, and microseconds that sending one takes"""
SENT_AT = 96
FETCHED = struct.Struct("<Q")
"""mark of the copy that came from another node"""
FETCHED_AT = 112
HEAD_MAX = 1 << 26
"""bytes of facts and table: a copy that claims more is none"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a copy is of."""

    run: str
    attempt: int
    world: int
    step: int
    """last finished"""
    rank: int
    world_size: int
    data_index: int
    """of the next batch"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The head of a copy that is whole."""

    body: int
    tail: int
    """bytes of both"""
    digest: bytes

    @property
    def size(self) -> int:
        """Bytes of the copy in its file."""
        return BODY + self.body + self.tail

    @property
    def mark(self) -> int:
        """By which it is told from every other copy."""
        return mark_of(self.digest)

    def packed(self) -> bytes:
        """As it stands in the file."""
        return HEADER.pack(MAGIC, WHOLE, self.body, self.tail, 0, self.digest)


def mark_of(digest: bytes) -> int:
    """Of a copy."""
    return int.from_bytes(digest[:8], "little")


def look(fd: int) -> Head | None:
    """The head of the copy in a file; None when there is none that is whole. Raises OSError."""
    raw = os.pread(fd, HEADER.size, 0)
    if len(raw) < HEADER.size:
        return None
    magic, state, body, tail, _, digest = HEADER.unpack(raw)
    head = Head(body=body, tail=tail, digest=digest)
    whole = magic == MAGIC and state == WHOLE and tail >= 8 and head.size <= os.fstat(fd).st_size
    return head if whole else None


def facts(fd: int, head: Head) -> Facts | None:
    """Of what it is a copy; None for one that is damaged, or is being overwritten. Raises OSError."""
    at = BODY + head.body
    length = int.from_bytes(os.pread(fd, 8, at), "little")
    if length > min(head.tail, HEAD_MAX):
        return None
    with suppress(ValueError, KeyError, TypeError):
        return Facts(**json.loads(os.pread(fd, length, at + 8))["facts"])
    return None


def begin(fd: int) -> None:
    """What is in the file is a copy no more: another one is being written. Raises OSError."""
    os.pwrite(fd, HEADER.pack(MAGIC, WRITING, 0, 0, 0, bytes(16)), 0)


def finish(fd: int, head: Head, *, fetched: bool) -> None:
    """All bytes are there, as another node had them. Raises OSError."""
    os.pwrite(fd, SENT.pack(0, 0), SENT_AT)
    os.pwrite(fd, FETCHED.pack(head.mark if fetched else 0), FETCHED_AT)
    os.pwrite(fd, head.packed(), 0)


def note_sent(fd: int, mark: int, took_s: float) -> None:
    """This copy is on another node (0: none is), and how long sending one takes. Raises OSError."""
    os.pwrite(fd, SENT.pack(mark, max(1, round(took_s * 1e6))), SENT_AT)

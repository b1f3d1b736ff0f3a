"""How far do the files reach that W&B wrote offline? Its log is LevelDB's: blocks of 32 KiB, records cut at their ends.

A file that its writer did not close ends anywhere; what is whole of it counts.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

BLOCK = 32768
FILE_HEAD, HEAD = 7, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(raw: bytes) -> Iterator[bytes]:
    """Every whole record of a .wandb file, in order; what follows a damaged one is left out."""
    parts: list[bytes] = []
    offset = FILE_HEAD
    while offset + HEAD <= len(raw):
        room = BLOCK - offset % BLOCK
        if room < HEAD:
            offset += room
            continue
        crc = int.from_bytes(raw[offset : offset + 4], "little")
        size, kind = int.from_bytes(raw[offset + 4 : offset + 6], "little"), raw[offset + 6]
        body = raw[offset + HEAD : offset + HEAD + size]
        if len(body) < size or crc != zlib.crc32(bytes([kind]) + body) or not FULL <= kind <= LAST:
            return
        offset += HEAD + size
        parts = [body] if kind in (FULL, FIRST) else [*parts, body]
        if kind in (FULL, LAST):
            yield b"".join(parts)


def files(folder: Path, run: str) -> list[Path]:
    """Those of one run, oldest first; empty ones, of a client that was killed at its start, are left out."""
    found = (folder / "wandb").glob(f"offline-run-*-{run}/run-{run}.wandb")
    return sorted(path for path in found if path.stat().st_size > FILE_HEAD)

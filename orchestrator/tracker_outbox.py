"""Where do lines wait until every tracker has them? One file for each run, that is only appended to.

The last line of a batch carries the place in the journal that the batch reaches, and is on disk before anybody delivers
the batch. A batch without it was never written: whoever died over it reads the journal from the place before again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from orchestrator.tracker_lines import Line, Place, dumped, parsed

FILE = "rows.jsonl"
BLOCK_BYTES = 1 << 22
_PLACE = b'"place":'


class Outbox:
    """The writing end. One process has it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE
        self._file = self.path.open("ab+")
        self.count, self.place = self._recover()

    def append(self, lines: Sequence[Line], place: Place) -> None:
        """Write a batch, durably. Without a line, the place alone is not worth one."""
        if not lines:
            return
        last = len(lines) - 1
        texts = [dumped(line, place if n == last else None) for n, line in enumerate(lines)]
        self._file.write(("\n".join(texts) + "\n").encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self.count += len(lines)
        self.place = place

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _recover(self) -> tuple[int, Place]:
        """Cut off what no place follows; how many lines there are, and the last place."""
        self._file.seek(0)
        good, count, end, last = 0, 0, 0, b""
        for number, raw in enumerate(self._file, 1):
            end += len(raw)
            if raw.endswith(b"\n") and _PLACE in raw:
                good, count, last = end, number, raw
        self._file.truncate(good)
        place = parsed(last.decode())[1] if last else None
        return count, place or Place()


class Reader:
    """The reading end: lines from `start` on, each with its number. Any number of processes have one."""

    def __init__(self, folder: Path, start: int = 0) -> None:
        self._path = folder / FILE
        self._start = start
        self._offset = 0
        self.count = 0
        """lines that were seen"""

    def more(self) -> list[tuple[int, Line]]:
        """What was added since the last call, some at a time; nothing when it was all given. A batch is given whole."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                return self._next(file)
        except FileNotFoundError:
            return []

    def _next(self, file: BinaryIO) -> list[tuple[int, Line]]:
        raw = b""
        while block := file.read(BLOCK_BYTES):
            whole = _whole(raw + block)
            raw = (raw + block)[len(whole) :]
            texts = whole.splitlines()
            first = self.count
            self.count += len(texts)
            self._offset += len(whole)
            skipped = max(0, self._start - first)
            if texts[skipped:]:
                return [(n, parsed(text.decode())[0]) for n, text in enumerate(texts[skipped:], first + skipped)]
        return []


def _whole(raw: bytes) -> bytes:
    """Up to the end of the last batch."""
    found = raw.rfind(_PLACE)
    end = -1 if found < 0 else raw.find(b"\n", found)
    if found >= 0 and end < 0:  # its last line is being written
        return _whole(raw[: raw.rfind(b"\n", 0, found) + 1])
    return raw[: end + 1]

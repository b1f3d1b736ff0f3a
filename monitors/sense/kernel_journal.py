"""What does journald have of the kernel's log? Read through `journalctl`, which needs no more than a group."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from monitors.sense.kernel_sources import CHUNK_BYTES, Line, Lines

JSON_BYTES = 64 << 10
"""of one entry; a message of the kernel has 1 KiB"""
FOLDERS = (Path("/var/log/journal"), Path("/run/log/journal"))
_STOP_S = 1.0


class Journal:
    """The journal's entries of the kernel since this boot, followed by a child."""

    def __init__(self, *, lookback_s: float, program: str = "journalctl", folders: tuple[Path, ...] = FOLDERS) -> None:
        self.name, self.lost, self.more = "the journal", 0, False
        self._program, self._folders, self._lookback_s = program, folders, lookback_s
        self._child: subprocess.Popen[bytes] | None = None
        self._lines = Lines(JSON_BYTES)
        self._cursor: str | None = None

    def open(self, now: float) -> None:
        """Start to follow. Raises OSError when there is no program, or nothing that it may read: it would be silent."""
        program = shutil.which(self._program)
        if program is None:
            raise FileNotFoundError(errno.ENOENT, f"no {self._program}")
        system = [file for folder in self._folders for file in folder.glob("*/system.journal")]
        if not any(os.access(file, os.R_OK) for file in system):
            raise PermissionError(errno.EACCES, "its files may not be read" if system else "it keeps no files here")
        begin = f"--since=@{now - self._lookback_s:.0f}" if self._cursor is None else f"--after-cursor={self._cursor}"
        self._lines = Lines(JSON_BYTES)
        self._child = subprocess.Popen(
            [program, "--dmesg", "--follow", "--output=json", "--no-pager", "--quiet", "--no-tail", begin],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._child.stdout is not None
        os.set_blocking(self._child.stdout.fileno(), False)

    def read(self, now: float) -> list[Line]:
        """Entries since the last read. Raises OSError when the child ended."""
        assert self._child is not None
        assert self._child.stdout is not None
        try:
            chunk = os.read(self._child.stdout.fileno(), CHUNK_BYTES)
        except BlockingIOError:
            self.more = False
            return []
        if not chunk:
            raise OSError(errno.EPIPE, f"{self._program} ended with {self._child.poll()}")
        self.more = len(chunk) == CHUNK_BYTES
        found = [self._entry(line, now) for line in self._lines.feed(chunk)]
        return [line for line in found if line is not None]

    def _entry(self, raw: bytes, now: float) -> Line | None:
        try:
            entry = json.loads(raw)
        except (ValueError, RecursionError):
            return None
        if not isinstance(entry, dict):
            return None
        if isinstance(cursor := entry.get("__CURSOR"), str):
            self._cursor = cursor
        text = _text(entry.get("MESSAGE"))
        return None if text is None else Line(at=min(_seconds(entry, now), now), text=text)

    def close(self) -> None:
        """End the child."""
        if self._child is None:
            return
        self._child.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(_STOP_S)
        self._child.kill()
        self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()
        self._child = None


def _text(message: Any) -> str | None:
    """A message that is no text comes as its bytes; one that is too long does not come."""
    if isinstance(message, str):
        return message
    if isinstance(message, list) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in message):
        return bytes(message).decode(errors="replace")
    return None


def _seconds(entry: dict[str, Any], now: float) -> float:
    stamp = entry.get("__REALTIME_TIMESTAMP")
    return int(stamp) / 1e6 if isinstance(stamp, str) and stamp.isdecimal() and len(stamp) < 20 else now

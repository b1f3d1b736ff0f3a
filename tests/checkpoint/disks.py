"""File systems that fail: at one call, from one call on, or by losing power."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from lastgood.files import Files


class Crash(BaseException):
    """The process is gone: not an Exception, nothing may handle it."""


class CountingDisk(Files):
    """Counts the calls; `_reached` is where the others fail."""

    def __init__(self) -> None:
        self.calls = 0

    def _reached(self, what: str, path_or_fd: str | int) -> None:  # noqa: ARG002 - for those who fail
        self.calls += 1

    def exists(self, path: str) -> bool:
        self._reached("exists", path)
        return super().exists(path)

    def make_folder(self, path: str) -> None:
        self._reached("make_folder", path)
        super().make_folder(path)

    def create(self, path: str) -> int:
        self._reached("create", path)
        return super().create(path)

    def write(self, fd: int, data: memoryview) -> int:
        self._reached("write", fd)
        # Short, as a disk may be: the rest must be written by another call.
        return super().write(fd, data if len(data) < 4096 else data[: len(data) // 2])

    def fsync(self, fd: int) -> None:
        self._reached("fsync", fd)
        super().fsync(fd)

    def close(self, fd: int) -> None:
        self._reached("close", fd)
        super().close(fd)

    def sync_folder(self, path: str) -> None:
        self._reached("sync_folder", path)
        super().sync_folder(path)

    def rename(self, old: str, new: str) -> None:
        self._reached("rename", old)
        super().rename(old, new)

    def remove_tree(self, path: str) -> None:
        self._reached("remove_tree", path)
        super().remove_tree(path)


class FailingDisk(CountingDisk):
    """Answers one call with an error; a descriptor that cannot be closed is closed nevertheless, as Linux does."""

    def __init__(self, fails_at: int, error: int = errno.EIO) -> None:
        super().__init__()
        self.failed = ""
        self._fails_at = fails_at
        self._error = error

    def _reached(self, what: str, path_or_fd: str | int) -> None:
        super()._reached(what, path_or_fd)
        if self.calls == self._fails_at:
            self.failed = what
            if what == "close":
                os.close(int(path_or_fd))
            raise OSError(self._error, os.strerror(self._error))


class CrashingDisk(CountingDisk):
    """The process dies at one call, a write being half done; nothing after it happens."""

    def __init__(self, crashes_at: int) -> None:
        super().__init__()
        self._crashes_at = crashes_at
        self._open: set[int] = set()

    def _reached(self, what: str, path_or_fd: str | int) -> None:
        super()._reached(what, path_or_fd)
        if self.calls >= self._crashes_at:
            for fd in self._open:
                os.close(fd)
            self._open.clear()
            raise Crash(what)

    def create(self, path: str) -> int:
        fd = super().create(path)
        self._open.add(fd)
        return fd

    def write(self, fd: int, data: memoryview) -> int:
        if self.calls + 1 == self._crashes_at:
            os.write(fd, data[: len(data) // 2])
        return super().write(fd, data)

    def close(self, fd: int) -> None:
        self._open.discard(fd)
        super().close(fd)


class PowerCut(CrashingDisk):
    """The machine dies at one call: bytes that were not synced may be lost, and a name that was not synced with its
    folder may be there or not, each by the seed."""

    def __init__(self, crashes_at: int, seed: int) -> None:
        super().__init__(crashes_at)
        self._draw = random.Random(seed)
        self._undo: list[tuple[str, Callable[[], None]]] = []
        self._moved: dict[str, str] = {}
        self._paths: dict[int, str] = {}
        self._unsynced: set[str] = set()

    def make_folder(self, path: str) -> None:
        super().make_folder(path)
        self._undo.append((os.path.dirname(path), lambda: shutil.rmtree(self._now(path), ignore_errors=True)))

    def create(self, path: str) -> int:
        fd = super().create(path)
        self._paths[fd] = path
        self._undo.append((os.path.dirname(path), lambda: Path(self._now(path)).unlink(missing_ok=True)))
        return fd

    def write(self, fd: int, data: memoryview) -> int:
        self._unsynced.add(self._paths[fd])
        return super().write(fd, data)

    def fsync(self, fd: int) -> None:
        super().fsync(fd)
        self._unsynced.discard(self._paths[fd])

    def sync_folder(self, path: str) -> None:
        super().sync_folder(path)
        self._undo = [(folder, undo) for folder, undo in self._undo if self._now(folder) != path]

    def rename(self, old: str, new: str) -> None:
        super().rename(old, new)
        self._moved[old] = new
        self._undo.append((os.path.dirname(old), lambda: self._move_back(old)))

    def lose_power(self) -> None:
        """Leave what the disk holds when the machine is up again."""
        for path in sorted(self._unsynced):
            if os.path.exists(self._now(path)):
                os.truncate(self._now(path), self._draw.randint(0, os.path.getsize(self._now(path))))
        for _, undo in reversed(self._undo):
            if self._draw.random() < 0.5:
                undo()

    def _move_back(self, old: str) -> None:
        folder, name = os.path.split(old)
        now = self._moved.pop(old)
        os.rename(os.path.join(self._now(folder), os.path.basename(now)), os.path.join(self._now(folder), name))

    def _now(self, path: str) -> str:
        """Where what was created under this name is now: it, or a folder above it, may have been renamed."""
        for old, new in self._moved.items():
            if path == old or path.startswith(old + "/"):
                path = new + path[len(old) :]
        return path

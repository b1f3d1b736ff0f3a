"""Which calls reach the disk while a checkpoint is written?

All of them go through `Files`, so that a test can fail, or end the process, at every single one of them.
"""

from __future__ import annotations

import os
import shutil

import xxhash

from lastgood.manifest import Entry

BUFFER_BYTES = 1 << 20
"""small writes are collected up to this size (torch.save makes about ten tiny ones a tensor), large ones are cut
into pieces of it, so that a piece is still in the processor's cache when it is written after being hashed"""


class Files:
    """The file system. Every method raises OSError as the call of the same name does."""

    def exists(self, path: str) -> bool:
        """Whether anything is there; a folder that cannot be looked into raises."""
        try:
            os.lstat(path)
        except FileNotFoundError:
            return False
        return True

    def make_folder(self, path: str) -> None:
        """One folder in an existing one."""
        os.mkdir(path)

    def create(self, path: str) -> int:
        """A descriptor of a new file; what exists is never overwritten."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    def write(self, fd: int, data: memoryview) -> int:
        """Bytes written, which may be fewer than given."""
        return os.write(fd, data)

    def fsync(self, fd: int) -> None:
        """The file's bytes are durable."""
        os.fsync(fd)

    def close(self, fd: int) -> None:
        """Network file systems report late write errors here."""
        os.close(fd)

    def sync_folder(self, path: str) -> None:
        """The folder's names are durable."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, old: str, new: str) -> None:
        """Atomically for every reader."""
        os.rename(old, new)

    def remove_tree(self, path: str) -> None:
        """A folder and all in it; nothing happens when it is gone."""
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            return


def make_folders(files: Files, path: str) -> None:
    """Make a folder and its missing parents, each durable in its own parent."""
    if files.exists(path):
        return
    parent = os.path.dirname(path)
    make_folders(files, parent)
    try:
        files.make_folder(path)
    except FileExistsError:
        return  # another rank or run was faster
    files.sync_folder(parent)


class DigestedFile:
    """One new file, hashed on its way: what the disk holds later can be compared with what was meant, not with
    what was read back. It looks enough like a binary stream for torch.save and pickle.
    """

    def __init__(self, files: Files, path: str) -> None:
        self._files = files
        self._fd = files.create(path)
        self._hash = xxhash.xxh3_128()
        self._written = 0
        self._pending = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take all of `data`."""
        view = memoryview(data).cast("B")
        if len(self._pending) + len(view) >= BUFFER_BYTES:
            self._put_pending()
        if len(view) >= BUFFER_BYTES:
            self._put(view)
        else:
            self._pending += view
        return len(view)

    def tell(self) -> int:
        """Bytes taken so far."""
        return self._written + len(self._pending)

    def flush(self) -> None:
        """Nothing: torch flushes after each tensor, which would make a system call of each; `seal` is what counts."""

    def close(self) -> None:
        """Nothing, for the same reason."""

    def seal(self) -> Entry:
        """Make it durable; its size and digest as they were meant."""
        self._put_pending()
        self._files.fsync(self._fd)
        fd, self._fd = self._fd, -1
        self._files.close(fd)
        return Entry(bytes=self._written, xxh3_128=self._hash.hexdigest())

    def abandon(self) -> None:
        """Let go of the descriptor after a failure."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._files.close(fd)

    def _put_pending(self) -> None:
        pending, self._pending = self._pending, bytearray()
        self._put(memoryview(pending))

    def _put(self, view: memoryview) -> None:
        for start in range(0, len(view), BUFFER_BYTES):
            piece = view[start : start + BUFFER_BYTES]
            self._hash.update(piece)
            while piece:
                done = self._files.write(self._fd, piece)
                self._written += done
                piece = piece[done:]


def write_file(files: Files, path: str, body: bytes) -> Entry:
    """A new durable file with these bytes."""
    file = DigestedFile(files, path)
    try:
        file.write(body)
        return file.seal()
    except OSError:
        abandon(file)
        raise


def abandon(file: DigestedFile) -> None:
    """Let go of a file whose writing failed; that failure is the one to tell, not this one."""
    try:
        file.abandon()
    except OSError:
        return

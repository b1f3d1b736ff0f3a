"""How do torch.distributed.checkpoint's files come to the disk through our file system, hashed on the way?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.distributed.checkpoint.filesystem import FileSystemBase, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult

from lastgood.files import DigestedFile, Files, abandon
from lastgood.manifest import Entry


class _Disk(FileSystemBase):
    """What FileSystemWriter believes to be the file system: it creates files and renames `.metadata`, no more."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.entries: dict[str, Entry] = {}

    @contextmanager
    def create_stream(self, path: Any, mode: str) -> Iterator[Any]:
        assert mode == "wb", mode
        file = DigestedFile(self._files, os.fspath(path))
        try:
            yield file
            self.entries[os.path.basename(path)] = file.seal()
        except Exception:
            abandon(file)
            raise

    def concat_path(self, path: Any, suffix: str) -> str:
        return f"{path}/{suffix}"

    def init_path(self, path: Any) -> str:
        return str(path)

    def rename(self, path: Any, new_path: Any) -> None:
        self._files.rename(os.fspath(path), os.fspath(new_path))
        self.entries[os.path.basename(new_path)] = self.entries.pop(os.path.basename(path))

    def mkdir(self, path: Any) -> None:
        """Nothing: the coordinator makes the folder once, before any rank writes."""

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        return isinstance(checkpoint_id, str)

    def exists(self, path: Any) -> bool:  # noqa: ARG002 - the signature is torch's
        """Nothing is there: the folder is new, and creating refuses what exists."""
        return False

    def rm_file(self, path: Any) -> None:
        raise AssertionError(f"nothing of {path} exists to be removed")


class ShardWriter(FileSystemWriter):
    """Writes this rank's shard and, on the coordinator, `.metadata`; remembers size and digest of each."""

    def __init__(self, path: str, files: Files) -> None:
        # Syncing is the stream's: it goes through `files`. Staged tensors are on the CPU: nothing to copy ahead.
        super().__init__(path, single_file_per_rank=True, sync_files=False, per_thread_copy_ahead=0)
        self._disk = _Disk(files)
        self.fs = self._disk  # type: ignore[assignment]
        self.path = path

    @property
    def entries(self) -> dict[str, Entry]:
        """The files this rank made durable so far."""
        return self._disk.entries

    def write_shard(self, plan: SavePlan, planner: SavePlanner) -> list[WriteResult]:
        """Write and make durable what the plan gives this rank."""
        return self.write_data(planner.finish_plan(plan), planner).wait()

    def write_metadata(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Write and make durable the table of contents (coordinator only)."""
        self.finish(metadata, results)

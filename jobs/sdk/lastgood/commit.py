"""How do the plans and bytes of one save become a checkpoint that is either whole or not there?

    plan      the coordinator makes `NAME.writing/` and tells each participant its part
    write     each writes its shards, hashed on the way, and makes them durable
    commit    the coordinator writes `.metadata` and `manifest.json`, makes them and the folder's names durable, renames
              the folder to NAME, and makes that durable; only then is the checkpoint noted as committed

A process that dies anywhere in between leaves a folder whose name says that it is not whole. A participant that cannot
write says so to the others, who give the save up with it; training goes on. Who takes part are the ranks of a world,
each with its own shard (`saving.py`), or the savers of its nodes, each with all shards of its node (`saver.py`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import torch
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult

from lastgood.files import Files, make_folders, write_file
from lastgood.manifest import MANIFEST, WRITING, Entry, Manifest, Name, encode
from lastgood.meeting import Left
from lastgood.notes import made
from lastgood.peers import Failure, RoundFailed, Rounds
from lastgood.shards import ShardWriter

T = TypeVar("T")
R = TypeVar("R")
AT_ONCE = 4
"""shards that one participant writes at the same time"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one rank may have to write."""

    plan: SavePlan
    planner: SavePlanner
    """knows the bytes of every item of the plan"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """One save on its way, as one participant has it."""

    folder: str
    run: str
    name: Name
    data_index: int
    saved_at: float
    stall_s: float

    @property
    def path(self) -> str:
        """Of the checkpoint that it is to be."""
        return os.path.join(self.folder, str(self.name))

    @property
    def writing(self) -> str:
        """Where it is until then."""
        return self.path + WRITING


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a save, as one participant has to tell it."""

    committed: dict[str, Any] | None = None
    """the note of it, on the coordinator"""
    failure: Failure | None = None
    replaced: str = ""
    """why it was never begun"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shard:
    """What was written for one rank."""

    results: list[WriteResult]
    entries: dict[str, Entry]


class Commit:
    """One save from its plans to its name. Every participant runs it."""

    def __init__(self, save: Save, parts: Callable[[], Sequence[Part]], peers: Rounds, files: Files) -> None:
        """`parts` gives those of this participant's ranks, in their order; what it raises fails the save."""
        self._save = save
        self._load = parts
        self._peers = peers
        self._files = files
        self._parts: Sequence[Part] = ()
        self._writers: list[ShardWriter] = []

    def run(self) -> Outcome:
        """Never raises what the storage does."""
        try:
            return self._run_rounds()
        except RoundFailed as error:
            failure = error.failure
        except RuntimeError as error:
            # The others are lost: dead, or standing still. One says so; the folder is left to the next world to clean,
            # for a living peer may still be writing into it.
            return Outcome(failure=Failure(rank=0, why=f"those that save lost each other: {error}"))
        self._discard()
        return Outcome(failure=failure)

    def _run_rounds(self) -> Outcome:
        try:
            mine = self._peers.round(self._local_plans, self._plan)
        except Left as error:
            return Outcome(replaced=str(error))
        plans, metadata = mine
        committed = self._peers.round(lambda: self._write(plans), lambda shards: self._commit(metadata, shards))
        return Outcome(committed=committed)

    def _local_plans(self) -> list[SavePlan]:
        self._parts = self._load()
        self._writers = [ShardWriter(self._save.writing, self._files) for _ in self._parts]
        for writer in self._writers:
            writer.set_up_storage_writer(self._peers.coordinates)
        return [writer.prepare_local_plan(part.plan) for writer, part in zip(self._writers, self._parts, strict=True)]

    def _plan(self, plans: list[list[SavePlan]]) -> list[tuple[list[SavePlan], Metadata | None]]:
        save, files = self._save, self._files
        make_folders(files, save.folder)
        if files.exists(save.path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), save.path)
        files.remove_tree(save.writing)  # of this very world: an earlier try at the same step
        files.make_folder(save.writing)
        merged, metadata = self._parts[0].planner.create_global_plan([plan for some in plans for plan in some])
        final = iter(self._writers[0].prepare_global_plan(merged))
        answers: list[tuple[list[SavePlan], Metadata | None]] = [
            (list(islice(final, len(some))), None) for some in plans
        ]
        answers[0] = answers[0][0], metadata
        return answers

    def _write(self, plans: list[SavePlan]) -> list[_Shard]:
        return side_by_side(lambda one: _written(*one), list(zip(self._writers, plans, self._parts, strict=True)))

    def _commit(self, metadata: Metadata | None, shards: list[list[_Shard]]) -> Sequence[dict[str, Any] | None]:
        assert metadata is not None
        save, first = self._save, self._writers[0]
        every = [shard for some in shards for shard in some]
        first.write_metadata(metadata, [shard.results for shard in every])
        entries = {name: entry for shard in every for name, entry in shard.entries.items()} | first.entries
        manifest = self._manifest(len(every), entries)
        write_file(self._files, os.path.join(save.writing, MANIFEST), encode(manifest))
        self._files.sync_folder(save.writing)
        self._rename()
        committed = made(
            "committed",
            checkpoint=manifest.name,
            step=manifest.step,
            bytes=manifest.bytes,
            saved_at=manifest.saved_at,
            stall_s=save.stall_s,
        )
        return [committed, *[None] * (len(shards) - 1)]

    def _rename(self) -> None:
        save = self._save
        self._files.rename(save.writing, save.path)
        try:
            self._files.sync_folder(save.folder)
        except OSError:
            # Whole, but nobody would ever be told of it, and so nobody would delete it.
            self._files.rename(save.path, save.writing)
            raise

    def _manifest(self, world_size: int, entries: dict[str, Entry]) -> Manifest:
        save = self._save
        return Manifest(
            run=save.run,
            attempt=save.name.attempt,
            world=save.name.world,
            step=save.name.step,
            world_size=world_size,
            data_index=save.data_index,
            saved_at=save.saved_at,
            torch=str(torch.__version__),
            files=entries,
        )

    def _discard(self) -> None:
        """Best effort: a name that ends in `.writing` is never taken for a checkpoint."""
        if not self._peers.coordinates:
            return
        try:
            self._files.remove_tree(self._save.writing)
        except OSError:
            return


def side_by_side(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """The work done on each item, in threads where there are several."""
    if len(items) == 1:
        return [work(items[0])]
    with ThreadPoolExecutor(min(AT_ONCE, len(items))) as pool:
        return list(pool.map(work, items))


def _written(writer: ShardWriter, plan: SavePlan, part: Part) -> _Shard:
    return _Shard(results=writer.write_shard(plan, part.planner), entries=writer.entries)

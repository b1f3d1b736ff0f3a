"""How does a state become a checkpoint that is either whole or not there?

    stage     the step pays for one copy of this rank's shard; all that follows runs beside training
    plan      the coordinator makes `NAME.writing/` and tells each rank its part
    write     each rank writes its shard, hashed on the way, and makes it durable
    commit    the coordinator writes `.metadata` and `manifest.json`, makes them and the folder's names durable, renames
              the folder to NAME, and makes that durable; only then is the checkpoint noted as committed

A process that dies anywhere in between leaves a folder whose name says that it is not whole. A rank that cannot write
says so to the others, who give the save up with it; training goes on.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan
from torch.distributed.checkpoint.storage import WriteResult

from lastgood.files import Files, make_folders, write_file
from lastgood.manifest import MANIFEST, WRITING, Entry, Manifest, Name, encode
from lastgood.notes import Note, made
from lastgood.peers import Failure, Peers, RoundFailed
from lastgood.shards import ShardWriter
from lastgood.snapshot import State, capture
from lastgood.staging import Buffers, StagedPlanner


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shard:
    """What one rank wrote."""

    results: list[WriteResult]
    entries: dict[str, Entry]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Save:
    """One save on its way."""

    path: str
    name: Name
    data_index: int
    saved_at: float
    stall_s: float
    planner: StagedPlanner
    plan: SavePlan
    writer: ShardWriter

    @property
    def writing(self) -> str:
        return self.path + WRITING


class Saver:
    """Saves the state of one world, at most one save at a time. Making one is a collective.

    `note` hears `committed` (on the coordinator) and `save_failed` (on the rank that failed), from the saving thread.
    """

    def __init__(
        self,
        folder: str,
        *,
        run: str,
        attempt: int,
        world: int,
        rank: int,
        world_size: int,
        note: Note,
        files: Files | None = None,
    ) -> None:
        self._folder = os.path.abspath(folder)
        self._run = run
        self._attempt = attempt
        self._world = world
        self._note = note
        self._files = files or Files()
        self._peers = Peers(rank, world_size)
        self._buffers: Buffers = {}
        self._thread: threading.Thread | None = None
        self._broken: BaseException | None = None

    def save(self, step: int, state: State, data_index: int) -> float:
        """Copy the state and save it beside training; the seconds that the caller waited.

        Every rank calls it with the same `step`, the last finished one, and `data_index`, that of the next batch.
        Raises what the user's own state raises when it is asked for its parts; never OSError.
        """
        began = time.monotonic()
        self.wait()
        name = Name(step=step, attempt=self._attempt, world=self._world)
        path = os.path.join(self._folder, str(name))
        planner = StagedPlanner(self._buffers)
        tree = capture(state, self._peers.rank)
        plan = planner.stage(tree, is_coordinator=self._peers.coordinates)
        stall_s = time.monotonic() - began
        save = _Save(
            path=path,
            name=name,
            data_index=data_index,
            saved_at=time.time(),
            stall_s=stall_s,
            planner=planner,
            plan=plan,
            writer=ShardWriter(path + WRITING, self._files),
        )
        # A daemon: a process that ends without `wait` leaves an unfinished save behind, and does not hang on it.
        self._thread = threading.Thread(target=self._finish, args=(save,), name="lastgood-save", daemon=True)
        self._thread.start()
        return stall_s

    @property
    def peers(self) -> Peers:
        """The ranks that save together: to be asked only after `wait`, and before the next save."""
        return self._peers

    def wait(self) -> None:
        """Until no save is on its way."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._broken is not None:
            raise self._broken

    def close(self) -> None:
        """Finish what is on its way and leave the other ranks."""
        self.wait()
        self._peers.leave()

    def _finish(self, save: _Save) -> None:
        try:
            committed = self._commit_or_give_up(save)
            if committed is not None:
                self._note(committed)
        except BaseException as error:  # a thread's exception would vanish: the next `wait` raises it
            self._broken = error

    def _commit_or_give_up(self, save: _Save) -> dict[str, Any] | None:
        try:
            return self._run_rounds(save)
        except RoundFailed as error:
            failure = error.failure
        except RuntimeError as error:
            # The group itself broke because a rank died or stands still: one rank says so, the folder is left to the
            # next world to clean, for a living peer may still be writing into it.
            self._note_failure(save, Failure(rank=0, why=f"the ranks lost each other: {error}"))
            return None
        self._discard(save)
        self._note_failure(save, failure)
        return None

    def _run_rounds(self, save: _Save) -> dict[str, Any] | None:
        save.writer.set_up_storage_writer(self._peers.coordinates)
        plan, metadata = self._peers.round(
            lambda: save.writer.prepare_local_plan(save.plan), lambda plans: self._plan(save, plans)
        )
        return self._peers.round(
            lambda: _Shard(results=save.writer.write_shard(plan, save.planner), entries=save.writer.entries),
            lambda shards: self._commit(save, metadata, shards),
        )

    def _plan(self, save: _Save, plans: list[SavePlan]) -> list[tuple[SavePlan, Metadata | None]]:
        files = self._files
        make_folders(files, self._folder)
        if files.exists(save.path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), save.path)
        files.remove_tree(save.writing)  # of this very world: an earlier try at the same step
        files.make_folder(save.writing)
        merged, metadata = save.planner.create_global_plan(plans)
        final = save.writer.prepare_global_plan(merged)
        return [(final[0], metadata), *((plan, None) for plan in final[1:])]

    def _commit(self, save: _Save, metadata: Metadata | None, shards: list[_Shard]) -> Sequence[dict[str, Any] | None]:
        assert metadata is not None
        save.writer.write_metadata(metadata, [shard.results for shard in shards])
        entries = {name: entry for shard in shards for name, entry in shard.entries.items()} | save.writer.entries
        manifest = self._manifest(save, entries)
        write_file(self._files, os.path.join(save.writing, MANIFEST), encode(manifest))
        self._files.sync_folder(save.writing)
        self._rename(save)
        committed = made(
            "committed",
            checkpoint=manifest.name,
            step=manifest.step,
            bytes=manifest.bytes,
            saved_at=manifest.saved_at,
            stall_s=save.stall_s,
        )
        return [committed, *[None] * (len(shards) - 1)]

    def _rename(self, save: _Save) -> None:
        self._files.rename(save.writing, save.path)
        try:
            self._files.sync_folder(self._folder)
        except OSError:
            # Whole, but nobody would ever be told of it, and so nobody would delete it.
            self._files.rename(save.path, save.writing)
            raise

    def _manifest(self, save: _Save, entries: dict[str, Entry]) -> Manifest:
        return Manifest(
            run=self._run,
            attempt=self._attempt,
            world=self._world,
            step=save.name.step,
            world_size=self._peers.world_size,
            data_index=save.data_index,
            saved_at=save.saved_at,
            torch=str(torch.__version__),
            files=entries,
        )

    def _discard(self, save: _Save) -> None:
        """Best effort: a name that ends in `.writing` is never taken for a checkpoint."""
        if not self._peers.coordinates:
            return
        try:
            self._files.remove_tree(save.writing)
        except OSError:
            return

    def _note_failure(self, save: _Save, failure: Failure) -> None:
        if failure.rank == self._peers.rank:
            self._note(made("save_failed", step=save.name.step, why=failure.why, errno=failure.errno))

"""Which of these checkpoints is whole, and how does it come back into the user's state?

For each candidate, newest first: the ranks share the work of hashing its files and agree that all of them are as they
were written; only then does a byte of it reach a model, read from the very files that were hashed. One that is damaged,
or that one of them cannot read, is noted and the next one tried, with model and optimizer untouched.
"""

from __future__ import annotations

import os
import pickle
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata

from lastgood import manifest
from lastgood.manifest import METADATA, CheckpointDamaged, CheckpointUnreadable, CheckpointUnusable, Manifest
from lastgood.notes import Note, made
from lastgood.peers import Peers, RoundFailed
from lastgood.snapshot import OURS, State, Tree, apply, template

_SHARD = re.compile(r"__(\d+)_\d+\.distcp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """Where the state stands now."""

    checkpoint: str
    step: int
    """last finished step"""
    data_index: int
    """index of the next batch to be fed, when the checkpoint was saved"""
    unread: tuple[str, ...] = ()
    """newer ones that were passed over though they may be whole, each with why"""


class RestoreFailed(Exception):
    """A whole checkpoint could not be brought into this state; every rank raises it."""


def restore(
    folder: str,
    candidates: Sequence[tuple[str, int]],
    state: State,
    *,
    rank: int,
    world_size: int,
    note: Note,
) -> Restored | None:
    """Fill `state` from the first of the candidates (name, step), newest first, that is whole; None when none is.

    A name is meant from `folder`; that of another run's checkpoint is its whole path.

    A collective: every rank calls it with the same candidates. Whatever the world size was at saving, each rank gets
    its part. `note` hears `refused` for each damaged candidate, on the lowest rank that found the damage, and `unread`
    for each that some rank could not read, on the lowest of them, unless another one found it damaged.
    Raises CheckpointUnreadable on every rank, with the state untouched, when none is whole as far as they can be read:
    one that cannot may be, so that nobody should start over.
    Raises RestoreFailed, with the state in pieces, when a whole checkpoint does not fit the state (another model) or
    the storage fails between being hashed and being read: starting over is then the supervisor's to decide.
    """
    unread: list[CheckpointUnreadable] = []
    with Peers(rank, world_size) as peers:
        for name, _ in candidates:
            try:
                restored = _restore_one(folder, name, state, peers, note)
            except CheckpointUnreadable as error:
                unread.append(error)
                continue
            if restored is not None:
                return replace(restored, unread=tuple(map(str, unread)))
    if unread:
        raise unread[0]
    return None


def _restore_one(folder: str, name: str, state: State, peers: Peers, note: Note) -> Restored | None:
    with ExitStack() as stack:
        opened = _opened_by_all(folder, name, peers, stack, note)
        return None if opened is None else _load(opened, state, peers)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """A checkpoint that all ranks found whole."""

    path: str
    manifest: Manifest
    metadata: Metadata
    files: dict[str, BinaryIO]
    """what this rank hashed, still open: the same file is read later, whatever its name means by then"""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class _Trouble:
    """Why one rank cannot use a checkpoint; damage comes first, for it is certain, and then the lowest rank."""

    is_unread: bool
    rank: int
    file: str
    why: str


def _opened_by_all(folder: str, name: str, peers: Peers, stack: ExitStack, note: Note) -> _Opened | None:
    """None when it is damaged. Raises CheckpointUnreadable on every rank when one of them cannot read it."""
    opened: _Opened | None = None
    trouble: CheckpointUnusable | None = None
    try:
        opened = _open(os.path.join(folder, name), peers, stack)
    except CheckpointUnusable as error:
        trouble = error
    troubles = [one for one in peers.all(lambda: _told(trouble, peers.rank)) if one is not None]
    if not troubles:
        return opened
    first = min(troubles)
    if first.rank == peers.rank:
        _note(name, first, note)
    if first.is_unread:
        raise CheckpointUnreadable(name, first.file, first.why)
    return None


def _told(trouble: CheckpointUnusable | None, rank: int) -> _Trouble | None:
    if trouble is None:
        return None
    is_unread = isinstance(trouble, CheckpointUnreadable)
    return _Trouble(is_unread=is_unread, rank=rank, file=trouble.file, why=trouble.why)


def _note(name: str, trouble: _Trouble, note: Note) -> None:
    why = f"{trouble.file}: {trouble.why}"
    note(made("unread" if trouble.is_unread else "refused", checkpoint=name, why=why))
    if trouble.is_unread:  # nobody makes an incident of it, so that it has to stand where a person looks
        print(f"lastgood: {name} was passed over, and may be whole: {why}", file=sys.stderr, flush=True)


def _open(path: str, peers: Peers, stack: ExitStack) -> _Opened:
    """Hash this rank's share of the files. Raises CheckpointUnusable."""
    whole = manifest.read(path)
    if peers.coordinates:
        manifest.check_layout(path, whole)
    if METADATA not in whole.files:
        raise CheckpointDamaged(whole.name, METADATA, "is missing")
    files: dict[str, BinaryIO] = {}
    for name in sorted(whole.files):
        if _hashed_by(name, peers.world_size) in (peers.rank, None):
            files[name] = stack.enter_context(manifest.open_file(path, name, whole.name))
            manifest.check_file(files[name], name, whole)
    return _Opened(path=path, manifest=whole, metadata=_unpickled(files[METADATA], whole.name), files=files)


def _hashed_by(name: str, world_size: int) -> int | None:
    """Which rank hashes a file; None: every rank, because every rank reads it.

    A shard falls to the rank that wrote it, which is the one to read it when the world has the same size again.
    """
    found = _SHARD.fullmatch(name)
    return int(found[1]) % world_size if found else None


def _unpickled(file: BinaryIO, checkpoint: str) -> Metadata:
    try:
        metadata: Metadata = pickle.loads(file.read())
    except OSError as error:
        raise manifest.unreadable(checkpoint, METADATA, error) from None
    return metadata


def _load(opened: _Opened, state: State, peers: Peers) -> Restored:
    found = opened.manifest
    load = _Load(opened, state, peers.rank)
    try:
        # Two rounds: no rank fills its model before every rank knows that the checkpoint fits.
        peers.all(load.plan)
        peers.all(load.fill)
    except RoundFailed as error:
        raise RestoreFailed(f"{found.name} could not be restored: {error}") from error
    return Restored(checkpoint=found.name, step=found.step, data_index=found.data_index)


class _Load:
    """One rank's part of loading a checkpoint that is known to be whole."""

    def __init__(self, opened: _Opened, state: State, rank: int) -> None:
        self._opened = opened
        self._state = state
        self._rank = rank
        self._tree: Tree = {}
        self._planner = DefaultLoadPlanner()
        self._reader = _Reader(opened)

    def plan(self) -> None:
        """Find out what to read and where to; nothing of the model's is changed."""
        metadata = self._opened.metadata
        self._tree = template(self._state, metadata.state_dict_metadata.keys(), self._rank)
        self._planner.set_up_planner(self._tree, metadata)
        _check_fits(self._planner.state_dict.keys(), metadata)
        self._reader.set_up_storage_reader(metadata, is_coordinator=False)
        self._plan = self._planner.create_local_plan()

    def fill(self) -> None:
        """Read it."""
        self._reader.read_data(self._planner.finish_plan(self._plan), self._planner).wait()
        apply(self._state, self._tree, self._opened.manifest.name, self._rank)


def _check_fits(wanted: Collection[str], metadata: Metadata) -> None:
    """The state has all that was saved of its values, and nothing more: torch ignores what has no place to go to."""
    saved = metadata.state_dict_metadata.keys()
    paths = metadata.planner_data
    values = {paths[name][0] for name in saved & set(wanted)} - {OURS}
    surplus = {name for name in saved if paths[name][0] in values}
    for what, names in (("has no", wanted - saved), ("has", surplus - set(wanted))):
        if names:
            some = ", ".join(sorted(names)[:3])
            raise ValueError(f"the checkpoint {what} {some}{f' and {len(names) - 3} more' if len(names) > 3 else ''}")


class _Reader(FileSystemReader):
    """Reads from the files that were hashed."""

    def __init__(self, opened: _Opened) -> None:
        super().__init__(opened.path)
        self.fs = _HashedFiles(opened)


class _HashedFiles(FileSystem):
    """A folder whose files are open already, but for those that other ranks hashed."""

    def __init__(self, opened: _Opened) -> None:
        self._opened = opened

    @contextmanager
    def create_stream(self, path: Any, mode: str) -> Iterator[Any]:
        assert mode == "rb", mode
        name = os.path.basename(path)
        if name in self._opened.files:
            yield self._opened.files[name]
            return
        with open(path, mode) as file:
            if os.fstat(file.fileno()).st_size != self._opened.manifest.files[name].bytes:
                raise OSError(f"{name} changed its size after another rank found it whole")
            yield file

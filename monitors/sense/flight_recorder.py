"""How does an agent hear from a rank's flight recorder? By asking, never by waiting for a crash.

A worker answers a question in the pipe `look` with `collectives.json` (`lastgood/recorder.py`). Where it does not, NCCL
may: it watches a pipe of its own, without the interpreter, and writes a pickle, as it does after a time-out. A worker
that fails of a time-out leaves `last.json`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from monitors.sense.flight_recorder_dump import BYTES_MAX, Dump, parse
from monitors.sense.flight_recorder_pickle import Refused
from monitors.signals import CollectivesLooked

PIPE, ANSWER, LAST = "look", "collectives.json", "last.json"
NCCL_STEM = "fr_"
"""with the rank it names NCCL's dump in the rank's folder, and its pipe"""
ANSWER_S = 2.0
"""an answer takes milliseconds; on a machine with ten times its load, a second"""
NCCL_S = 5.0
"""NCCL looks at its pipe once a second, then gathers stacks"""
POLL_S = 0.02
KILL_POLL_S = 0.25
COMING_S = 60.0
"""a dump that was begun is waited for at most so long: NCCL's own watchdog gives up then"""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Whose recorder is asked."""

    node: int
    world: int
    rank: int
    folder: Path

    @property
    def nccl_dump(self) -> Path:
        """What NCCL writes by itself."""
        return self.folder / f"{NCCL_STEM}{self.rank}"

    @property
    def last(self) -> Path:
        """What a worker leaves that fails of a time-out."""
        return self.folder / LAST

    @property
    def nccl_pipe(self) -> Path:
        """A byte in it makes NCCL write."""
        return self.folder / f"{NCCL_STEM}{self.rank}.pipe"


async def look(at: float, where: Where) -> Dump | None:
    """Ask, and wait for the answer; None when there is none in time, or none that can be read."""
    question = f"{at:.6f}"
    if _put(where.folder / PIPE, f"{question}\n".encode()):
        answer = where.folder / ANSWER
        if (dump := await _newer(answer, None, ANSWER_S, lambda dump: dump.asked == question)) is not None:
            return dump
    before = _mark(where.nccl_dump)
    if _put(where.nccl_pipe, b"1"):
        return await _newer(where.nccl_dump, before, NCCL_S, lambda _: True)
    return await asyncio.to_thread(left, where)


def left(where: Where) -> Dump | None:
    """What NCCL, or the worker, wrote by itself after a time-out; None when there is nothing, or it is not whole."""
    for file in (where.nccl_dump, where.last):
        mark = _mark(file)
        if mark is not None and (dump := _read(file)) is not None:
            return replace(dump, written_at=mark[2] / 1e9)
    return None


def is_left(where: Where) -> bool:
    """Something was written by itself, or begun."""
    return _mark(where.nccl_dump) is not None or _mark(where.last) is not None


def is_coming(ranks: Iterable[Where]) -> bool:
    """NCCL has begun to write a dump of one of these ranks, and is not done: to kill the rank would lose it."""
    return any(_is_begun(where.nccl_dump) for where in ranks)


def looked(at: float, where: Where, dump: Dump) -> CollectivesLooked:
    """The dump as a signal: as old as the dump."""
    at = at if dump.written_at is None else min(at, dump.written_at)
    return CollectivesLooked(at=at, node=where.node, world=where.world, rank=where.rank, groups=dump.statuses)


def mute(at: float, where: Where, said: tuple[str, ...]) -> CollectivesLooked:
    """A rank that does not answer, with what its communication library said of it."""
    return CollectivesLooked(at=at, node=where.node, world=where.world, rank=where.rank, groups=(), said=said)


def _put(pipe: Path, word: bytes) -> bool:
    """Whether somebody reads this pipe; never waits."""
    try:
        fd = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # nobody reads, or there is no pipe
        return False
    try:
        return os.write(fd, word) == len(word)
    except OSError:  # full: it has not read for a long time
        return False
    finally:
        os.close(fd)


async def _newer(file: Path, before: object, wait_s: float, fits: Callable[[Dump], bool]) -> Dump | None:
    """The first whole dump in `file` since it was `before`."""
    for _ in range(round(wait_s / POLL_S)):
        mark = _mark(file)
        if mark not in (None, before):
            before = mark
            # Reading a long one takes a while, and the agent has other things to do.
            dump = await asyncio.to_thread(_read, file)
            if dump is not None and fits(dump):
                return dump
        await asyncio.sleep(POLL_S)
    return None


def _mark(file: Path) -> tuple[int, int, int] | None:
    """Differs when the file has changed."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _read(file: Path) -> Dump | None:
    try:
        with file.open("rb") as stream:
            return parse(stream.read(BYTES_MAX + 1))
    except (OSError, Refused) as error:
        log.info("%s: %s", file, error)
        return None


def _is_begun(file: Path) -> bool:
    """A pickle ends with a full stop."""
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - 1))
            return size == 0 or stream.read(1) != b"."
    except OSError:
        return False

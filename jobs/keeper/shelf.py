"""What does a keeper hold? The files of its own node's ranks, and copies of another node's."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from lastgood import header, hold
from lastgood.header import Facts, Head
from lastgood.room import MEMORY_SHARE

TURNS = 2
"""copies that are kept of another node's rank: one is whole while the other is written"""
RANKS_MAX = 1 << 20


class NoRoom(Exception):
    """There is no memory for it here; the message says how much there would have to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One whole copy."""

    fd: int
    head: Head
    facts: Facts

    @property
    def key(self) -> tuple[int, int]:
        """By which copies of a rank are older and newer."""
        return self.facts.world, self.facts.step


class Shelf:
    """All files of one keeper. Files of the node's own ranks are an agent's too, and a rank's that writes them."""

    def __init__(self, run: str, free_bytes: Callable[[], int]) -> None:
        self._run = run
        self._free_bytes = free_bytes
        self._lock = threading.Lock()
        self._own: dict[int, tuple[int, ...]] = {}
        self._others: dict[int, tuple[int, ...]] = {}
        self._busy: set[int] = set()
        """ranks of which a copy is being written"""

    def keep(self, rank: int, fds: Sequence[int]) -> tuple[int, ...]:
        """The files of a rank of this node: those that are here already, else these. Who gave them closes theirs."""
        with self._lock:
            if rank not in self._own:
                self._own[rank] = tuple(os.dup(fd) for fd in fds)
            return self._own[rank]

    @property
    def ranks(self) -> tuple[int, ...]:
        """Of this node."""
        return tuple(sorted(self._own))

    @property
    def has_made_its_own(self) -> bool:
        """Every rank of this node has taken the room that it needs: what is free now is free for others."""
        own = list(self._own.values())
        return bool(own) and all(any(os.fstat(fd).st_size for fd in fds) for fds in own)

    def own(self, rank: int) -> list[Held]:
        """Whole copies in the files of this node's rank, newest first."""
        return self._held(rank, self._own.get(rank, ()))

    def held(self, rank: int | None = None) -> list[Held]:
        """Whole copies of a rank, or of all, wherever the rank is."""
        with self._lock:
            files = [*self._own.items(), *self._others.items()]
        return [one for of, fds in files if rank in (None, of) for one in self._held(of, fds)]

    def _held(self, rank: int, fds: Sequence[int]) -> list[Held]:
        found = list(self._whole(rank, fds))
        return sorted(found, key=lambda held: held.key, reverse=True)

    def _whole(self, rank: int, fds: Sequence[int]) -> Iterator[Held]:
        for fd in fds:
            with suppress(OSError):
                head = header.look(fd)
                facts = None if head is None else header.facts(fd, head)
                if head is not None and facts is not None and (facts.run, facts.rank) == (self._run, rank):
                    yield Held(fd=fd, head=head, facts=facts)

    @contextmanager
    def writing(self, rank: int, world: int, size: int, *, own: bool = False) -> Iterator[int]:
        """A file with room for a copy of so many bytes of this world: never the one that holds the rank's newest.

        Raises NoRoom, or OSError.
        """
        with self._lock:
            fds = [fd for fd in self._files(rank, own=own) if not hold.is_held_in(fd)]  # a saver has still to read it
            if not fds:
                raise NoRoom(f"every copy of rank {rank} is being saved")
            whole = [held.fd for held in self._held(rank, fds)]
            fd = next((fd for fd in fds if fd not in whole), whole[-1] if whole else fds[0])
            self._make_room(fd, size, before=None if own else world)
            self._busy.add(rank)
        try:
            yield fd
        finally:
            self._busy.discard(rank)

    def _files(self, rank: int, *, own: bool) -> tuple[int, ...]:
        if own and rank in self._own:
            return self._own[rank]
        if own or not 0 <= rank < RANKS_MAX:
            raise NoRoom(f"rank {rank} has no files here")
        if rank in self._busy:
            raise NoRoom(f"a copy of rank {rank} is being written already")
        if rank not in self._others:
            self._others[rank] = made(rank, TURNS)
        return self._others[rank]

    def _make_room(self, fd: int, size: int, *, before: int | None) -> None:
        more = size - os.fstat(fd).st_size
        if more <= 0:
            return
        room = int(MEMORY_SHARE * self._free_bytes())
        if more > room and before is not None:
            room += self._given_back(before)
        if more > room:
            raise NoRoom(f"a copy takes {more >> 20} MiB more, and {room >> 20} MiB may be taken for it there")
        os.posix_fallocate(fd, 0, size)

    def _given_back(self, before: int) -> int:
        """Bytes that were held for nodes that send no more: their newest copies are of a world before this."""
        given = 0
        for rank, fds in self._others.items():
            whole = self._held(rank, fds)
            if whole and rank not in self._busy and whole[0].facts.world < before:
                given += sum(os.fstat(fd).st_size for fd in fds)
                for fd in fds:
                    os.ftruncate(fd, 0)
        return given


def made(rank: int, turns: int) -> tuple[int, ...]:
    """Empty files in memory. Raises OSError."""
    return tuple(os.memfd_create(f"lastgood-rank{rank}.{turn}", os.MFD_CLOEXEC) for turn in range(turns))

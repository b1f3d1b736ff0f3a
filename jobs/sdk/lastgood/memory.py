"""How does a rank's state outlive the rank? Copies in turn, in memory that outlives its agent.

After a step, or every few, what this rank holds is copied; the digest is made beside training. A world that begins
where copies are, or where they were brought to from another node, takes the newest step of which every rank has one,
without a byte from disk. Copies are good for a world of the same shape, and only while nobody doubts the numbers in
them: what the supervisor says with `since`.

A copy that is to become a checkpoint carries its draft, is noted as staged, and is held for the node's saver: the next
ones go to the other places.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lastgood import pieces
from lastgood.audience import Audience, Nobody
from lastgood.copies import ROOM, Copy, needed_bytes
from lastgood.drafts import Drawing
from lastgood.header import Facts
from lastgood.meeting import poll
from lastgood.notes import Note, made
from lastgood.peers import ROUND_TIMEOUT, Peers, RoundFailed
from lastgood.pieces import Pieces, Unfit
from lastgood.place import Place
from lastgood.room import MEMORY_SHARE, free_bytes
from lastgood.snapshot import State
from lastgood.staging import SideStream

if TYPE_CHECKING:
    from torch import Tensor

SENSE = "memory copies"
"""as which a node tells that it has none"""
SAVER = "saver"
"""as which it tells that ranks save by themselves"""
SHARE = 0.004
"""of a step's time that copies may cost, on average"""
STARTING = "the node's saver is still starting"
MEASURED = 6
"""copies after as many steps, before it is known how often is often enough"""
ARRIVES = 1.5
"""times as long as sending a copy to another node takes, between two: the newest but one is always there"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A state that came back."""

    world: int
    """that made the copy"""
    step: int
    data_index: int
    from_peer: bool = False
    """this rank's came from another node"""


@dataclass(slots=True)
class _Cost:
    """Seconds, lately."""

    copies: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)


class Memory:
    """The copies of one rank of one world. Making it is a collective, and so is all that says so."""

    def __init__(
        self,
        here: Place,
        *,
        note: Note,
        audience: Audience | None = None,
        available: Callable[[], int] | None = None,
    ) -> None:
        assert here.memory is not None
        self._here = here
        self._audience = audience or Nobody()
        self._note = note
        self._available = available or free_bytes
        self._paths = here.memory.paths
        self._peers = Peers(here.rank, here.world_size)
        self._copies: list[Copy] = []
        """the one to be overwritten next comes first"""
        self._sealing: threading.Thread | None = None
        self._every = here.memory.every or 1
        self._paced = here.memory.every > 0
        self._cost = _Cost()
        self._side = SideStream()
        self._drawing = Drawing()
        self._opened = False
        self._off = ""
        self._unstaged: str | None = None
        """why no saver of the node writes this state; empty: one does, None: not known yet"""
        self._ready: tuple[dict[str, Tensor], bytes] = {}, b""
        """the copy that was found to be sound"""

    def restore(self, state: State, *, above: int = -1) -> Found | None:
        """Fill the state from the newest copy that every rank has, of a step beyond `above`; None: there is none.

        A collective. Raises RuntimeError when the state is in pieces: a copy fitted, and could not be read.
        """
        copies = self._there()
        mine = {(facts.world, facts.step): copy for copy in copies if (facts := self._usable(copy, above)) is not None}
        for key in _common(self._peers.all(lambda: sorted(mine))):
            found = self._filled(state, mine[key])
            if found is not None:
                return found
        return None

    def copy(self, step: int, state: State, data_index: int, step_s: float) -> None:
        """Copy the state after a step, if it is time to. A collective until the pace is agreed on."""
        if step % self._every:
            return
        began = time.monotonic()
        if not self._opened:
            self._open(state)
        if not self._off:
            try:
                self._copy(step, state, data_index)
            except (OSError, Unfit) as error:
                self._turn_off(str(error))
        if not self._paced:
            self._pace(time.monotonic() - began, step_s)

    def stage(self, step: int, state: State, data_index: int) -> bool:
        """Copy the state for the node's saver to write. False: this rank or another cannot, and nothing was done.

        A collective. What is in the way is told once, and so is that it is out of the way.
        """
        began = time.monotonic()
        if not self._opened:
            self._open(state)
        ready: list[tuple[Pieces, bytes]] = []
        why = ""
        try:
            self._peers.all(lambda: ready.append(self._drawn(state)))
        except RoundFailed as error:
            why = error.failure.why.removeprefix("Unfit: ")
        if why not in (self._unstaged, STARTING):  # which is no news
            self._unstaged = why
            self._note(made("unstaged", sense=SAVER, why=why))
        if why:
            return False
        told = {"step": step, "data_index": data_index, "saved_at": time.time()}
        self._write(
            state, self._facts(step, data_index), *ready[0], lambda: {**told, "stall_s": time.monotonic() - began}
        )
        return True

    def close(self) -> None:
        """Finish what is on its way; the copies stay for whoever comes next."""
        self.settle()
        self._peers.leave()

    # --- restoring

    def _there(self) -> list[Copy]:
        copies = []
        for path in self._paths:
            with suppress(OSError):
                copies.append(Copy(path))
        return copies

    def _usable(self, copy: Copy, above: int) -> Facts | None:
        here, facts = self._here, copy.facts()
        assert here.memory is not None
        since = here.memory.since
        if facts is None or since is None or facts.step <= above or not since <= facts.world < here.world:
            return None
        same = facts.run, facts.rank, facts.world_size  # of whatever attempt: worlds are numbered in the run
        return facts if same == (here.run, here.rank, here.world_size) else None

    def _filled(self, state: State, copy: Copy) -> Found | None:
        """Two rounds: nothing is filled before every rank knows that its copy is sound and fits."""
        facts = copy.facts()
        try:
            self._peers.all(lambda: self._sound(state, copy))
        except RoundFailed as error:
            self._note(made("copies", sense=SENSE, why=f"a copy was refused: {error}"))
            return None
        (tensors, rest), self._ready = self._ready, ({}, b"")
        try:
            self._peers.all(lambda: pieces.together(state, tensors, rest))
        except RoundFailed as error:
            copy.void()  # or every world after this one would fail over it
            raise RuntimeError(f"a copy in memory could not be restored: {error}") from error
        assert facts is not None
        return Found(world=facts.world, step=facts.step, data_index=facts.data_index, from_peer=copy.from_peer)

    def _sound(self, state: State, copy: Copy) -> None:
        self._ready = copy.read()
        pieces.check(state, self._ready[0])

    # --- copying

    def _copy(self, step: int, state: State, data_index: int) -> None:
        self.settle()
        if all(copy.held for copy in self._copies):
            return  # what the saver has still to write is whole, and not much older
        taken = pieces.apart(state)
        self._grow(needed_bytes(taken))
        self._write(state, self._facts(step, data_index), taken)

    def _facts(self, step: int, data_index: int) -> Facts:
        here = self._here
        return Facts(
            run=here.run,
            attempt=here.attempt,
            world=here.world,
            step=step,
            rank=here.rank,
            world_size=here.world_size,
            data_index=data_index,
        )

    def _drawn(self, state: State) -> tuple[Pieces, bytes]:
        """What to copy for a saver, for which there is a place now. Raises Unfit, OSError and RuntimeError."""
        if self._off:
            raise Unfit(self._off)
        self.settle()
        most_s = ROUND_TIMEOUT.total_seconds()
        poll(lambda: self._has_place() or not self._has_saver(), most_s, "every copy is held", most_s=0.02)
        if not self._has_saver():
            raise Unfit(STARTING if self._audience.saver() == "starting" else "the node has no saver at present")
        drawn = self._drawing.draw(state, self._here.rank)
        self._grow(needed_bytes(*drawn))
        return drawn

    def _has_place(self) -> bool:
        return not all(copy.held for copy in self._copies)

    def _has_saver(self) -> bool:
        return self._audience.saver() == "there"

    def _turn(self) -> int:
        """The oldest copy that nobody holds."""
        return next(number for number, copy in enumerate(self._copies) if not copy.held)

    def _write(
        self,
        state: State,
        facts: Facts,
        taken: Pieces,
        draft: bytes = b"",
        staged: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        """`staged`: what is noted of it when it is whole, as it is known when the step goes on."""
        copy = self._copies.pop(self._turn())
        self._copies.append(copy)
        with self._side.beside(state):
            copy.write(facts, taken, draft)
        told = staged() if staged is not None else None
        # What a state dict made on the fly lives until it is copied.
        self._sealing = threading.Thread(target=self._seal, args=(copy, taken, told), name="lastgood-copy", daemon=True)
        self._sealing.start()

    def _grow(self, size: int) -> None:
        """A state may outgrow its copies: optimizers keep nothing before their first step."""
        turn = self._turn()
        copy = self._copies[turn]
        if size - ROOM // 2 > copy.bytes:
            if (more := size - copy.bytes) > self._room():
                raise OSError(f"the copies of the state would have to grow by {more >> 20} MiB")
            self._copies[turn] = Copy(copy.path, at_least=size)
            self._side.register(self._copies[turn])

    def _seal(self, copy: Copy, _taken: Pieces, staged: dict[str, Any] | None) -> None:
        self._side.wait()
        copy.seal()
        if staged is not None:
            self._note(made("staged", path=copy.path, **staged))

    def settle(self) -> None:
        """Until the newest copy is whole, and noted."""
        if self._sealing is not None:
            self._sealing.join()
            self._sealing = None

    def _open(self, state: State) -> None:
        """As many copies on every rank as there is memory for; with one, a rank that dies over it has none."""
        self._opened = True
        size, why = 0, ""
        try:
            size = needed_bytes(pieces.apart(state))
        except Unfit as error:
            why = str(error)
        room = self._room() + sum(copy.bytes for copy in self._there())
        count = min(self._peers.all(lambda: min(len(self._paths), room // size) if size else 0))
        try:
            if count == 0:
                there = f"{room >> 20} MiB may be taken for it here, or less elsewhere"
                raise OSError(why or f"a copy takes {size >> 20} MiB a rank: {there}")
            self._copies = sorted((Copy(path, at_least=size) for path in self._paths[:count]), key=_age)
        except OSError as error:
            self._turn_off(str(error))
            return
        for copy in self._copies:
            self._side.register(copy)
        self._note(made("copies", sense=SENSE, why=self._fewer(count, size), count=count, bytes=size))

    def _fewer(self, count: int, size: int) -> str:
        """Why there are less copies than places for them; empty where there are not."""
        if count == 1:
            return "there is memory for one copy only: a rank that dies over it has none"
        if count < len(self._paths):
            return f"there is memory for {count} copies of {size >> 20} MiB, not {len(self._paths)}"
        return ""

    def _room(self) -> int:
        """Bytes that this rank may take."""
        return int(MEMORY_SHARE * self._available() / self._here.local_world_size)

    def _turn_off(self, why: str) -> None:
        self._off = why
        self._note(made("copies", sense=SENSE, why=why, count=0, bytes=0))

    def _pace(self, copy_s: float, step_s: float) -> None:
        """How often? Measured by each rank, and the same for all: the slowest counts."""
        self._cost.copies.append(copy_s)
        self._cost.steps.append(step_s)
        if len(self._cost.copies) < MEASURED:
            return
        # The first ones touch new pages, and compile.
        cost_s, step_s = sorted(self._cost.copies)[MEASURED // 2], sorted(self._cost.steps)[MEASURED // 2]
        send_s = max((copy.send_s for copy in self._copies), default=0.0)
        wanted = math.ceil(max(cost_s / SHARE, ARRIVES * send_s) / max(step_s, 1e-6))
        self._every = max(1, *self._peers.all(lambda: wanted))
        self._paced = True


def _common(lists: list[list[tuple[int, int]]]) -> list[tuple[int, int]]:
    """What every rank has, newest first."""
    return sorted(set.intersection(*map(set, lists)), reverse=True)


def _age(copy: Copy) -> tuple[int, int]:
    facts = copy.facts()
    return (-1, -1) if facts is None else (facts.world, facts.step)

"""How do the savers of several nodes agree about one checkpoint, with nothing between them but the checkpoint folder?

Each takes part in a round by a file in `NAME.rounds/`, beside the save itself, which is renamed as a whole. A file
appears by a rename, so nobody reads half of one. Whoever has read a file meant for it alone removes it, and the last
to leave removes the folder.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from lastgood.manifest import ROUNDS, Name, parse_name
from lastgood.peers import ROUND_TIMEOUT, Failure, RoundFailed, Rounds, told

T = TypeVar("T")
POLL_S = (0.01, 0.5)
"""between two looks into the folder, of which shared storage feels each: doubled, from one to the other"""


class Left(RuntimeError):
    """One that this save waits for is at work on a later one: here it will never be heard."""


class Meeting(Rounds):
    """The nodes that make one save. Making it is no collective: who comes first waits."""

    def __init__(
        self, folder: str, name: Name, *, node: int, nodes: int, within_s: float = ROUND_TIMEOUT.total_seconds()
    ) -> None:
        """`folder`: of the checkpoints; `within_s`: longest wait for the others in a round."""
        super().__init__(node, nodes)
        self._folder = folder
        self._name = name
        self._path = os.path.join(folder, str(name) + ROUNDS)
        self._within_s = within_s
        self._number = 0

    def leave(self) -> None:
        """Take away what nobody read of this node's; the last one to leave takes the folder."""
        if self.world_size == 1:
            return
        with suppress(OSError):
            for name in os.listdir(self._path):
                if name.endswith(f".of{self.rank}"):
                    os.unlink(os.path.join(self._path, name))
            os.rmdir(self._path)

    def _gather(self, value: T) -> list[T] | None:
        self._number += 1
        if self.world_size == 1:
            return [value]
        with self._refusals_told():
            if not self.coordinates:
                self._put(f"{self._number}.of{self.rank}", value)
                return None
            self._put(f"{self._number}.of0", None)  # says that the coordinator is here
            others = [self._taken(f"{self._number}.of{node}", node) for node in range(1, self.world_size)]
        return [value, *others]

    def _scatter(self, values: Sequence[T] | None) -> T:
        with self._refusals_told():
            if values is None:
                answer: T = self._taken(f"{self._number}.for{self.rank}", 0)
                return answer
            for node in range(1, self.world_size):
                self._put(f"{self._number}.for{node}", values[node])
        return values[0]

    @contextmanager
    def _refusals_told(self) -> Iterator[None]:
        """A folder that takes or gives no file: the others hear of it by what this node does next."""
        try:
            yield
        except OSError as error:
            raise RoundFailed(Failure(rank=self.rank, why=told(error), errno=error.errno)) from error

    def _put(self, name: str, value: object) -> None:
        os.makedirs(self._path, exist_ok=True)
        draft = os.path.join(self._path, f".{name}")
        with open(draft, "wb") as file:
            pickle.dump(value, file)
        os.rename(draft, os.path.join(self._path, name))

    def _taken(self, name: str, awaited: int) -> Any:
        path = os.path.join(self._path, name)
        poll(lambda: self._is_there(path, awaited), self._within_s, f"node {awaited} told nothing of {self._name}")
        with open(path, "rb") as file:
            value = pickle.load(file)
        os.unlink(path)
        return value

    def _is_there(self, path: str, awaited: int) -> bool:
        if os.path.exists(path):
            return True
        for later in self._later():
            with suppress(OSError):
                if f"1.of{awaited}" in os.listdir(os.path.join(self._folder, later)) and not os.path.exists(path):
                    raise Left(f"node {awaited} has gone on to {later.removesuffix(ROUNDS)}")
        return False

    def _later(self) -> list[str]:
        """Meetings about later saves, or those of later worlds."""
        mine = (self._name.attempt, self._name.world, self._name.step)
        found = []
        for entry in os.listdir(self._folder):
            name = parse_name(entry.removesuffix(ROUNDS)) if entry.endswith(ROUNDS) else None
            if name is not None and (name.attempt, name.world, name.step) > mine:
                found.append(entry)
        return found


def poll(holds: Callable[[], bool], within_s: float, what: str, *, most_s: float = POLL_S[1]) -> None:
    """Until it holds. Raises RuntimeError when it does not in time; `what` is the reason then."""
    until, wait_s = time.monotonic() + within_s, POLL_S[0]
    while not holds():
        if time.monotonic() > until:
            raise RuntimeError(f"{what} for {within_s:.0f} s")
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, most_s)

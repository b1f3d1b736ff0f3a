"""How do the ranks of one world agree about a checkpoint, so that none waits for another that failed?

Every step of a save or a restore is a round: each rank tries its part, the coordinator (rank 0) hears all results,
failures included, and each rank hears back either its answer or who failed and why.
"""

from __future__ import annotations

import os
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup

T = TypeVar("T")
R = TypeVar("R")

ROUND_TIMEOUT = timedelta(minutes=30)
"""torch's own default for gloo: storage that takes longer for one shard is dead, not slow"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What one rank could not do."""

    rank: int
    why: str
    errno: int | None = None


class RoundFailed(Exception):
    """A rank failed in a round; every rank raises this, a failing one about itself."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"rank {failure.rank}: {failure.why}")
        self.failure = failure


class Rounds(ABC):
    """Participants that agree, however they hear each other."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank = rank
        self.world_size = world_size
        self._cause: Exception | None = None

    @property
    def coordinates(self) -> bool:
        """This one hears all the others."""
        return self.rank == 0

    def round(self, part: Callable[[], T], answer: Callable[[list[T]], Sequence[R]]) -> R:
        """Each rank does its `part`; the coordinator makes of all of them, in the order of ranks, one answer a rank.

        Raises RoundFailed on every rank when any part, or the answer, raised an Exception.
        """
        mine = self._attempt(part)
        gathered = self._gather(mine)
        answers: Sequence[R | Failure] | None = None
        if gathered is not None:
            answers = self._answers(gathered, answer)
        heard = self._scatter(answers)
        if isinstance(mine, Failure):
            raise RoundFailed(mine) from self._cause
        if isinstance(heard, Failure):
            raise RoundFailed(heard)
        return heard

    def all(self, part: Callable[[], T]) -> list[T]:
        """Each rank does its `part` and hears the results of all. Raises RoundFailed like `round`."""
        return self.round(part, lambda parts: [parts] * len(parts))

    @abstractmethod
    def leave(self) -> None:
        """No round comes after this."""

    @abstractmethod
    def _gather(self, value: T) -> list[T] | None:
        """Every participant's value, in their order, on the coordinator; None elsewhere."""

    @abstractmethod
    def _scatter(self, values: Sequence[T] | None) -> T:
        """The value for this one; the coordinator has all of them."""

    def _attempt(self, part: Callable[[], T]) -> T | Failure:
        try:
            return part()
        except OSError as error:
            self._cause = error
            return Failure(rank=self.rank, why=told(error), errno=error.errno)
        except Exception as error:  # a boundary: the other ranks must hear of it before it goes anywhere
            self._cause = error
            return Failure(rank=self.rank, why=f"{type(error).__name__}: {error}")

    def _answers(self, gathered: list[T | Failure], answer: Callable[[list[T]], Sequence[R]]) -> Sequence[R | Failure]:
        parts = [part for part in gathered if not isinstance(part, Failure)]
        failures = [part for part in gathered if isinstance(part, Failure)]
        if failures:
            return failures[:1] * self.world_size
        answers = self._attempt(lambda: answer(parts))
        return [answers] * self.world_size if isinstance(answers, Failure) else answers


class Peers(Rounds):
    """The ranks of this world, over a gloo group of their own: rounds run in a thread beside the training
    collectives and must never be interleaved with them. Making one is a collective; use it as a context to leave it.
    """

    def __init__(self, rank: int, world_size: int) -> None:
        super().__init__(rank, world_size)
        self._group = _new_group(world_size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()

    def first(self, number: int) -> int:
        """The coordinator's number, which every rank hears: one broadcast of eight bytes."""
        if self._group is None:
            return number
        import torch
        import torch.distributed as dist

        said = torch.tensor(number, dtype=torch.int64)
        dist.broadcast(said, group_src=0, group=self._group)
        return int(said)

    def leave(self) -> None:
        """Free the group."""
        if self._group is not None:
            import torch.distributed as dist

            group, self._group = self._group, None
            dist.destroy_process_group(group)

    def _gather(self, value: T) -> list[T] | None:
        if self._group is None:
            return [value]
        import torch
        import torch.distributed as dist

        body = pickle.dumps(value)
        sizes = torch.zeros(self.world_size, dtype=torch.int64)
        sizes[self.rank] = len(body)
        dist.all_reduce(sizes, group=self._group)
        largest = int(sizes.max())
        heard = [bytearray(largest) for _ in range(self.world_size if self.coordinates else 0)]
        dist.gather(
            _tensor(bytearray(body.ljust(largest))),
            [_tensor(buffer) for buffer in heard] or None,
            group_dst=0,
            group=self._group,
        )
        return [pickle.loads(buffer) for buffer in heard] or None

    def _scatter(self, values: Sequence[T] | None) -> T:
        if self._group is None:
            assert values is not None
            return values[0]
        import torch
        import torch.distributed as dist

        bodies = [pickle.dumps(value) for value in values or ()]
        size = torch.tensor(max(map(len, bodies), default=0))
        dist.broadcast(size, group_src=0, group=self._group)
        heard = bytearray(int(size))
        told = [_tensor(bytearray(body.ljust(len(heard)))) for body in bodies]
        dist.scatter(_tensor(heard), told or None, group_src=0, group=self._group)
        answer: T = pickle.loads(heard)
        return answer


def _tensor(buffer: bytearray) -> Tensor:
    """A view of the buffer: torch's own object collectives need NumPy for this, which need not be installed."""
    import torch

    return torch.frombuffer(buffer, dtype=torch.uint8)


def told(error: OSError) -> str:
    """What the system said, and of which file."""
    where = f": {os.path.basename(error.filename)}" if isinstance(error.filename, str) else ""
    return f"{error.strerror or error}{where}"


def _new_group(world_size: int) -> ProcessGroup | None:
    if world_size == 1:
        return None
    import torch.distributed as dist

    if not dist.is_initialized():
        raise RuntimeError(
            f"{world_size} ranks cannot agree on a checkpoint: call torch.distributed.init_process_group first"
        )
    group: ProcessGroup = dist.new_group(backend="gloo", timeout=ROUND_TIMEOUT)
    return group

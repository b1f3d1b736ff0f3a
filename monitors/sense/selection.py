"""Of which steps does a node tell what each of its ranks saw alone?

Every rank of a thousand nodes has a row for every step, more than one supervisor can hear. So a node tells one line for
all its ranks, of every n-th step: n is a power of two, from how long a step takes, so that all nodes choose the same
steps without a word between them. A world of up to `SMALL` ranks tells up to 20 lines a second for each node, a larger
one at most one, and all its nodes together the numbers of `NUMBERS_PER_S` ranks.
"""

from __future__ import annotations

from math import ceil, isfinite, log2

from lastgood.progress import Row
from monitors.signals import RanksReported

SMALL = 64
SMALL_EVERY_S = 0.05
LARGE_EVERY_S = 1.0
NUMBERS_PER_S = 4096.0
"""of ranks, that the supervisor hears: 100,000 ranks are told of every 24 seconds"""
BROKEN_EVERY_S = 1.0
"""how often one rank tells a number that is not finite: the first says all, the others say that it goes on"""
PENDING = 64
"""steps that not every rank has finished"""


class Selection:
    """Of one world on one node."""

    def __init__(self, *, node: int, world: int, ranks_here: int, ranks: int) -> None:
        self._node = node
        self._world = world
        self._here = ranks_here
        self._alone = ranks < 2
        self._every_s = SMALL_EVERY_S if ranks <= SMALL else max(LARGE_EVERY_S, ranks / NUMBERS_PER_S)
        self._step_s = 0.0
        self._every = 1
        self._told_at = float("-inf")
        self._broken_at: dict[int, float] = {}
        self._pending: dict[int, dict[int, Row]] = {}

    def put(self, rank: int, row: Row) -> None:
        """A rank finished a step."""
        if self._alone:
            return
        self._pace(row.step_s)
        if row.step % self._every:
            return
        self._pending.setdefault(row.step, {})[rank] = row
        if len(self._pending) > PENDING:
            del self._pending[min(self._pending)]

    def tells(self, rank: int, row: Row) -> bool:
        """Whether this row goes out by itself: the run's are rank 0's, and a broken number counts from any rank."""
        if rank == 0:
            return True
        if _finite(row):
            self._broken_at.pop(rank, None)
            return False
        due = row.at - self._broken_at.get(rank, float("-inf")) >= BROKEN_EVERY_S
        if due:
            self._broken_at[rank] = row.at
        return due

    def take(self) -> list[RanksReported]:
        """The steps that all ranks of the node have finished since; what is older than one of them is whole no more."""
        whole = sorted(step for step, rows in self._pending.items() if len(rows) == self._here)
        if not whole:
            return []
        told = [self._told(step, self._pending[step]) for step in whole if self._is_due(self._pending[step])]
        self._pending = {step: rows for step, rows in self._pending.items() if step > whole[-1]}
        return told

    def _pace(self, step_s: float) -> None:
        if not (isfinite(step_s) and step_s > 0.0):
            return
        self._step_s = step_s if self._step_s == 0.0 else 0.9 * self._step_s + 0.1 * step_s
        self._every = 1 << max(0, ceil(log2(self._every_s / self._step_s)))

    def _is_due(self, rows: dict[int, Row]) -> bool:
        """Until the pace is known, steps may follow each other faster."""
        at = max(row.at for row in rows.values())
        if at - self._told_at < self._every_s / 2:
            return False
        self._told_at = at
        return True

    def _told(self, step: int, rows: dict[int, Row]) -> RanksReported:
        ranks = sorted(rows)
        of = [rows[rank] for rank in ranks]
        losses = _column([row.local_loss for row in of]) or _column([row.loss for row in of])
        norms = _column([row.local_grad_norm for row in of]) or _column([row.grad_norm for row in of])
        return RanksReported(
            at=max(row.at for row in of),
            node=self._node,
            world=self._world,
            step=step,
            ranks=tuple(ranks),
            losses=losses,
            grad_norms=norms,
            own_s=tuple(_short(max(0.0, row.step_s - row.waited_s)) for row in of),
        )


def _column(values: list[float | None]) -> tuple[float | None, ...]:
    """Nothing, where nobody told a number, or all told one that was averaged."""
    if len(values) > 1 and all(value == values[0] for value in values):
        return ()
    if all(value is None for value in values):
        return ()
    return tuple(None if value is None else _short(value) for value in values)


def _short(value: float) -> float:
    """Six digits: more would tell nothing, and make up half of the line."""
    return float(f"{value:.6g}")


def _finite(row: Row) -> bool:
    return all(value is None or isfinite(value) for value in (row.loss, row.grad_norm))

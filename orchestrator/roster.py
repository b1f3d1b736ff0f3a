"""How does each rank of the newest world stand now? What agents told last, for people who look at thousands at once.

Pure, and part of nothing that is decided: the newest signal of each rank and GPU is kept, and made a table when asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from monitors import signals as s
from monitors.hardware import GpuLooked
from monitors.values import quick

RankOf = Callable[[int, int], int | None]
"""node and index of a GPU to the rank that most likely works on it"""

COLUMNS = (
    *("rank", "node", "started", "step", "lag", "phase", "moved_at", "looked_at", "step_s", "own_s", "loss"),
    *("grad_norm", "gpu", "power_w", "temperature_c", "utilisation", "memory_share", "collective", "culprit"),
)
"""of the table, in docs/dashboard.md"""


@dataclass(slots=True)
class _Rank:
    progress: s.RankProgress | None = None
    stepped: tuple[int, float] | None = None
    """the newest step, and when it was finished"""
    step_s: float | None = None
    own_s: float | None = None
    loss: float | None = None
    grad_norm: float | None = None
    collective: str | None = None


@dataclass(slots=True)
class _World:
    number: int = 0
    started: set[int] = field(default_factory=set)
    ranks: dict[int, _Rank] = field(default_factory=dict)


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How far ranks are apart; None: nobody told."""

    own_s: tuple[float, float] | None
    """median and longest of the seconds of a step, but for those in which a rank waited"""
    step_s: float | None
    """seconds from one step to the next, of the slowest rank"""
    temperature_c: float | None
    """of the hottest GPU"""


class Roster:
    """Everything heard last of each rank of one run."""

    def __init__(self, *, ranks: int, ranks_per_node: int, rank_of: RankOf) -> None:
        self._ranks = ranks
        self._per_node = ranks_per_node
        self._rank_of = rank_of
        self._world = _World()
        self._gpus: dict[tuple[int, int], GpuLooked] = {}
        self.readers: dict[type, Callable[[Any], None]] = {
            s.RankProgress: self._moved,
            s.RanksReported: self._reported,
            s.RankStarted: self._started,
            s.CollectivesLooked: self._looked_at,
            GpuLooked: self._gpu_looked,
        }
        """by class of signals, what keeps what one says: asked for each line of each agent"""

    def began(self, world: int) -> None:
        """Of older worlds nothing is shown any more."""
        self._world = _World(number=world)

    def see(self, signal: s.Signal) -> None:
        """Keep what it says."""
        read = self.readers.get(type(signal))
        if read is not None:
            read(signal)

    @property
    def spread(self) -> Spread:
        """Of all ranks, for one line of a chart."""
        known = self._world.ranks.values()
        own = [rank.own_s for rank in known if rank.own_s is not None]
        return Spread(
            own_s=(median(own), max(own)) if own else None,
            step_s=max([rank.step_s for rank in known if rank.step_s is not None], default=None),
            temperature_c=max(
                [g.temperature_c for g in self._gpus.values() if g.temperature_c is not None], default=None
            ),
        )

    def table(self, culprits: Iterable[int] = ()) -> dict[str, list[Any]]:
        """A list for each of COLUMNS, each as long as there are ranks; None: not known."""
        blamed = frozenset(culprits)
        gpus = self._by_rank()
        ahead = max((rank.progress.step for rank in self._world.ranks.values() if rank.progress), default=0)
        rows = [(*self._row(rank, ahead), *_of_gpu(gpus.get(rank))) for rank in range(self._ranks)]
        columns = dict(zip(COLUMNS[:-2], map(list, zip(*rows, strict=True)), strict=True))
        columns["collective"] = [self._seen(rank).collective for rank in range(self._ranks)]
        columns["culprit"] = [rank in blamed for rank in range(self._ranks)]
        return columns

    def _row(self, number: int, ahead: int) -> tuple[Any, ...]:
        rank = self._seen(number)
        progress = rank.progress
        started = progress is not None or number in self._world.started
        if progress is None:
            place: tuple[Any, ...] = (None, None, None, None, None)
        else:
            step = progress.step
            place = (step, ahead - step, progress.phase.value, progress.moved_at, progress.at)
        return (number, number // self._per_node, started, *place, rank.step_s, rank.own_s, rank.loss, rank.grad_norm)

    def _by_rank(self) -> dict[int, GpuLooked]:
        named = ((self._rank_of(node, index), gpu) for (node, index), gpu in self._gpus.items())
        return {rank: gpu for rank, gpu in named if rank is not None}

    def _rank(self, number: int) -> _Rank:
        known = self._world.ranks.get(number)
        if known is None:
            known = self._world.ranks[number] = _Rank()
        return known

    def _seen(self, number: int) -> _Rank:
        return self._world.ranks.get(number) or _NOBODY

    def _gpu_looked(self, signal: GpuLooked) -> None:
        self._gpus[signal.node, signal.index] = signal

    def _started(self, signal: s.RankStarted) -> None:
        if signal.world == self._world.number:
            self._world.started.add(signal.rank)

    def _looked_at(self, signal: s.CollectivesLooked) -> None:
        if signal.world == self._world.number and signal.groups:
            last = max(signal.groups, key=lambda group: group.enqueued)
            self._rank(signal.rank).collective = last.op or None

    def _moved(self, signal: s.RankProgress) -> None:
        if signal.world != self._world.number:
            return
        rank = self._rank(signal.rank)
        before = rank.stepped
        if before is None or signal.step > before[0]:
            if before is not None and signal.moved_at > before[1]:
                rank.step_s = (signal.moved_at - before[1]) / (signal.step - before[0])
            rank.stepped = (signal.step, signal.moved_at)
        rank.progress = signal

    def _reported(self, signal: s.RanksReported) -> None:
        if signal.world != self._world.number:
            return
        for n, number in enumerate(signal.ranks):
            rank = self._rank(number)
            rank.own_s = signal.own_s[n] if n < len(signal.own_s) else rank.own_s
            rank.loss = signal.losses[n] if n < len(signal.losses) else rank.loss
            rank.grad_norm = signal.grad_norms[n] if n < len(signal.grad_norms) else rank.grad_norm


_NOBODY = _Rank()


def _of_gpu(gpu: GpuLooked | None) -> tuple[Any, ...]:
    if gpu is None:
        return (None,) * 5
    used, whole = gpu.memory_used_bytes, gpu.memory_bytes
    share = used / whole if used is not None and whole else None
    power = gpu.power_w if gpu.power_w is not None else gpu.power_mean_w
    return (gpu.device, power, gpu.temperature_c, gpu.utilisation, share)

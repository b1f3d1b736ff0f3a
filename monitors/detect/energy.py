"""How many joules did the run take: in a time, in a step, for a token, and for steps that were trained twice?

Each GPU counts its energy since its driver was loaded; the difference of two readings is true whatever happened
between them, so polls may be rare, and may come late, twice or in any order: only a reading newer than all before of
its GPU counts. It is spread evenly over the time between the readings. A GPU that was not read is unknown, not zero:
what is told says which share of the GPU-seconds it covers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, isfinite

from monitors.hardware import GpuLooked
from monitors.signals import Signal, StepReported, WorldStopped

CELL_S = 1.0
"""the finest time that energy is told for: polls are further apart, so finer cells would only look precise"""
KEPT_CELLS = 3600
"""an hour of them; older ones are added up to minutes"""
COARSE_S = 60.0
_KEPT_COARSE = 60 * 24 * 60
_POWER_MAX_W = 3000.0
"""no GPU draws more, so a larger difference is a counter gone wrong"""
_SETTLE_S = 30.0
"""a GPU that was not read for so long does not hold up the others"""
_NOISE_J = 1.0
"""a counter that falls by less was rounded"""
_KNOWN_SHARE = 0.99
"""a step of which less is known is left out of the means: it would pull them down"""
_ENDS_KEPT = 4096
"""steps that wait for a reading: ten a second for longer than a GPU is waited for; of more, several become one"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Energy of all GPUs of the run in some time."""

    joules: float
    known_share: float
    """share of the GPU-seconds that readings cover; below 1, the true energy is higher"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnergy:
    """Energy from the end of one reported step to the end of the next."""

    step: int
    """the last one"""
    steps: int
    joules: float
    known_share: float
    tokens: float | None
    replayed: bool
    """these steps had been trained before, and were rolled back"""


@dataclass(slots=True)
class _Cell:
    joules: float = 0.0
    gpu_s: float = 0.0


@dataclass(slots=True)
class _Gpu:
    at: float
    energy_j: float


class Energy:
    """Adds up; times in seconds since the epoch. Total and pure: the same signals give the same joules."""

    def __init__(
        self,
        *,
        rank_of: Callable[[int, int], int | None] = lambda _node, index: index,
        counted_until: float | None = None,
    ) -> None:
        """`rank_of`: node and index of a GPU to its rank; what belongs to none is not the run's.

        `counted_until`: somebody before us counted readings up to this time, and may not have told who sent them:
        they come again, and are only what later ones are held against.
        """
        self._rank_of = rank_of
        self._counted_until = float("-inf") if counted_until is None else counted_until
        self.since = self.until = counted_until
        """from which time on was counted, up to the newest reading; None: nothing was yet, by anybody"""
        self._gpus: dict[str, _Gpu] = {}
        self._fine: dict[int, _Cell] = {}
        self._coarse: dict[int, _Cell] = {}
        self._ends: deque[tuple[int, float, float | None]] = deque(maxlen=_ENDS_KEPT)
        """steps whose end is newer than some GPU's reading"""
        self._ended: tuple[int, float] | None = None
        self._furthest = 0
        self._settled_at = float("-inf")
        self.joules = 0.0
        """of everything that was read"""
        self.gpu_s = 0.0
        """GPU-seconds that it was spent in"""
        self.replayed_j = 0.0
        """of steps that were trained for a second time"""
        self.step_j = 0.0
        """of steps trained for the first time"""
        self.steps = 0
        self.tokens = 0.0
        """of the steps whose tokens are known"""
        self.token_j = 0.0
        """of those steps"""
        self.newest: StepEnergy | None = None

    @property
    def joules_per_step(self) -> float | None:
        """Mean over the steps trained for the first time; None before any was settled."""
        return self.step_j / self.steps if self.steps else None

    @property
    def joules_per_token(self) -> float | None:
        """Mean over the steps whose tokens are known, counted as rank 0 reports them; None where it does not."""
        return self.token_j / self.tokens if self.tokens else None

    def see(self, signal: Signal) -> list[StepEnergy]:
        """Steps whose energy is known now."""
        if not isfinite(signal.at):
            return []
        match signal:
            case GpuLooked():
                self._looked(signal)
                return self._settle(signal.at)
            case StepReported():
                self._reported(signal)
            case WorldStopped():
                self._ended = None  # what lies between two worlds belongs to no step
                self._ends.clear()
            case _:
                pass
        return []

    def launched(self) -> None:
        """Another attempt begins: what GPUs did since the last one was not for this run."""
        self._gpus.clear()
        self._ends.clear()
        self._ended = None

    def between(self, start: float, end: float) -> Spent:
        """Energy of all GPUs from `start` to `end`; exact to a second within the last hour, to a minute before."""
        if end <= start or not self._gpus:
            return Spent(joules=0.0, known_share=0.0)
        joules, gpu_s = self._sum(self._fine, CELL_S, start, end)
        old_j, old_s = self._sum(self._coarse, COARSE_S, start, end)
        covered = (gpu_s + old_s) / (len(self._gpus) * (end - start))
        return Spent(joules=joules + old_j, known_share=min(1.0, covered))

    def _looked(self, signal: GpuLooked) -> None:
        if self._rank_of(signal.node, signal.index) is None:
            self._gpus.pop(signal.device, None)  # counted until its ranks said that they were given others
            return
        if signal.energy_j is None or not isfinite(signal.energy_j):
            return
        before = self._gpus.get(signal.device)
        if before is not None and signal.at <= before.at:
            return  # said again
        self._gpus[signal.device] = _Gpu(at=signal.at, energy_j=signal.energy_j)
        if before is None or signal.at <= self._counted_until:
            return
        took_s = signal.at - before.at
        joules = signal.energy_j - before.energy_j
        if joules < -_NOISE_J:
            joules = signal.energy_j  # the driver was loaded anew: at least this was spent since
        if joules > _POWER_MAX_W * took_s:
            return  # unknown, not zero: these GPU-seconds stay uncovered
        self._add(before.at, signal.at, max(0.0, joules))

    def _add(self, start: float, end: float, joules: float) -> None:
        self.since = start if self.since is None else self.since
        self.until = end if self.until is None else max(self.until, end)
        self.joules += joules
        self.gpu_s += end - start
        self._spread(start, end, joules / (end - start))

    def _spread(self, start: float, end: float, power_w: float) -> None:
        # A long gap is spread over minutes: an hour of seconds would be all that is kept.
        cells, size_s = (self._fine, CELL_S) if end - start < KEPT_CELLS / 4 else (self._coarse, COARSE_S)
        at = start
        while at < end:
            number = int(at // size_s)
            until = min(end, (number + 1) * size_s)
            until = until if until > at else end
            cell = cells.setdefault(number, _Cell())
            cell.joules += power_w * (until - at)
            cell.gpu_s += until - at
            at = until
        if len(self._fine) > 2 * KEPT_CELLS:
            self._thin()

    def _thin(self) -> None:
        """Add the older half of the seconds up to minutes."""
        for number in sorted(self._fine)[:KEPT_CELLS]:
            cell = self._fine.pop(number)
            into = self._coarse.setdefault(int(number * CELL_S // COARSE_S), _Cell())
            into.joules += cell.joules
            into.gpu_s += cell.gpu_s
        for number in sorted(self._coarse)[:-_KEPT_COARSE]:
            del self._coarse[number]

    @staticmethod
    def _sum(cells: dict[int, _Cell], size_s: float, start: float, end: float) -> tuple[float, float]:
        joules = gpu_s = 0.0
        first, last = int(start // size_s), int(end // size_s)
        numbers = range(first, last + 1) if last - first < len(cells) else [n for n in cells if first <= n <= last]
        for number in numbers:
            cell = cells.get(number)
            if cell is None:
                continue
            inside_s = min(end, (number + 1) * size_s) - max(start, number * size_s)
            joules += cell.joules * inside_s / size_s
            gpu_s += cell.gpu_s * inside_s / size_s
        return joules, gpu_s

    def _reported(self, signal: StepReported) -> None:
        if signal.rank == 0 and self._gpus:
            self._ends.append((signal.step, signal.at, signal.tokens))

    def _settle(self, now: float) -> list[StepEnergy]:
        """Steps that every GPU was read after; those that are not read any more are not waited for.

        A cell that is read in part would lend its steps too little, so the whole of it is waited for.
        """
        if not self._ends or not self._ends[0][1] <= now or now < self._settled_at + CELL_S:
            return []
        self._settled_at = now
        read_until = min((gpu.at for gpu in self._gpus.values() if gpu.at > now - _SETTLE_S), default=now)
        found: list[StepEnergy] = []
        while self._ends and ceil(self._ends[0][1] / CELL_S) * CELL_S <= read_until:
            found += self._step(*self._ends.popleft())
        return found

    def _step(self, step: int, at: float, tokens: float | None) -> list[StepEnergy]:
        before, self._ended = self._ended, (step, at)
        if before is None or step <= before[0] or at <= before[1]:
            return []
        steps, spent = step - before[0], self.between(before[1], at)
        replayed = step <= self._furthest
        self._furthest = max(self._furthest, step)
        is_known = spent.known_share >= _KNOWN_SHARE
        if replayed:
            self.replayed_j += spent.joules
        elif is_known:
            self.step_j += spent.joules
            self.steps += steps
        if is_known and tokens is not None and steps == 1:
            self.tokens += tokens
            self.token_j += spent.joules
        self.newest = StepEnergy(
            step=step,
            steps=steps,
            joules=spent.joules,
            known_share=spent.known_share,
            tokens=tokens,
            replayed=replayed,
        )
        return [self.newest]

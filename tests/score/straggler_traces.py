"""How would a training with a slow rank look? A simulated run: ranks, groups, collectives, clocks, and noise.

Every rank has a CPU and maybe a GPU, each a line of work with collectives on it; a collective goes on for its members
when the last one has come. With GPUs the CPU runs ahead and waits once a step, as with NCCL; without, it waits in each
collective, as with gloo. What is seen of it is what a supervisor sees: one rank's reports, all ranks' progress, and
flight recorders when the detector asks.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from monitors.hardware import GpuLooked, HostLooked
from monitors.sense.flight_recorder_dump import ARRIVALS
from monitors.signals import CollectivesLooked, GroupStatus, Phase, RankProgress, Signal, StepReported


@dataclass
class Rank:
    """One rank: its work in seconds, as factors of the usual, and its clocks."""

    number: int
    node: int
    cpu: float = 1.0
    gpu: float = 1.0
    """factor of the GPU's kernels"""
    data_s: float = 0.0
    """wait for the next batch, where the script marks it as such"""
    hidden_s: float = 0.0
    """the same, where it does not"""
    throttle: float = 0.0
    clock: float = 1.0
    lanes: int = 16
    cpu_at: float = 0.0
    gpu_at: float = 0.0
    spent_data_s: float = 0.0
    arrivals: dict[str, deque[tuple[int, float]]] = field(default_factory=dict)
    throttled_s: float = 0.0


@dataclass
class Layout:
    """Which collectives a step has: after which share of its work, in which group of each rank."""

    name: str
    calls: list[tuple[float, str]]
    """share of the step's work before it, and the kind of group"""
    tensor: int = 1
    """ranks of a tensor-parallel group"""


LAYOUTS = (
    Layout("ddp", [(0.5, "world"), (0.2, "world"), (0.15, "world"), (0.15, "world")]),
    Layout("fsdp", [(1 / 24, "world")] * 24),
    Layout("tensor", [(1 / 12, "tensor")] * 8 + [(1 / 12, "data")] * 4, tensor=4),
    Layout("one", [(1.0, "world")]),
)


class Run:
    """A training that goes on step by step. Times in seconds of a true clock; what is told is of hosts' clocks."""

    def __init__(self, seed: int, *, nodes: int | None = None) -> None:
        self.random = rng = random.Random(seed)
        self.nodes = nodes or rng.choice([1, 1, 2, 2, 4, 4, 8])
        self.per_node = rng.choice([4, 8])
        # A group of one is no group.
        self.layout = rng.choice([one for one in LAYOUTS if one.tensor < self.nodes * self.per_node])
        self.gpus = rng.random() < 0.6
        self.step_s = rng.choice([0.15, 0.5, 1.5, 5.0])
        self.noise = rng.choice([0.01, 0.02, 0.04])
        self.packing = 0.0
        """spread of the work that a batch makes, drawn anew for each rank and step"""
        self.heavy = 1.0
        """factor of everybody's work"""
        self.comm_s = self.step_s * rng.uniform(0.002, 0.02)
        self.ranks = [Rank(n, n // self.per_node) for n in range(self.nodes * self.per_node)]
        self.clocks = [rng.gauss(0, 0.004) if node else 0.0 for node in range(self.nodes)]
        self.drift = [rng.gauss(0, 2e-6) for _ in range(self.nodes)]
        self.cpu_share = rng.uniform(0.1, 0.4) if self.gpus else 1.0
        """with GPUs: time that the CPU needs to launch a step's kernels"""
        self.skew = [rng.gauss(1, 0.01) for _ in self.ranks]
        """ranks are never quite alike"""
        self.tells_tokens = rng.random() < 0.5
        self.step = 0
        self.now = 100.0
        self.seq: dict[str, int] = {}
        self.gpu_looked_at = 0.0
        self.steal: dict[int, float] = {}
        for rank in self.ranks:
            rank.cpu_at = rank.gpu_at = self.now
        self.groups = self._grouped()

    def _grouped(self) -> dict[str, list[list[int]]]:
        size, tensor = len(self.ranks), self.layout.tensor
        return {
            "world": [list(range(size))],
            "tensor": [list(range(first, first + tensor)) for first in range(0, size, tensor)],
            "data": [list(range(place, size, tensor)) for place in range(tensor)],
        }

    def told(self, rank: Rank, at: float) -> float:
        """The moment on this rank's host's clock."""
        return at + self.clocks[rank.node] + self.drift[rank.node] * (at - 100.0)

    def train(self, *, extra_s: float = 0.0, phase: Phase | None = None) -> list[Signal]:
        """One step; `extra_s` of everybody's time goes to `phase` inside it."""
        began = self.now
        work = [self._work(rank) for rank in self.ranks]
        tokens = 8192.0 * (work[0] / self.skew[0] / self.heavy if self.packing else 1.0)
        for rank in self.ranks:
            rank.cpu_at += rank.data_s * self.random.uniform(0.9, 1.1) + rank.hidden_s + extra_s
            rank.spent_data_s += rank.data_s
        for share, kind in self.layout.calls:
            self._call(share, kind, work)
        for rank in self.ranks:  # the loss is read
            rank.cpu_at = max(rank.cpu_at, rank.gpu_at) if self.gpus else rank.cpu_at
        self.step += 1
        self.now = self.ranks[0].cpu_at
        return [*self._aside(began, phase), *self._reports(began, tokens), *self._hardware()]

    def _work(self, rank: Rank) -> float:
        rng = self.random
        batch = rng.lognormvariate(0, self.packing) if self.packing else 1.0
        return self.heavy * batch * self.skew[rank.number] * max(0.7, rng.gauss(1, self.noise))

    def _call(self, share: float, kind: str, work: list[float]) -> None:
        for members in self.groups[kind]:
            name = f"{kind}{members[0]}"
            seq = self.seq[name] = self.seq.get(name, 0) + 1
            for number in members:
                rank = self.ranks[number]
                seconds = share * self.step_s * work[number]
                rank.cpu_at += seconds * self.cpu_share * rank.cpu
                if self.gpus:
                    rank.gpu_at = max(rank.gpu_at, rank.cpu_at) + seconds * rank.gpu
                rank.arrivals.setdefault(name, deque(maxlen=ARRIVALS)).append((seq, self.told(rank, rank.cpu_at)))
            last = max(self.ranks[n].gpu_at if self.gpus else self.ranks[n].cpu_at for n in members)
            for number in members:
                if self.gpus:
                    self.ranks[number].gpu_at = last + self.comm_s
                else:
                    self.ranks[number].cpu_at = last + self.comm_s

    def _aside(self, began: float, phase: Phase | None) -> list[Signal]:
        return [] if phase is None else [self._progress(self.ranks[0], began + 0.01, phase)]

    def _reports(self, began: float, tokens: float) -> list[Signal]:
        first = self.ranks[0]
        report = StepReported(
            at=self.told(first, self.now),
            node=0,
            world=1,
            rank=0,
            step=self.step,
            loss=2.0,
            tokens=tokens if self.tells_tokens else None,
            step_s=self.now - began,
        )
        return [report, *(self._progress(rank, rank.cpu_at + 0.02, Phase.STEP) for rank in self.ranks)]

    def _progress(self, rank: Rank, at: float, phase: Phase) -> RankProgress:
        spent = [0.0] * 7
        spent[2], spent[5] = self.now - rank.spent_data_s, rank.spent_data_s
        return RankProgress(
            at=self.told(rank, at),
            node=rank.node,
            world=1,
            rank=rank.number,
            step=self.step,
            phase=phase,
            moved_at=self.told(rank, at),
            spent_s=tuple(spent),
        )

    def _hardware(self) -> list[Signal]:
        if self.now - self.gpu_looked_at < 2.0:
            return []
        took, self.gpu_looked_at = self.now - self.gpu_looked_at, self.now
        hosts = [HostLooked(at=self.now, node=node, cpu_steal=share) for node, share in self.steal.items()]
        return [*hosts, *([self._gpu(rank, took) for rank in self.ranks] if self.gpus else [])]

    def _gpu(self, rank: Rank, took: float) -> GpuLooked:
        rank.throttled_s += rank.throttle * min(took, 10.0)
        return GpuLooked(
            at=self.told(rank, self.now),
            node=rank.node,
            device=f"GPU-{rank.number}",
            index=rank.number % self.per_node,
            name="NVIDIA H100 80GB HBM3",
            power_w=(480 if rank.clock > 0.97 else 400) * self.random.gauss(1, 0.03),
            limit_w=700.0,
            limit_default_w=700.0,
            utilisation=1.0,
            sm_clock_mhz=1900.0 * rank.clock * self.random.uniform(0.98, 1.0),
            sm_clock_max_mhz=1980.0,
            throttled_s=(("hw_thermal", rank.throttled_s), ("power_cap", 0.1 * self.now)),
            pcie_width=rank.lanes,
            pcie_width_max=16,
        )

    def looked(self, number: int) -> CollectivesLooked:
        """What this rank's flight recorder says now."""
        rank = self.ranks[number]
        groups = tuple(
            GroupStatus(group=name, arrivals=tuple(kept), enqueued=kept[-1][0]) for name, kept in rank.arrivals.items()
        )
        return CollectivesLooked(
            at=self.told(rank, self.now + 0.05), node=rank.node, world=1, rank=number, groups=groups
        )

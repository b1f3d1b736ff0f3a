"""What would the sensors of a run's GPUs say? Generated traces with a known fault, or with something innocent.

The physics is a time line of states for each GPU (compute, wait in a collective, idle) that is averaged over the poll
like a counter does, or sampled like an instant sensor does, with the sensor's noise and lag. Nothing of the detector is
used. Watts are of public measurements: H100 idle 70, spinning 110 to 160, training 450 to 700; A100 55, 85 to 110, 280
to 400.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from monitors.hardware import GpuFailed, GpuLooked
from monitors.signals import Phase, RankExited, RankProgress, Signal, StepReported


@dataclass(frozen=True)
class Model:
    """A kind of GPU."""

    name: str
    idle_w: float
    spin_w: float
    limit_w: float
    clock_mhz: float


MODELS = (
    Model("NVIDIA H100 80GB HBM3", 70, 128, 700, 1980),
    Model("NVIDIA A100-SXM4-80GB", 58, 96, 400, 1410),
    Model("NVIDIA H200", 76, 135, 700, 1980),
)

COMPUTE, WAIT, IDLE, DEAD = "compute", "wait", "idle", "dead"


@dataclass
class Gpu:
    """One GPU and what it does from when on."""

    device: str
    node: int
    index: int
    rank: int | None
    duty: float
    """share of a step in which it computes; it waits for the rest"""
    gain: float
    """of this board: the same work takes a little more or less power"""
    eras: list[tuple[float, str, float]] = field(default_factory=lambda: [(0.0, IDLE, 0.0)])
    """from when, what, and the duty"""
    reported_w: float | None = None
    energy_j: float = 0.0
    clock_factor: float = 1.0
    limit_factor: float = 1.0
    throttle: dict[str, float] = field(default_factory=dict)
    """seconds a second by reason"""
    throttled_s: dict[str, float] = field(default_factory=dict)
    blind: tuple[float, float] = (0.0, 0.0)
    """nothing is heard of it between these times"""

    def does(self, at: float, what: str, duty: float = 0.0) -> None:
        """From `at` on, until something later."""
        self.eras = [era for era in self.eras if era[0] < at] + [(at, what, duty)]

    def mix(self, start: float, end: float) -> dict[str, float]:
        """Share of the window in each state."""
        total = {COMPUTE: 0.0, WAIT: 0.0, IDLE: 0.0, DEAD: 0.0}
        span = max(1e-9, end - start)
        for (began, what, duty), until in zip(self.eras, [e[0] for e in self.eras[1:]] + [1e18], strict=True):
            inside = max(0.0, min(end, until) - max(start, began)) / span
            if what == COMPUTE:
                total[COMPUTE] += inside * duty
                total[WAIT] += inside * (1 - duty)
            else:
                total[what] += inside
        return total


@dataclass
class Trace:
    """One run: its truth, and what the sensors said."""

    name: str
    fault: bool
    kind: str | None
    """the incident that should come; None: none"""
    onset: float
    node: int | None = None
    rank: int | None = None
    poll_s: float = 5.0
    ranks_per_node: int = 8
    ranks: int = 8
    knows: str = ""
    """sdk, log or nothing: what is known of steps"""
    sensor: str = ""
    """energy or instant"""
    roles: dict[int, str] = field(default_factory=dict)
    signals: list[Signal] = field(default_factory=list)


class Cluster:
    """A run in the making."""

    def __init__(self, seed: int, *, nodes: int | None = None) -> None:
        self.random = rng = random.Random(seed)
        self.model = rng.choice(MODELS)
        self.nodes = nodes or rng.choice([1, 2, 2, 4, 4, 8, 8, 16])
        self.poll_s = rng.choice([2.0, 5.0, 10.0] if self.nodes > 8 else [1.0, 2.0, 5.0, 10.0])
        self.step_s = rng.choice([0.4, 1.0, 2.5, 6.0])
        self.knows = rng.choice(["sdk", "sdk", "log", "nothing"])
        self.sensor = rng.choice(["energy", "energy", "instant"])
        self.lag = rng.choice([0.0, 0.3, 0.6])
        """share of the reading before that is still in this one"""
        self.noise = rng.uniform(0.005, 0.03)
        # Long enough for what only time can tell where nothing is known of steps.
        self.polls = rng.randint(45, 70) + round(90 / self.poll_s)
        self.end = self.polls * self.poll_s
        self.demand = rng.uniform(0.6, 1.15)
        """power that the kernels would take at full clock, over the limit"""
        duty = rng.uniform(0.7, 0.95)
        stages = rng.choice([1, 1, 1, 2, 4]) if self.nodes > 1 else 1
        self.roles = {r: f"stage{r * stages // (8 * self.nodes)}" for r in range(8 * self.nodes)} if stages > 1 else {}
        lean = [duty * rng.uniform(0.8, 1.0) for _ in range(stages)]
        node_gain = [rng.uniform(0.94, 1.04) for _ in range(self.nodes)]
        self.gpus = [
            Gpu(
                device=f"GPU-{seed:04x}-{rank:05x}",
                node=rank // 8,
                index=rank % 8,
                rank=rank,
                duty=lean[rank * stages // (8 * self.nodes)],
                gain=node_gain[rank // 8] * rng.uniform(0.96, 1.03),
            )
            for rank in range(8 * self.nodes)
        ]
        self.asides: list[tuple[float, float, Phase, frozenset[int]]] = []
        self.stands: list[tuple[float, float]] = []
        """when no step ends"""
        self.exits_at: float | None = None
        self.begins = rng.uniform(2, 6) * self.poll_s
        for gpu in self.gpus:
            gpu.does(self.begins + rng.uniform(0, 3) * self.step_s, COMPUTE, gpu.duty)

    def when(self) -> float:
        """A moment well inside the training."""
        # 90 s are left after it: what nothing but time can tell takes a minute.
        earliest = self.begins + 3 * self.step_s + 14 * self.poll_s
        return self.random.uniform(earliest, max(earliest, self.end - 90 - 8 * self.poll_s))

    def everybody(self, at: float, what: str, until: float | None = None, but: frozenset[int] = frozenset()) -> None:
        """All GPUs do this; then they train on."""
        for gpu in self.gpus:
            if gpu.rank not in but:
                gpu.does(at, what, gpu.duty)
                if until is not None:
                    gpu.does(until, COMPUTE, gpu.duty)

    def stall(self, start: float, end: float) -> None:
        """No step ends."""
        self.stands.append((start, end))

    def signals(self) -> Iterator[Signal]:
        """In the order in which a supervisor hears them."""
        rng = self.random
        shift = [rng.uniform(0, self.poll_s) for _ in range(self.nodes)]
        heard: list[Signal] = []
        before = [0.0] * len(self.gpus)
        for poll in range(1, self.polls):
            for number, gpu in enumerate(self.gpus):
                at = poll * self.poll_s + shift[gpu.node] + 0.002 * gpu.index
                heard += self._polled(gpu, before[number], at)
                before[number] = at
        heard += self._steps()
        if self.exits_at is not None:
            at = self.exits_at + rng.uniform(0.1, 8.0)
            heard.append(RankExited(at=at, node=0, world=1, rank=0, code=0, signal=None, step=1))
        heard.sort(key=lambda signal: signal.at)
        yield from heard

    def _polled(self, gpu: Gpu, start: float, at: float) -> list[Signal]:
        mix = gpu.mix(start, at)
        took = at - start
        for reason, share in gpu.throttle.items():
            gpu.throttled_s[reason] = gpu.throttled_s.get(reason, 0.0) + share * took * (mix[COMPUTE] + mix[WAIT])
        if gpu.blind[0] <= at < gpu.blind[1]:
            return []
        if mix[DEAD] > 0.5:
            gone = GpuFailed(at=at, node=gpu.node, device=gpu.device, index=gpu.index, error="lost")
            return [gone]
        return [self._look(gpu, mix, took, at)]

    def _look(self, gpu: Gpu, mix: dict[str, float], took: float, at: float) -> GpuLooked:
        m, rng = self.model, self.random
        wanted_w = self.demand * m.limit_w * gpu.gain * (0.35 + 0.65 * gpu.clock_factor)
        work_w = min(wanted_w, 0.99 * m.limit_w * gpu.limit_factor)
        watts = {COMPUTE: work_w, WAIT: m.spin_w * gpu.gain, IDLE: m.idle_w, DEAD: 0.0}
        true_w = sum(share * watts[what] for what, share in mix.items())
        gpu.energy_j += true_w * took
        now = gpu.mix(at - 0.05, at)
        phase = rng.choices(list(now), weights=[max(1e-12, s) for s in now.values()])[0]
        jitter = rng.gauss(1, self.noise)
        mean_w = true_w * jitter
        if gpu.reported_w is not None:
            mean_w = self.lag * gpu.reported_w + (1 - self.lag) * mean_w
        gpu.reported_w = mean_w
        busy = mix[COMPUTE] + mix[WAIT]
        # Power grows about as the square of the clock; only computing runs into the limit.
        clocks = {
            COMPUTE: m.clock_mhz * (work_w / wanted_w) ** 0.5,
            WAIT: m.clock_mhz,
            IDLE: 0.35 * m.clock_mhz,
            DEAD: 0.0,
        }
        return GpuLooked(
            at=at,
            node=gpu.node,
            device=gpu.device,
            index=gpu.index,
            name=m.name,
            power_w=watts[phase] * rng.gauss(1, self.noise),
            power_mean_w=mean_w if self.sensor == "energy" else None,
            energy_j=gpu.energy_j,
            limit_w=m.limit_w * gpu.limit_factor,
            limit_default_w=m.limit_w,
            utilisation=round(min(1.0, busy), 2),
            sm_clock_mhz=clocks[phase] * gpu.clock_factor * rng.uniform(0.985, 1.0),
            sm_clock_max_mhz=m.clock_mhz,
            throttled_s=tuple(gpu.throttled_s.items()),
        )

    def _steps(self) -> Iterator[Signal]:
        """What is known of the step clock, thinned to a few ranks and about two words a poll."""
        if self.knows == "nothing":
            return
        step, at = 0, self.begins
        end = self.exits_at or self.end
        told = [g.rank for g in self.gpus if g.rank is not None][:: max(1, len(self.gpus) // 8)]
        while at < end:
            stall = next((s for s in self.stands if s[0] <= at < s[1]), None)
            if stall is not None:
                yield from self._stuck(stall, step, told)
                at = stall[1]
                continue
            at, step = at + self.step_s, step + 1
            if self.knows == "log":
                yield StepReported(at=at, node=0, world=1, rank=0, step=step, loss=2.0)
                continue
            for rank in told:
                yield self._progress(rank, at, step, Phase.STEP, at)

    def _stuck(self, stall: tuple[float, float], step: int, told: list[int]) -> Iterator[Signal]:
        """Ranks that stand: those in a phase of their own say so."""
        if self.knows != "sdk":
            return
        start, end = stall
        aside = [a for a in self.asides if a[0] < end and a[1] > start]
        at = start + 0.1
        while at < min(end, self.end):
            for rank in told:
                phase = next((a[2] for a in aside if a[0] <= at < a[1] and rank in a[3]), Phase.STEP)
                yield self._progress(rank, at, step, phase, start)
            at += max(0.25, self.poll_s / 2)

    @staticmethod
    def _progress(rank: int, at: float, step: int, phase: Phase, moved: float) -> RankProgress:
        return RankProgress(
            at=at, node=rank // 8, world=1, rank=rank, step=step, phase=phase, moved_at=moved, spent_s=(0.0,) * 7
        )


def finished(cluster: Cluster, trace: Trace) -> Trace:
    """The trace with its signals."""
    return replace(
        trace,
        poll_s=cluster.poll_s,
        ranks=len(cluster.gpus),
        knows=cluster.knows,
        sensor=cluster.sensor,
        roles=cluster.roles,
        signals=list(cluster.signals()),
    )

"""Which faults show in power, and which innocent things look like them? One function each, on a generated cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from monitors.hardware import GpuLooked
from monitors.signals import Phase
from tests.score.power_traces import COMPUTE, DEAD, IDLE, WAIT, Cluster, Gpu, Trace, finished

Scene = Callable[[Cluster], Trace]


def _one(cluster: Cluster) -> Gpu:
    return cluster.random.choice([gpu for gpu in cluster.gpus if gpu.rank is not None])


def _hang(cluster: Cluster, culprit: str) -> Trace:
    gpu, at = _one(cluster), cluster.when()
    cluster.everybody(at, WAIT, but=frozenset({gpu.rank or 0}))
    gpu.does(at - 0.2 * cluster.step_s, culprit, 1.0)
    cluster.stall(at, 1e9)
    return Trace("", fault=True, kind="power_drop", onset=at, node=gpu.node, rank=gpu.rank)


def laggard_idle(cluster: Cluster) -> Trace:
    """A rank's CPU code is stuck: its GPU idles, all others spin."""
    return _hang(cluster, IDLE)


def laggard_working(cluster: Cluster) -> Trace:
    """A kernel that never ends: its GPU works, all others spin."""
    return _hang(cluster, COMPUTE)


def gpu_gone(cluster: Cluster) -> Trace:
    """A GPU does not answer any more, the others spin."""
    return _hang(cluster, DEAD)


def node_stuck(cluster: Cluster) -> Trace:
    """The host of one node stands; the other nodes' GPUs spin."""
    at, node = cluster.when(), cluster.random.randrange(cluster.nodes)
    cluster.everybody(at, WAIT)
    for gpu in cluster.gpus:
        if gpu.node == node:
            gpu.does(at, IDLE)
    cluster.stall(at, 1e9)
    return Trace("", fault=True, kind="power_drop", onset=at, node=node if cluster.nodes > 1 else None)


def all_spin(cluster: Cluster) -> Trace:
    """The network stands: everybody waits in a collective."""
    at = cluster.when()
    cluster.everybody(at, WAIT)
    cluster.stall(at, 1e9)
    return Trace("", fault=True, kind="power_drop", onset=at)


def all_idle(cluster: Cluster) -> Trace:
    """Storage stands: everybody waits for data on the CPU."""
    at = cluster.when()
    cluster.everybody(at, IDLE)
    cluster.stall(at, 1e9)
    return Trace("", fault=True, kind="power_drop", onset=at)


def outlier(cluster: Cluster) -> Trace:
    """One GPU does a fraction of its work while the run goes on."""
    gpu, at = _one(cluster), cluster.when()
    gpu.does(at, COMPUTE, cluster.random.uniform(0.0, 0.2) * gpu.duty)
    return Trace("", fault=True, kind="power_drop", onset=at, node=gpu.node, rank=gpu.rank)


def _slowed(cluster: Cluster, at: float, slow: list[Gpu], factor: float) -> None:
    """Each step takes the slow ones 1/factor as long: they compute all of it, the others wait for them."""
    for gpu in cluster.gpus:
        gpu.does(at, COMPUTE, gpu.duty * factor)
    for gpu in slow:
        gpu.does(at, COMPUTE, gpu.duty)
        gpu.clock_factor = factor  # from the start of the trace: a clock of before does not matter to the fault


def heat(cluster: Cluster) -> Trace:
    """One GPU is slowed for heat."""
    gpu, at = _one(cluster), cluster.when()
    _slowed(cluster, at, [gpu], cluster.random.uniform(0.55, 0.9))
    gpu.throttle[cluster.random.choice(["hw_thermal", "sw_thermal", "thermal"])] = cluster.random.uniform(0.3, 1.0)
    return Trace("", fault=True, kind="gpu_degraded", onset=0.0, node=gpu.node, rank=gpu.rank)


def brake(cluster: Cluster) -> Trace:
    """A power supply of a node failed: all of its GPUs are slowed."""
    at, node = cluster.when(), cluster.random.randrange(cluster.nodes)
    slow = [gpu for gpu in cluster.gpus if gpu.node == node]
    _slowed(cluster, at, slow, cluster.random.uniform(0.4, 0.7))
    for gpu in slow:
        gpu.throttle["power_brake"] = cluster.random.uniform(0.3, 1.0)
    return Trace("", fault=True, kind="gpu_degraded", onset=0.0, node=node)


def capped(cluster: Cluster) -> Trace:
    """One node's power limit is below its peers', from the start."""
    node, factor = cluster.random.randrange(cluster.nodes), cluster.random.uniform(0.55, 0.85)
    for gpu in cluster.gpus:
        if gpu.node == node and (cluster.nodes > 1 or gpu.index == 0):
            gpu.limit_factor = factor
    alone = 0 if cluster.nodes == 1 else None
    return Trace("", fault=True, kind="gpu_degraded", onset=0.0, node=node, rank=alone)


def stuck_clock(cluster: Cluster) -> Trace:
    """One GPU's clock does not rise, and no counter says why."""
    gpu = _one(cluster)
    _slowed(cluster, cluster.begins, [gpu], cluster.random.uniform(0.4, 0.65))
    return Trace("", fault=True, kind="gpu_degraded", onset=0.0, node=gpu.node, rank=gpu.rank)


def _innocent(at: float = 0.0) -> Trace:
    return Trace("", fault=False, kind=None, onset=at)


def clean(cluster: Cluster) -> Trace:  # noqa: ARG001 - as made
    """Nothing happens."""
    return _innocent()


def saves(cluster: Cluster) -> Trace:
    """All stop for a save now and then: rank 0, or all, write."""
    rng = cluster.random
    lasts, every = rng.uniform(2, 45), rng.uniform(10, 18) * cluster.poll_s
    at = cluster.begins + every
    while at + lasts < cluster.end:
        everybody = rng.random() < 0.5
        cluster.everybody(at, IDLE if everybody else WAIT, at + lasts)
        if not everybody:
            cluster.gpus[0].does(at, IDLE)
            cluster.gpus[0].does(at + lasts, COMPUTE, cluster.gpus[0].duty)
        cluster.stall(at, at + lasts)
        ranks = frozenset(range(len(cluster.gpus)))
        cluster.asides.append((at, at + lasts, Phase.SAVE, ranks))
        at += lasts + every
    return _innocent()


def evaluation(cluster: Cluster) -> Trace:
    """All evaluate: forward only, less power, no steps."""
    at, lasts = cluster.when(), cluster.random.uniform(10, 90)
    for gpu in cluster.gpus:
        gpu.does(at, COMPUTE, 0.7 * gpu.duty)
        gpu.does(at + lasts, COMPUTE, gpu.duty)
    cluster.stall(at, at + lasts)
    cluster.asides.append((at, at + lasts, Phase.EVAL, frozenset(range(len(cluster.gpus)))))
    return _innocent()


def evaluation_of_one(cluster: Cluster) -> Trace:
    """Rank 0 evaluates, all others wait for it."""
    at, lasts = cluster.when(), cluster.random.uniform(5, 50)
    cluster.everybody(at, WAIT, at + lasts, but=frozenset({0}))
    cluster.stall(at, at + lasts)
    cluster.asides.append((at, at + lasts, Phase.EVAL, frozenset({0})))
    return _innocent()


def slow_start(cluster: Cluster) -> Trace:
    """Ranks compile for different times, spinning or idle, before the first step."""
    late = cluster.random.uniform(8, 20) * cluster.poll_s
    for gpu in cluster.gpus:
        gpu.eras = [(0.0, IDLE, 0.0)]
        gpu.does(cluster.random.uniform(0.1, 0.9) * late, cluster.random.choice([WAIT, IDLE]))
        gpu.does(late, COMPUTE, gpu.duty)
    cluster.begins = late
    return _innocent()


def end_of_job(cluster: Cluster) -> Trace:
    """The run ends; the GPUs idle until the end is heard, and after."""
    at = cluster.when()
    cluster.everybody(at, IDLE)
    cluster.exits_at = at
    return _innocent()


def spare_gpus(cluster: Cluster) -> Trace:
    """Half of each node's GPUs belong to nobody, and idle or do another's work."""
    for gpu in cluster.gpus:
        if gpu.index >= 4:
            gpu.rank = None
            gpu.does(0.0, cluster.random.choice([IDLE, WAIT, COMPUTE]), 0.5)
    return replace(_innocent(), ranks_per_node=4)


def slices(cluster: Cluster) -> Trace:
    """MIG: use is not counted, and the power is of whatever else runs on the board."""
    for gpu in cluster.gpus:
        at = cluster.begins
        while at < cluster.end:
            gpu.does(at, COMPUTE, cluster.random.uniform(0.1, 0.9))
            at += cluster.random.uniform(3, 12) * cluster.poll_s
    return _innocent()


def site_cap(cluster: Cluster) -> Trace:
    """All GPUs of the run have the same lower limit, and run into it."""
    for gpu in cluster.gpus:
        gpu.limit_factor = 0.7
        gpu.throttle["power_cap"] = cluster.random.uniform(0.4, 1.0)
    return _innocent()


def warm(cluster: Cluster) -> Trace:
    """The driver trims some GPUs for heat now and then, as it should."""
    for gpu in cluster.gpus:
        gpu.throttle["power_cap"] = cluster.random.uniform(0.0, 0.9)
        if cluster.random.random() < 0.3:
            gpu.throttle["sw_thermal"] = cluster.random.uniform(0.0, 0.08)
    return _innocent()


def agent_paused(cluster: Cluster) -> Trace:
    """One node is not heard for a while, and trains."""
    at, node = cluster.when(), cluster.random.randrange(cluster.nodes)
    for gpu in cluster.gpus:
        if gpu.node == node:
            gpu.blind = (at, at + 8 * cluster.poll_s)
    return _innocent()


def uneven(cluster: Cluster) -> Trace:
    """One rank always has more work: full power, a lower clock, and nothing is wrong with its GPU."""
    gpu = _one(cluster)
    gpu.duty = 0.98
    gpu.does(cluster.begins, COMPUTE, 0.98)
    gpu.clock_factor = 0.93
    gpu.gain *= 1.08
    return _innocent()


def lighter_work(cluster: Cluster) -> Trace:
    """A schedule changes the sequence length: everybody draws less from then on."""
    at, factor = cluster.when(), cluster.random.uniform(0.7, 0.92)
    for gpu in cluster.gpus:
        gpu.does(at, COMPUTE, factor * gpu.duty)
    return _innocent()


FAULTS: tuple[Scene, ...] = (
    laggard_idle,
    laggard_working,
    gpu_gone,
    node_stuck,
    all_spin,
    all_idle,
    outlier,
    heat,
    brake,
    capped,
    stuck_clock,
)
INNOCENT: tuple[Scene, ...] = (
    clean,
    saves,
    evaluation,
    evaluation_of_one,
    slow_start,
    end_of_job,
    spare_gpus,
    slices,
    site_cap,
    warm,
    agent_paused,
    uneven,
    lighter_work,
)


def traces(each: int, *, seed: int = 0) -> Iterator[Trace]:
    """`each` traces of every scene, always the same ones for one seed; now and then one of 1,024 GPUs."""
    for number, scene in enumerate((*FAULTS, *INNOCENT)):
        for turn in range(each):
            large = 128 if turn == 3 and number % 8 == 0 else None
            cluster = Cluster(seed * 100_003 + number * 1_009 + turn, nodes=large)
            trace = scene(cluster)
            trace.name = scene.__name__
            yield _as_seen(scene, finished(cluster, trace))


def _as_seen(scene: Scene, trace: Trace) -> Trace:
    if scene is slices:
        trace.signals = [replace(s, utilisation=None) if isinstance(s, GpuLooked) else s for s in trace.signals]
    return trace

"""Which stragglers are there, and what only looks like one? Each scene drives a simulated run past the detector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from monitors.detect.straggler import Straggler
from monitors.incidents import Incident
from monitors.signals import Phase, Signal
from tests.score.straggler_traces import Rank, Run


@dataclass
class Case:
    """The truth of one run, and what the detector said."""

    name: str
    fault: bool
    onset: int = 0
    """first slow step; 0: from the start"""
    node: int | None = None
    rank: int | None = None
    """None of a fault: the whole node"""
    incidents: list[tuple[int, Incident]] = field(default_factory=list)
    """step at which it came, and what"""
    signals: int = 0
    note: str = ""

    def names(self, incident: Incident) -> bool:
        """It is the culprit that this incident names."""
        return self.fault and (incident.subject.node, incident.subject.rank) == (self.node, self.rank)

    @property
    def right(self) -> int | None:
        """Step of the first incident that names the culprit."""
        return next((step for step, incident in self.incidents if self.names(incident)), None)


Change = Callable[[Run, int], dict[str, object] | None]
"""called before each step, with its number; may return arguments for `train`"""


def drive(run: Run, case: Case, change: Change, steps: int) -> Case:
    """Train, and hand the detector what it would hear and what it asks for."""
    detector = Straggler(ranks=len(run.ranks), ranks_per_node=run.per_node)
    detector.world_began(1)
    case.note = f"{run.layout.name} gpus={run.gpus} ranks={len(run.ranks)} step_s={run.step_s} noise={run.noise}"

    def hear(signals: list[Signal], step: int) -> None:
        for signal in signals:
            case.incidents += [(step, incident) for incident in detector.see(signal)]
        case.signals += len(signals)

    for step in range(1, steps + 1):
        slow_start = {"extra_s": (4 - step) * run.step_s} if step < 4 else {}
        hear(run.train(**(change(run, step) or slow_start)), step)  # type: ignore[arg-type]
        hear([run.looked(rank) for rank in detector.looks], step)
    return case


def _steady(slow: Callable[[Run, Rank], None], name: str) -> Callable[[Run], Case]:
    def scene(run: Run) -> Case:
        onset = run.random.randint(30, 60)
        culprit = run.random.choice(run.ranks)

        def change(run: Run, step: int) -> None:
            if step == onset:
                slow(run, culprit)

        case = Case(name, fault=True, onset=onset, node=culprit.node, rank=culprit.number)
        return drive(run, case, change, onset + 40)

    scene.__name__ = name
    return scene


def _cpu(run: Run, rank: Rank) -> None:
    rank.cpu = _bound(run, run.random.uniform(0.2, 1.0))


def _bound(run: Run, more: float) -> float:
    """Factor of the CPU's work that makes a step longer by the share `more`: launching hides behind the GPU's work."""
    usual_s = run.step_s + run.comm_s * len(run.layout.calls)
    return (1 + more) * usual_s / (run.step_s * run.cpu_share)


def _hidden(run: Run, rank: Rank) -> None:
    rank.hidden_s = run.random.uniform(0.15, 0.8) * run.step_s


def _data(run: Run, rank: Rank) -> None:
    rank.data_s += run.random.uniform(0.2, 1.0) * run.step_s


def _hot(run: Run, rank: Rank) -> None:
    run.gpus, run.cpu_share = True, 0.3
    factor = run.random.uniform(1.2, 2.0)
    rank.gpu, rank.clock, rank.throttle = factor, 1 / factor, run.random.uniform(0.3, 1.0)


def _narrow(run: Run, rank: Rank) -> None:
    run.gpus, run.cpu_share = True, 0.3
    rank.gpu, rank.lanes = run.random.uniform(1.15, 1.5), run.random.choice([4, 8])


def _packed(run: Run, rank: Rank) -> None:
    _hidden(run, rank)
    rank.hidden_s = max(rank.hidden_s, 0.5 * run.step_s)


def slow_cpu(run: Run) -> Case:
    """A neighbour takes a part of one rank's CPU."""
    return _steady(_cpu, "slow_cpu")(run)


def slow_unmarked(run: Run) -> Case:
    """One rank loads its data slowly; the script marks no phase."""
    return _steady(_hidden, "slow_unmarked")(run)


def slow_data(run: Run) -> Case:
    """One rank waits for its data; the script says so."""
    for rank in run.ranks:
        rank.data_s = 0.02 * run.step_s
    return _steady(_data, "slow_data")(run)


def hot_gpu(run: Run) -> Case:
    """One GPU is slowed for heat; all CPUs are alike."""
    run.gpus, run.cpu_share = True, 0.3
    return _steady(_hot, "hot_gpu")(run)


def narrow_bus(run: Run) -> Case:
    """One GPU has lost PCIe lanes."""
    run.gpus, run.cpu_share = True, 0.3
    return _steady(_narrow, "narrow_bus")(run)


def slow_among_packed(run: Run) -> Case:
    """A slow rank while sequences differ from rank to rank."""
    run.packing = 0.1
    return _steady(_packed, "slow_among_packed")(run)


def slow_node(run: Run) -> Case:
    """A whole node gets less CPU than it should."""
    if run.nodes == 1:
        run = Run(run.random.randrange(1 << 30), nodes=4)
    onset, node = run.random.randint(30, 60), run.random.randrange(run.nodes)

    def change(run: Run, step: int) -> None:
        if step == onset:
            run.steal[node] = 0.4
            factor = _bound(run, run.random.uniform(0.3, 0.8))
            for rank in run.ranks:
                rank.cpu = factor if rank.node == node else 1.0

    return drive(run, Case("slow_node", fault=True, onset=onset, node=node), change, onset + 40)


def slow_from_the_start(run: Run) -> Case:
    """One rank was never as fast as the others."""
    culprit = run.random.choice(run.ranks)
    culprit.hidden_s = run.random.uniform(0.4, 0.9) * run.step_s
    case = Case("slow_from_the_start", fault=True, onset=1, node=culprit.node, rank=culprit.number)
    return drive(run, case, lambda run, step: None, 60)  # noqa: ARG005


def _quiet(name: str, change: Change) -> Callable[[Run], Case]:
    def scene(run: Run) -> Case:
        return drive(run, Case(name, fault=False), change, 120)

    scene.__name__ = name
    return scene


def _nothing(run: Run, step: int) -> None:
    pass


def _all_heavier(run: Run, step: int) -> None:
    if step == 50:
        run.heavy = run.random.uniform(1.15, 1.8)


def _congested(run: Run, step: int) -> None:
    if step == 50:
        run.comm_s *= 10


def _evaluates(run: Run, step: int) -> dict[str, object] | None:
    return {"extra_s": 6 * run.step_s, "phase": Phase.EVAL} if step % 10 == 0 else None


def _evaluates_unmarked(run: Run, step: int) -> dict[str, object] | None:
    return {"extra_s": 6 * run.step_s} if step % 10 == 0 else None


def _saves(run: Run, step: int) -> dict[str, object] | None:
    """The disk is busy for some steps after each save, most of all on rank 0."""
    after = step % 25
    for rank in run.ranks:
        rank.hidden_s = (0.05 if rank.number else 0.08) * run.step_s if after < 2 else 0.0
    return {"extra_s": run.step_s, "phase": Phase.SAVE} if after == 0 else None


def _pauses(run: Run, step: int) -> None:  # noqa: ARG001 - a change
    """Garbage collection: any rank, any step."""
    for rank in run.ranks:
        rank.hidden_s = 0.0
    if run.random.random() < 0.3:
        run.random.choice(run.ranks).hidden_s = run.random.uniform(0.2, 1.5) * run.step_s


def _blinks(run: Run, step: int) -> None:
    """One rank is slow for two steps, now and then."""
    if step % 30 in (0, 2):
        run.random.choice(run.ranks).hidden_s = 0.6 * run.step_s if step % 30 == 0 else 0.0
        if step % 30 == 2:
            for rank in run.ranks:
                rank.hidden_s = 0.0


def _warm(run: Run, step: int) -> None:  # noqa: ARG001 - a change
    for rank in run.ranks[::3]:
        rank.throttle = 0.02


def packed(run: Run) -> Case:
    """Sequence packing: in each step another rank has the most to do."""
    run.packing = run.random.choice([0.05, 0.15, 0.3])
    return _quiet("packed", _nothing)(run)


def packed_heavier(run: Run) -> Case:
    """The same, and the sequences become longer."""
    run.packing = run.random.choice([0.05, 0.15, 0.3])
    return _quiet("packed_heavier", _all_heavier)(run)


FAULTS: tuple[Callable[[Run], Case], ...] = (
    slow_cpu,
    slow_unmarked,
    slow_data,
    hot_gpu,
    narrow_bus,
    slow_among_packed,
    slow_node,
    slow_from_the_start,
)
INNOCENT: tuple[Callable[[Run], Case], ...] = (
    _quiet("clean", _nothing),
    packed,
    packed_heavier,
    _quiet("all_heavier", _all_heavier),
    _quiet("network_slower", _congested),
    _quiet("evaluates", _evaluates),
    _quiet("evaluates_unmarked", _evaluates_unmarked),
    _quiet("busy_after_saves", _saves),
    _quiet("pauses", _pauses),
    _quiet("slow_for_two_steps", _blinks),
    _quiet("warm", _warm),
)


def cases(each: int, *, seed: int = 0) -> Iterator[Case]:
    """`each` runs of every scene, always the same for one seed; now and then one of 1,024 ranks."""
    for number, scene in enumerate((*FAULTS, *INNOCENT)):
        for turn in range(each):
            nodes = 128 if turn == 2 and number % 6 == 0 else None
            yield scene(Run(seed * 99_991 + number * 1_013 + turn, nodes=nodes))

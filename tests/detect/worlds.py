"""Signals of a world that trains, for tables of what went wrong in it."""

from __future__ import annotations

from dataclasses import dataclass, field

from monitors.incidents import Incident
from monitors.signals import NodeSeen, Phase, ProcessLooked, RankExited, RankProgress, RankRestored, Signal
from monitors.watch import Watch, WatchConfig

LOOK_S = 0.25
"""as agents do"""


@dataclass
class Rank:
    """One rank as its agent sees it."""

    number: int
    node: int
    step: int = 0
    phase: Phase = Phase.STEP
    moved_at: float = 0.0
    speaks: bool = False
    still: bool = False
    """it finishes no step any more"""
    spent_s: list[float] = field(default_factory=lambda: [0.0] * 7)

    def does(self, phase: Phase, at: float) -> None:
        """Enter a phase."""
        self.spent_s[list(Phase).index(self.phase)] += at - self.moved_at
        self.phase, self.moved_at = phase, at

    def looked(self, at: float, world: int) -> RankProgress:
        """What the agent reports."""
        spent_s = list(self.spent_s)
        spent_s[list(Phase).index(self.phase)] += at - self.moved_at
        return RankProgress(
            at=at,
            node=self.node,
            world=world,
            rank=self.number,
            step=self.step,
            phase=self.phase,
            moved_at=self.moved_at,
            spent_s=tuple(spent_s),
            speaks=self.speaks,
        )


class World:
    """Ranks in lockstep, their agents' looks, and the watch that hears of them."""

    def __init__(self, *, nodes: int = 1, ranks_per_node: int = 2, step_s: float = 0.1, **config: float) -> None:
        self.watch = Watch(WatchConfig(**config), nodes=nodes, ranks_per_node=ranks_per_node)  # type: ignore[arg-type]
        self.ranks = [Rank(number=n, node=n // ranks_per_node) for n in range(nodes * ranks_per_node)]
        self.unheard: set[int] = set()
        self.now = 0.0
        self.world = 0
        self.step_s = step_s
        self.incidents: list[Incident] = []
        self.begin(0)

    def begin(self, step: int) -> None:
        """A new set of ranks restores this step and starts to train."""
        self.world += 1
        self.watch.world_began(self.world, self.now)
        for rank in self.ranks:
            rank.step, rank.phase, rank.moved_at, rank.still = step, Phase.STEP, self.now, False
            rank.spent_s = [0.0] * 7
            self.say(
                RankRestored(
                    at=self.now, node=rank.node, world=self.world, rank=rank.number, checkpoint=None, step=step
                )
            )

    def say(self, *signals: Signal) -> None:
        """The watch hears these."""
        for signal in signals:
            self.incidents += self.watch.see(signal)
        if self.watch.deadline is not None and self.watch.deadline <= self.now:
            self.incidents += self.watch.silent(self.now)

    def look(self) -> None:
        """Every agent looks at its ranks."""
        for node in sorted({rank.node for rank in self.ranks} - self.unheard):
            progress = [rank.looked(self.now, self.world) for rank in self.ranks if rank.node == node]
            self.say(*progress, NodeSeen(at=self.now, node=node, world=self.world))

    def train(self, steps: int, step_s: float | None = None) -> None:
        """Finish steps, all ranks together."""
        for _ in range(steps):
            self.passes(self.step_s if step_s is None else step_s)
            for rank in self.ranks:
                if not rank.still:
                    rank.spent_s[2] += self.now - rank.moved_at
                    rank.step, rank.moved_at = rank.step + 1, self.now
            self.look()

    def passes(self, seconds: float) -> None:
        """Time goes by; agents look, ranks do what they do."""
        end = self.now + seconds
        while self.now + LOOK_S < end:
            self.now += LOOK_S
            self.look()
        self.now = end

    def until_incident(self, seconds: float) -> float:
        """Let time go by until something is concluded; how long that took."""
        began = self.now
        while not self.incidents and self.now < began + seconds:
            self.now += 0.05
            self.look()
        return self.now - began

    def kernel(self, rank: int, state: str, stack: tuple[str, ...] = (), *, cpu_s: float = 1.0) -> None:
        """An agent looks at a process."""
        node = self.ranks[rank].node
        self.say(
            ProcessLooked(at=self.now, node=node, world=self.world, rank=rank, state=state, cpu_s=cpu_s, stack=stack)
        )

    def ends(self, rank: int, code: int | None = 0, signal: int | None = None) -> None:
        """A rank's process ends."""
        of = self.ranks[rank]
        self.say(
            RankExited(at=self.now, node=of.node, world=self.world, rank=rank, code=code, signal=signal, step=of.step)
        )

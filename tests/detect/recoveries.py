"""Runs that recover: rows of a run that is lost and goes on, healthy in many ways, and broken in a few.

What is made is a function of the seed. A loss falls as it learns, with the noise of its batches; steps take what they
take. A recovery goes back to a step that is kept somewhere, and trains on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random

from lastgood.skips import Skips
from monitors.detect.probes import Note
from monitors.detect.recovery import Recovery, Resumption
from monitors.incidents import Incident
from monitors.signals import RankRestored, StepReported

Curve = Callable[[int], float]
CURVES: tuple[Curve, ...] = (
    lambda _: 2.4,
    lambda step: 2.0 + 8.0 * math.exp(-step / 60),
    lambda step: 2.0 + 3.0 * math.exp(-step / 400),
    lambda step: 10.0 * max(step, 1) ** -0.3,
    lambda step: 7.0 - 0.004 * step if step < 900 else 3.4,
    lambda step: 3.0 + 0.15 * math.sin(step / 40),
)


@dataclass(slots=True)
class Run:
    """One run, its detector, and what came of both."""

    seed: int
    curve: Curve = CURVES[2]
    noise: float = 0.03
    tails: bool = False
    """now and then a batch is odd"""
    kernels: float = 0.0
    """share of the loss by which a step trained again differs, each time anew"""
    shuffles: bool = False
    """the loader draws other batches at each start"""
    step_s: float = 2.0
    jitter: float = 0.02
    long_share: float = 0.0
    """of the steps, that take twice as long"""
    cold_steps: int = 4
    """of a world, that take several times as long"""
    tells_index: bool = True
    recovery: Recovery = field(default_factory=Recovery)
    world: int = 0
    at: float = 1000.0
    skips: tuple[tuple[int, int], ...] = ()
    incidents: list[Incident] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    dice: Random = field(init=False)

    def __post_init__(self) -> None:
        self.dice = Random(self.seed)

    def begin(self, step: int, *, how: Resumption | None = None, fresh: bool = False, copied: bool = False) -> Run:
        """The next world restores this step."""
        self.world += 1
        self.recovery.world_began(self.world, how or Resumption(skips=self.skips))
        restored = RankRestored(
            at=self.at,
            node=0,
            world=self.world,
            rank=0,
            checkpoint=None if fresh or copied else f"step-{step}",
            step=step,
            copied_in=self.world - 1 if copied else None,
        )
        self._hear(restored)
        return self

    def train(
        self,
        steps: Iterable[int],
        *,
        slower: float = 1.0,
        more: Curve = lambda _: 0.0,
        fed: Callable[[int], int] | None = None,
    ) -> Run:
        """Finish these steps."""
        feeds = fed or Skips(self.skips).data_index
        for number, step in enumerate(steps):
            took_s = self._took_s(number) * slower
            self.at += took_s
            loss = self._loss(step, feeds(step)) + more(step)
            self._hear(
                StepReported(
                    at=self.at,
                    node=0,
                    world=self.world,
                    rank=0,
                    step=step,
                    loss=loss,
                    data_index=feeds(step) if self.tells_index else None,
                    step_s=took_s,
                )
            )
        return self

    def _hear(self, signal: RankRestored | StepReported) -> None:
        incidents, notes = self.recovery.see(signal)
        self.incidents += incidents
        self.notes += notes

    def _took_s(self, number: int) -> float:
        longer = 2.0 if self.dice.random() < self.long_share else 1.0
        cold = 4.0 if number < self.cold_steps else 1.0
        return self.step_s * longer * cold * max(0.3, self.dice.gauss(1.0, self.jitter))

    def _loss(self, step: int, index: int) -> float:
        batch = Random(self.seed * 1_000_003 + index * 101 + (self.world if self.shuffles else 0))
        odd = self.noise * batch.choice((-6, 6)) if self.tails and batch.random() < 0.03 else 0.0
        loss = self.curve(step) + self.noise * batch.gauss(0.0, 1.0) + odd
        return loss * (1 + self.kernels * self.dice.gauss(0.0, 1.0))


def drawn(seed: int) -> Run:
    """Some healthy run."""
    dice = Random(f"run {seed}")
    return Run(
        seed=seed,
        curve=dice.choice(CURVES),
        noise=dice.choice((0.0, 0.003, 0.03, 0.2)),
        tails=dice.random() < 0.3,
        kernels=dice.choice((0.0, 0.0, 1e-4, 2e-3)),
        shuffles=dice.random() < 0.2,
        step_s=dice.choice((0.01, 0.5, 20.0)),
        jitter=dice.choice((0.0, 0.02, 0.1, 0.25)),
        long_share=dice.choice((0.0, 0.0, 0.05, 0.3, 0.5)),
        cold_steps=dice.choice((0, 1, 4)),
    )

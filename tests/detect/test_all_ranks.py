"""Rows of all ranks, in any order, twice and late: the run is judged as by the rows of its first rank alone."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest

from monitors.detect.energy import Energy
from monitors.detect.hang import Hang, HangConfig
from monitors.hardware import GpuLooked
from monitors.incidents import Kind
from monitors.signals import RanksReported, Signal, StepReported
from monitors.watch import Watch, WatchConfig
from orchestrator.core import events as e
from orchestrator.inbox import Inbox

RANKS = 8
STEPS = 300


def rows(jump_at: int | None = None) -> list[StepReported]:
    """Of rank 0: what all ranks share."""
    dice = random.Random(5)
    return [
        StepReported(
            at=float(step),
            node=0,
            world=1,
            rank=0,
            step=step,
            loss=(4.0 if jump_at is not None and step >= jump_at else 2.0) + dice.gauss(0, 0.02),
            grad_norm=math.exp(dice.gauss(0, 0.15)),
            lr=0.1,
            tokens=64.0,
            data_index=step,
            step_s=1.0 + dice.random() / 100,
        )
        for step in range(1, STEPS + 1)
    ]


def of_all(first: Sequence[StepReported], seed: int) -> list[Signal]:
    """Equal values from every rank, each some steps late, some twice, and the line of each node."""
    dice = random.Random(seed)
    told: list[tuple[float, Signal]] = []
    for row in first:
        for rank in range(RANKS):
            same = replace(row, rank=rank, node=rank // 4, at=row.at + 0.01 * rank)
            # The rows of one rank keep their order; those of rank 1 come first.
            told += [(row.step + 0.5 * rank - 1.5 * (rank == 1), same)] * dice.choice([1, 1, 1, 2])
        for node in (0, 1):
            line = RanksReported(
                at=row.at, node=node, world=1, step=row.step, ranks=tuple(range(4 * node, 4 * node + 4)),
                own_s=(1.0,) * 4,
            )  # fmt: skip
            told.append((row.step + 3 * dice.random(), line))
    told.sort(key=lambda one: one[0])
    return [signal for _, signal in told]


def concluded(signals: Iterable[Signal]) -> list[tuple[Kind, int | None]]:
    watch = Watch(WatchConfig(), nodes=2, ranks_per_node=4)
    watch.world_began(1, 0.0)
    return [(incident.kind, incident.onset_step) for signal in signals for incident in watch.see(signal)]


@pytest.mark.parametrize("seed", range(3))
def test_a_healthy_run_stays_one(seed: int) -> None:
    assert concluded(rows()) == []
    assert concluded(of_all(rows(), seed)) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_loss_that_jumps_is_told_once(seed: int) -> None:
    (alone,) = concluded(rows(200))
    assert alone[0] is Kind.LOSS_SPIKE
    assert concluded(of_all(rows(200), seed)) == [alone]


def test_the_energy_of_a_step_is_counted_once() -> None:
    def spent(signals: Iterable[Signal]) -> tuple[int, float, float]:
        energy = Energy()
        for signal in signals:
            energy.see(signal)
            look = GpuLooked(
                at=signal.at, node=0, device="GPU-0", index=0, name="NVIDIA H100", energy_j=500.0 * signal.at
            )
            energy.see(look)
        return energy.steps, energy.tokens, round(energy.step_j / max(1, energy.steps))

    # The newest steps are not settled yet; how many these are depends on what was heard last.
    alone, together = spent(rows()), spent(sorted(of_all(rows(), 1), key=lambda one: one.at))
    assert alone[2] == together[2] == 500
    assert abs(alone[0] - together[0]) <= 2
    assert together[1] == 64.0 * together[0]


def test_a_usual_step_is_the_same_for_inbox_and_hang() -> None:
    watch = Watch(WatchConfig(), nodes=2, ranks_per_node=4)
    inbox = Inbox(nodes=2, ranks_per_node=4, watch=watch, folder="/checkpoints")
    inbox.began(1, 0.0)
    told = of_all(rows(), 2)
    assert not any(isinstance(event, e.IncidentDetected) for signal in told for event in inbox.see(signal))
    assert inbox.step_s == pytest.approx(1.005, abs=0.006)
    recalled = Hang(HangConfig(), ranks=RANKS)
    recalled.recall(inbox.rows)

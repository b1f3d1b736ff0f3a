"""A run that is not where it was, after a restart."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable

import pytest

from monitors.detect.loss import Loss, LossConfig
from monitors.incidents import Incident, Kind
from monitors.signals import StepReported

Schedule = Callable[[int], float | None]


def cosine(step: int) -> float:
    """After 50 steps of warm-up."""
    return 1e-3 * min(1.0, step / 50) * 0.5 * (1 + math.cos(math.pi * step / 2000))


def loss_of(index: int) -> float:
    return 2.0 + 0.1 * random.Random(index).gauss(0, 1)


def rows(
    world: int,
    steps: Iterable[int],
    lr: Schedule = cosine,
) -> list[StepReported]:
    return [
        StepReported(
            at=1e4 * world + step,
            node=0,
            world=world,
            rank=0,
            step=step,
            loss=loss_of(step),
            lr=lr(step),
            data_index=step - 1,
        )
        for step in steps
    ]


def restarted(first: list[StepReported], *later: list[StepReported]) -> list[Incident]:
    loss = Loss(LossConfig())
    found = [incident for row in first for incident in loss.see(row)]
    assert not any(incident.kind is Kind.RESUME_MISMATCH for incident in found)
    found = []
    for world, again in enumerate(later, start=2):
        loss.world_began(world)
        loss.rewound(again[0].step - 1)
        found += [incident for row in again for incident in loss.see(row)]
    return [incident for incident in found if incident.kind is Kind.RESUME_MISMATCH]


def test_a_restart_that_goes_on_where_it_was_is_nothing() -> None:
    assert restarted(rows(1, range(1, 301)), rows(2, range(201, 320)), rows(3, range(320, 400))) == []


def test_a_warm_up_that_began_anew_is_seen_at_the_first_steps() -> None:
    (told,) = restarted(rows(1, range(1, 301)), rows(2, range(201, 320), lambda step: cosine(step - 200)))
    assert (told.onset_step, told.step) == (201, 202)
    assert "learning rate" in told.evidence[0]


def test_a_warm_up_that_began_anew_where_no_step_is_trained_again() -> None:
    (told,) = restarted(rows(1, range(1, 301)), rows(2, range(301, 320), lambda step: cosine(step - 300)))
    assert told.step == 301


@pytest.mark.parametrize("lost", [0, 1])
def test_a_warm_up_that_began_anew_where_memory_cost_a_step_at_most(lost: int) -> None:
    """Of a single step trained again nothing is said; the next one has to go on from where the run was."""
    first = 300 - lost
    anew = rows(2, range(first, 320), lr=lambda step: cosine(step - first + 1))
    (mismatch,) = restarted(rows(1, range(1, 300)), anew)
    assert mismatch.step in (300, 301)


def test_a_trainer_that_counts_one_step_differently_after_a_restart_is_forgiven() -> None:
    assert restarted(rows(1, range(1, 60)), rows(2, range(20, 80), lambda step: cosine(step - 1))) == []


@pytest.mark.parametrize("odd", [None, 0.0, math.nan])
def test_rates_that_say_nothing(odd: float | None) -> None:
    first = rows(1, range(1, 301), lambda _: odd)
    assert restarted(first, rows(2, range(201, 320), lambda _: odd), rows(3, range(320, 330), lambda _: odd)) == []


def test_a_supervisor_that_starts_anew_still_knows() -> None:
    loss = Loss(LossConfig())
    loss.recall(rows(1, range(1, 301)))
    loss.world_began(2)
    again = rows(2, range(201, 220), lambda step: cosine(step - 200))
    found = [incident.kind for row in again for incident in loss.see(row)]
    assert found == [Kind.RESUME_MISMATCH]

"""Gradient norms that step up and stay, and whose they are."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from monitors.detect.loss import Loss, LossConfig
from monitors.incidents import Incident, Kind, Subject
from monitors.signals import StepReported

Norm = Callable[[int, int], float]
"""step and rank to the norm without its noise"""


def follow(norm: Norm, *, steps: int = 300, ranks: int = 1, loss: Loss | None = None, since: int = 1) -> list[Incident]:
    dice = random.Random(7)
    detector = loss or Loss(LossConfig())
    found = []
    for step in range(since, steps + 1):
        for rank in range(ranks):
            value = norm(step, rank) * math.exp(dice.gauss(0, 0.15))
            row = StepReported(
                at=step + rank / 100,
                node=rank // 2,
                world=1,
                rank=rank,
                step=step,
                loss=2.0 + dice.gauss(0, 0.02),
                grad_norm=value,
            )
            found += detector.see(row)
    return found


@pytest.mark.parametrize("factor", [5.0, 50.0])
def test_a_norm_that_steps_up_and_stays_is_told_once(factor: float) -> None:
    (shift,) = follow(lambda step, _: factor if step > 200 else 1.0)
    assert (shift.kind, shift.onset_step, shift.subject) == (Kind.GRADIENT_SHIFT, 201, Subject())
    assert shift.step <= 225


def test_the_rank_whose_own_norm_left_the_others_is_named() -> None:
    (shift,) = follow(lambda step, rank: (5.0 if step > 200 and rank == 3 else 1.0) * (1 + rank), ranks=4)
    assert (shift.kind, shift.subject, shift.onset_step) == (Kind.GRADIENT_SHIFT, Subject(node=1, rank=3), 201)
    assert "rank 3 alone" in shift.evidence[0]


def test_a_norm_that_all_ranks_share_names_nobody_and_is_told_once() -> None:
    (shift,) = follow(lambda step, _: 5.0 if step > 200 else 1.0, ranks=4)
    assert shift.subject == Subject()


def test_bursts_and_slow_growth_are_nothing() -> None:
    assert follow(lambda step, _: 30.0 if step % 50 < 6 else 1.0) == []
    assert follow(lambda step, _: 1.0 + step / 300, steps=900) == []


def test_what_was_told_becomes_usual_and_the_next_step_up_is_told_again() -> None:
    first, second = follow(lambda step, _: 1.0 if step <= 200 else 5.0 if step <= 400 else 25.0, steps=500)
    assert (first.onset_step, second.onset_step) == (201, 401)


def test_norms_that_are_none_or_not_finite_or_zero_are_not_a_level() -> None:
    loss = Loss(LossConfig())
    follow(lambda *_: 1.0, steps=200, loss=loss)
    for step, norm in enumerate([None, 0.0, math.inf, math.nan] * 10, start=201):
        row = StepReported(at=float(step), node=0, world=1, rank=0, step=step, loss=2.0, grad_norm=norm)
        assert all(found.kind is not Kind.GRADIENT_SHIFT for found in loss.see(row))


def test_with_a_loss_that_jumps_it_is_only_a_symptom() -> None:
    loss = Loss(LossConfig())
    follow(lambda *_: 1.0, steps=200, loss=loss)
    found = []
    for step in range(201, 240):
        row = StepReported(at=float(step), node=0, world=1, rank=0, step=step, loss=4.0, grad_norm=9.0)
        found += [incident.kind for incident in loss.see(row)]
    assert found == [Kind.LOSS_SPIKE]


def test_a_jump_of_the_loss_began_where_the_gradients_rose() -> None:
    loss = Loss(LossConfig())
    follow(lambda *_: 1.0, steps=200, loss=loss)
    found = []
    for step in range(201, 225):
        value = 2.0 if step < 205 else 5.0
        row = StepReported(at=float(step), node=0, world=1, rank=0, step=step, loss=value, grad_norm=8.0)
        found += [(incident.kind, incident.onset_step) for incident in loss.see(row)]
    assert found == [(Kind.LOSS_SPIKE, 201)]


def test_a_rewind_forgets_the_steps_that_never_happened() -> None:
    loss = Loss(LossConfig())
    follow(lambda step, _: 5.0 if step > 200 else 1.0, steps=215, loss=loss)
    loss.rewound(200)
    dice = random.Random(3)
    for step in range(201, 300):
        norm = math.exp(dice.gauss(0, 0.15))
        row = StepReported(at=1000.0 + step, node=0, world=1, rank=0, step=step, loss=2.0 + norm / 100, grad_norm=norm)
        assert loss.see(row) == []

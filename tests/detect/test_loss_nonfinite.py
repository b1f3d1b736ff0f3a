"""Numbers that broke, and runs that only look alive."""

from __future__ import annotations

import math
import random

import pytest

from monitors.detect.loss import Loss, LossConfig
from monitors.incidents import Incident, Kind
from monitors.signals import StepReported

Rows = list[tuple[float | None, float | None]]


def follow(rows: Rows) -> list[Incident]:
    loss = Loss(LossConfig())
    return [
        incident
        for step, (value, norm) in enumerate(rows, start=1)
        for incident in loss.see(
            StepReported(at=float(step), node=0, world=1, rank=0, step=step, loss=value, grad_norm=norm)
        )
    ]


def healthy(rows: int, seed: int = 1) -> Rows:
    dice = random.Random(seed)
    return [(2.0 + dice.gauss(0, 0.05), math.exp(dice.gauss(0, 0.2))) for _ in range(rows)]


def one(rows: Rows) -> tuple[Kind, int | None, int]:
    (told,) = follow(rows)
    return told.kind, told.onset_step, told.step


def test_a_nan_that_the_trainer_hides_from_the_first_row_on() -> None:
    assert one([(0.0, math.nan)] * 50) == (Kind.NONFINITE_LOSS, 1, 3)


def test_a_gradient_that_vanished() -> None:
    assert one([*healthy(100), *[(value, 0.0) for value, _ in healthy(50, 2)]]) == (Kind.NONFINITE_LOSS, 101, 110)
    assert one([*healthy(100), *[(value, 1e-9) for value, _ in healthy(50, 2)]]) == (Kind.NONFINITE_LOSS, 101, 110)


def test_a_loss_that_stands_still() -> None:
    kind, onset, step = one([*healthy(100), *[(2.0343, None)] * 60])
    assert (kind, onset, step) == (Kind.NONFINITE_LOSS, 101, 141)


def test_what_a_run_came_out_of_before_is_normal_for_it() -> None:
    rows = healthy(60)
    for length in (3, 7, 9, 30):
        rows += [(value, 0.0) for value, _ in healthy(length, length)] + healthy(20, length + 1)
    assert follow(rows) == [], "sparse rewards: no gradient for a while"


def test_few_digits_and_few_bits_repeat_on_healthy_runs() -> None:
    printed: Rows = [(round(value or 0.0, 2), None) for value, _ in healthy(100)]
    assert follow([*printed, *[(2.01, None)] * 100]) == []
    dice = random.Random(1)
    bits: Rows = [(2.0 + round(dice.gauss(0, 0.01) * 64) / 64, None) for _ in range(600)]
    assert follow(bits) == []


def test_a_jump_in_few_bits_is_seen_though_its_noise_is_nothing() -> None:
    flat: Rows = [(2.5 + (step % 9 == 0) / 64, None) for step in range(200)]
    (told,) = follow([*flat, *[(3.5 + (step % 5 == 0) / 64, None) for step in range(20)]])
    assert (told.kind, told.onset_step) == (Kind.LOSS_SPIKE, 201)


@pytest.mark.parametrize(("gap", "told"), [(9, 0), (4, 1)])
def test_overflows_of_loss_scaling_and_a_burst_of_them(gap: int, told: int) -> None:
    rows: Rows = [(value, math.inf if row % gap == 0 else norm) for row, (value, norm) in enumerate(healthy(200))]
    assert len(follow(rows)) == told


def test_a_loss_scale_that_is_looked_for_from_above_is_no_burst() -> None:
    start: Rows = [(8.0 + step % 3 / 100, math.inf) for step in range(16)]
    assert follow([*start, *healthy(40)]) == []
    assert one([*start, *start, *start]) == (Kind.NONFINITE_LOSS, 21, 40)


def test_a_restart_may_look_for_its_loss_scale_again() -> None:
    loss = Loss(LossConfig())
    rows = [*healthy(60), *[(2.0 + step % 3 / 100, math.inf) for step in range(16)], *healthy(40, 2)]
    for step, (value, norm) in enumerate(rows, start=1):
        if step == 61:
            loss.world_began(2)
        row = StepReported(at=float(step), node=0, world=1, rank=0, step=step, loss=value, grad_norm=norm)
        assert loss.see(row) == []


def test_two_broken_gradients_close_together_are_suspicious_until_they_are_past() -> None:
    loss = Loss(LossConfig())
    for step, (value, norm) in enumerate(healthy(100), start=1):
        broken = step in (40, 80, 84)
        row = StepReported(
            at=float(step), node=0, world=1, rank=0, step=step, loss=value, grad_norm=math.nan if broken else norm
        )
        assert loss.see(row) == []
        assert loss.suspicious_since_step == (80 if 84 <= step < 90 else None)

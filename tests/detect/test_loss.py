"""What a loss curve says, and what it must not be taken to say."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence

import pytest

from monitors.detect.loss import Loss, LossConfig
from monitors.incidents import Incident, Kind
from monitors.signals import StepReported

SEEDS = range(5)


def row(
    step: int, loss: float | None, grad_norm: float | None = 1.0, *, rank: int = 0, at: float = 0.0
) -> StepReported:
    return StepReported(at=at or float(step), node=0, world=1, rank=rank, step=step, loss=loss, grad_norm=grad_norm)


def noisy(seed: int, levels: Iterable[float], noise: float = 0.1) -> list[float]:
    dice = random.Random(seed)
    return [level + dice.gauss(0, noise) for level in levels]


def descent(steps: int, start: float = 10.8, end: float = 2.8) -> list[float]:
    """Early training of a GPT: half of the way down within 25 steps."""
    return [end + (start - end) * math.exp(-step / 35) for step in range(steps)]


def follow(losses: Sequence[float], loss: Loss | None = None) -> list[Incident]:
    detector = loss or Loss(LossConfig())
    return [i for step, value in enumerate(losses, start=1) for i in detector.see(row(step, value))]


@pytest.mark.parametrize("seed", SEEDS)
def test_fast_descent_and_a_long_plateau_are_healthy(seed: int) -> None:
    assert follow(noisy(seed, descent(1500))) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_poisoned_window_is_caught_within_twelve_rows(seed: int) -> None:
    levels = descent(116)
    levels[99:] = [5.0] * 17
    (spike,) = follow(noisy(seed, levels))
    assert (spike.kind, spike.onset_step) == (Kind.LOSS_SPIKE, 100)
    assert spike.step <= 112
    assert spike.onset == 100.0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_small_lasting_jump_takes_longer_to_be_sure_of(seed: int) -> None:
    (spike,) = follow(noisy(seed, [*descent(300), *[3.4] * 40], noise=0.05))
    assert spike.kind is Kind.LOSS_SPIKE
    assert abs(spike.onset_step - 301) <= 3  # type: ignore[operator]
    assert spike.step <= 330


@pytest.mark.parametrize("seed", SEEDS)
def test_a_spike_that_comes_back_is_noted_once(seed: int) -> None:
    back = [2.8 + 3.0 * math.exp(-n / 5) for n in range(60)]
    (note,) = follow(noisy(seed, [*descent(300), *back], noise=0.05))
    assert note.kind is Kind.LOSS_TRANSIENT
    assert abs(note.onset_step - 301) <= 3  # type: ignore[operator]


@pytest.mark.parametrize("seed", SEEDS)
def test_single_odd_batches_are_nothing(seed: int) -> None:
    losses = noisy(seed, descent(900), noise=0.05)
    for step in range(200, 900, 100):
        losses[step] *= 1.15
    assert follow(losses) == []


@pytest.mark.parametrize("seed", range(40))
def test_six_odd_batches_in_a_row_are_of_every_height_and_damage_is_of_one(seed: int) -> None:
    dice = random.Random(seed)
    odd = [2.8 + dice.uniform(0.5, 3.0) for _ in range(6)]
    told = follow(noisy(seed, [*descent(300), *odd, *[2.8] * 60], noise=0.04))
    assert {note.kind for note in told} <= {Kind.LOSS_TRANSIENT}
    (spike,) = follow(noisy(seed, [*descent(300), *[4.8] * 20], noise=0.04))
    assert spike.kind is Kind.LOSS_SPIKE
    assert spike.step <= 308


@pytest.mark.parametrize("seed", SEEDS)
def test_a_slow_rise_is_a_divergence(seed: int) -> None:
    rise = [2.8 * (1 + 0.005 * n) for n in range(120)]
    incidents = follow(noisy(seed, [*descent(400), *rise], noise=0.05))
    assert incidents[0].kind in (Kind.LOSS_DIVERGENCE, Kind.LOSS_SPIKE)
    assert 395 <= incidents[0].onset_step <= 435  # type: ignore[operator]
    assert incidents[0].step <= 480


def test_a_run_that_only_rises_is_seen() -> None:
    incidents = follow(noisy(1, [2.5 + 0.01 * n for n in range(120)], noise=0.02))
    assert incidents[0].kind is Kind.LOSS_DIVERGENCE


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_broken_loss_is_concluded_at_once_and_told_once(value: float) -> None:
    loss = Loss(LossConfig())
    (broken,) = follow([*noisy(1, descent(5)), value, value, value], loss)
    assert (broken.kind, broken.onset_step, broken.step) == (Kind.NONFINITE_LOSS, 6, 6)


def test_a_jump_that_ends_in_nan_began_with_the_jump() -> None:
    losses = noisy(1, [*descent(100), 6.0, 7.5, 9.0])
    (broken,) = follow([*losses, math.nan])
    assert (broken.kind, broken.onset_step, broken.step) == (Kind.NONFINITE_LOSS, 101, 104)


def test_a_broken_loss_of_any_rank_counts_and_its_other_values_do_not() -> None:
    loss = Loss(LossConfig())
    follow(noisy(1, descent(60)), loss)
    assert loss.see(row(60, 9.0, math.inf, rank=3)) == []
    (broken,) = loss.see(row(61, math.nan, rank=3))
    assert (broken.kind, broken.onset_step) == (Kind.NONFINITE_LOSS, 61)
    assert loss.see(row(61, math.nan)) == [], "the same broken step, from the rank that speaks for the run"


def test_zeros_in_place_of_nan() -> None:
    losses = noisy(1, descent(100))
    (broken,) = follow([*losses, 0.0, 0.0, 0.0, 0.0])
    assert (broken.kind, broken.onset_step, broken.step) == (Kind.NONFINITE_LOSS, 101, 103)
    assert follow([0.0] * 50) == [], "reinforcement learning begins so"


def test_gradients_that_overflow_now_and_then_are_loss_scaling_and_a_burst_is_not() -> None:
    loss = Loss(LossConfig())
    for step in range(1, 200):
        norm = math.inf if step % 7 == 0 else 1.0
        assert loss.see(row(step, 2.0 + 0.01 * (step % 5), norm)) == []
    found = [i for step in range(200, 205) for i in loss.see(row(step, 2.0, math.nan))]
    assert [i.kind for i in found] == [Kind.NONFINITE_LOSS]
    assert found[0].step <= 204


def test_suspicion_begins_with_the_jump_and_ends_when_it_comes_back() -> None:
    loss = Loss(LossConfig())
    follow(noisy(1, descent(100)), loss)
    assert loss.suspicious_since_step is None
    for step in (101, 102, 103):
        loss.see(row(step, 5.0))
    assert loss.suspicious_since_step == 101
    for step in range(104, 112):
        loss.see(row(step, 2.8))
    assert loss.suspicious_since_step is None


def test_a_replay_after_a_restart_leaves_no_seam() -> None:
    losses = noisy(1, descent(160))
    loss = Loss(LossConfig())
    follow(losses[:140], loss)
    loss.world_began(2)
    loss.rewound(90)
    again = [loss.see(row(step, losses[step - 1], at=1000.0 + step)) for step in range(91, 161)]
    assert not any(again)
    straight = Loss(LossConfig())
    follow(losses, straight)
    poison = [(loss.see(row(s, 6.0, at=2000.0 + s)), straight.see(row(s, 6.0, at=2000.0 + s))) for s in range(161, 180)]
    assert [[i.fingerprint for i in a] for a, _ in poison] == [[i.fingerprint for i in b] for _, b in poison]
    assert any(a for a, _ in poison)


def test_a_rewind_without_a_word_is_seen_in_the_steps() -> None:
    losses = noisy(1, descent(140))
    losses[120:] = [6.0] * 20
    loss = Loss(LossConfig())
    assert [i.kind for i in follow(losses[:132], loss)] == [Kind.LOSS_SPIKE]
    loss.world_began(2)
    healthy = noisy(2, descent(300))
    for step in range(101, 301):
        assert loss.see(row(step, healthy[step - 1], at=1000.0 + step)) == []
    assert loss.suspicious_since_step is None


def test_rows_told_twice_change_nothing() -> None:
    loss = Loss(LossConfig())
    losses = noisy(1, descent(100))
    follow(losses, loss)
    follow(losses[80:], loss)
    assert loss.suspicious_since_step is None
    (spike,) = [i for step in range(101, 114) for i in loss.see(row(step, 6.0))]
    assert spike.onset_step == 101


def test_a_supervisor_that_starts_anew_recalls_the_curve_in_silence() -> None:
    losses = noisy(1, [*descent(100), *[6.0] * 20])
    loss = Loss(LossConfig())
    loss.recall(row(step, value) for step, value in enumerate(losses[:103], start=1))
    assert loss.suspicious_since_step == 101
    (spike,) = [i for step in range(104, 121) for i in loss.see(row(step, losses[step - 1]))]
    assert spike.onset_step == 101


def test_a_disabled_detector_is_silent() -> None:
    loss = Loss(LossConfig(enabled=False))
    assert follow([*descent(100), math.nan, *[9.0] * 30], loss) == []
    assert loss.suspicious_since_step is None


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_unit_of_the_loss_does_not_matter(scale: float) -> None:
    losses = noisy(1, [*descent(200), *[5.0] * 20])
    (spike,) = follow([scale * value for value in losses])
    assert (spike.kind, spike.onset_step) == (Kind.LOSS_SPIKE, 201)


def test_a_longer_persistence_waits_longer() -> None:
    losses = noisy(1, [*descent(100), *[5.0] * 40])
    short, long = (follow(losses, Loss(LossConfig(persist_rows=rows)))[0].step for rows in (6, 24))
    assert short <= 106
    assert long >= 110, "a plateau is sure after half of the rows"


def test_with_the_shortest_persistence_two_odd_batches_are_still_nothing() -> None:
    losses = noisy(1, [*descent(200), 6.0, 6.0, *[2.8] * 40])
    found = follow(losses, Loss(LossConfig(persist_rows=4)))
    assert [incident.kind for incident in found] == [Kind.LOSS_TRANSIENT]

"""How many joules, of what, and how much of it is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitors.detect.energy import KEPT_CELLS, Energy
from monitors.hardware import GpuLooked
from monitors.signals import StepReported, WorldStopped


def look(at: float, energy_j: float | None, device: str = "GPU-0", index: int = 0) -> GpuLooked:
    return GpuLooked(at=at, node=0, device=device, index=index, energy_j=energy_j)


def step(number: int, at: float, tokens: float | None = 100.0, rank: int = 0) -> StepReported:
    return StepReported(at=at, node=0, world=1, rank=rank, step=number, tokens=tokens)


def trained(energy: Energy, *, watts: float, until: int, poll_s: int = 5, step_s: float = 2.0, start: int = 0) -> None:
    """Steps and polls up to a time, in order."""
    said = [step(round(t / step_s), t) for t in _times(start, until, step_s)]
    read = [look(t, watts * t) for t in _times(start, until, poll_s)]
    for signal in sorted([*said, *read], key=lambda signal: signal.at):
        energy.see(signal)


def _times(start: float, until: float, every: float) -> list[float]:
    return [start + every * n for n in range(1, int((until - start) / every) + 1)]


def test_constant_power_gives_equal_steps_and_tokens() -> None:
    energy = Energy()
    trained(energy, watts=500, until=100)
    assert energy.joules == pytest.approx(500 * 95)  # from the first reading on
    assert energy.newest is not None
    assert energy.newest.joules == pytest.approx(1000)
    assert energy.joules_per_token == pytest.approx(10, rel=0.1)
    assert energy.between(20, 30).joules == pytest.approx(5000)
    assert energy.between(20, 30).known_share == pytest.approx(1)


def test_nothing_is_told_of_a_step_before_its_energy_was_read() -> None:
    energy = Energy()
    energy.see(look(0, 0))
    energy.see(step(1, 2))
    energy.see(step(2, 4))
    assert energy.newest is None
    (told,) = energy.see(look(5, 500))
    assert (told.step, told.joules) == (2, pytest.approx(200))


def test_a_gap_between_readings_loses_no_energy() -> None:
    energy = Energy()
    for at, joules in ((0, 0), (5, 2500), (65, 32_500)):
        energy.see(look(at, joules))
    assert energy.joules == pytest.approx(32_500)
    assert energy.between(10, 20).joules == pytest.approx(5000)


def test_a_gpu_that_is_not_read_is_unknown_and_not_zero() -> None:
    energy = Energy()
    for at in range(0, 100, 5):
        energy.see(look(at, 400.0 * at))
        energy.see(look(at, 400.0 * at if at < 50 else None, device="GPU-1", index=1))
    spent = energy.between(60, 90)
    assert spent.joules == pytest.approx(400 * 30)
    assert spent.known_share == pytest.approx(0.5)
    assert energy.between(10, 40).known_share == pytest.approx(1.0)


def test_a_driver_that_is_loaded_anew_counts_from_zero() -> None:
    energy = Energy()
    for at, joules in ((0, 1_000_000), (5, 1_002_500), (10, 900), (15, 3400)):
        energy.see(look(at, joules))
    assert energy.joules == pytest.approx(2500 + 900 + 2500)


def test_a_counter_that_jumps_is_not_believed() -> None:
    energy = Energy()
    for at, joules in ((0, 0.0), (5, 2500.0), (10, 9e12), (15, 9e12 + 2500)):
        energy.see(look(at, joules))
    assert energy.joules == pytest.approx(5000)
    assert energy.between(0, 15).known_share == pytest.approx(10 / 15)


def test_a_counter_that_is_rounded_down_gives_no_energy_back() -> None:
    energy = Energy()
    for at, joules in ((0, 100.0), (5, 99.5), (10, 200.0)):
        energy.see(look(at, joules))
    assert energy.joules == pytest.approx(100.5)


def test_steps_that_are_trained_again_are_counted_apart() -> None:
    energy = Energy()
    trained(energy, watts=500, until=100)
    first = energy.step_j
    energy.see(WorldStopped(at=101, node=0, world=1))
    for number in range(41, 61):  # 41 to 50 were done before
        at = 110 + 2.0 * (number - 40)
        energy.see(look(at, 500 * at))
        energy.see(step(number, at))
    energy.see(look(160, 500 * 160.0))
    assert energy.replayed_j == pytest.approx(9 * 1000)  # the first of a world has no beginning that is known
    assert energy.step_j - first == pytest.approx(10 * 1000, rel=0.2)


def test_what_lies_between_two_worlds_belongs_to_no_step() -> None:
    energy = Energy()
    trained(energy, watts=500, until=100)
    energy.see(WorldStopped(at=101, node=0, world=1))
    energy.see(step(51, 1000))
    energy.see(look(1001, 500 * 1001.0))
    assert energy.newest is not None
    assert energy.newest.joules == pytest.approx(1000)


def test_gpus_of_nobody_are_not_counted() -> None:
    energy = Energy(rank_of=lambda _node, index: index if index == 0 else None)
    for at in (0, 10):
        energy.see(look(at, 100.0 * at))
        energy.see(look(at, 300.0 * at, device="GPU-1", index=1))
    assert energy.joules == pytest.approx(1000)


def test_only_the_first_rank_says_when_a_step_ends_and_lost_reports_make_one_of_several() -> None:
    energy = Energy()
    energy.see(look(0, 0))
    for signal in (step(1, 2), step(2, 3.5, rank=1), step(5, 10)):
        energy.see(signal)
    (told,) = energy.see(look(10, 1000))
    assert (told.step, told.steps, told.joules) == (5, 4, pytest.approx(800))
    assert energy.joules_per_token is None


def test_a_long_run_keeps_its_minutes_and_not_its_seconds() -> None:
    energy = Energy()
    for at in range(0, 4 * KEPT_CELLS, 10):
        energy.see(look(at, 100.0 * at))
    assert energy.between(0, 600).joules == pytest.approx(60_000)
    assert energy.between(0, 4 * KEPT_CELLS - 10).joules == pytest.approx(energy.joules)
    assert len(energy._fine) <= 2 * KEPT_CELLS


def test_without_readings_nothing_is_known() -> None:
    energy = Energy()
    energy.see(look(0, None))
    assert energy.between(0, 10).known_share == 0.0
    assert (energy.joules_per_step, energy.joules_per_token) == (None, None)


def test_a_reading_that_comes_again_or_late_is_not_counted_again() -> None:
    energy = Energy()
    for at in (0, 5, 10, 5, 0, 10, 15):
        energy.see(look(at, 100.0 * at))
    assert (energy.joules, energy.gpu_s) == (pytest.approx(1500), pytest.approx(15))


READINGS = [look(at, (100.0 + 50 * gpu) * at, device=f"GPU-{gpu}", index=gpu) for at in range(20) for gpu in range(2)]


@given(st.lists(st.integers(0, len(READINGS) - 1), max_size=60))
def test_in_any_order_it_is_what_the_counters_moved_by(order: list[int]) -> None:
    energy = Energy()
    true_j, first, newest = 0.0, dict[str, GpuLooked](), dict[str, GpuLooked]()
    for n in order:
        energy.see(READINGS[n])
        first.setdefault(READINGS[n].device, READINGS[n])
        newest[READINGS[n].device] = max(newest.get(READINGS[n].device, READINGS[n]), READINGS[n], key=lambda r: r.at)
    for device, reading in first.items():
        true_j += (newest[device].energy_j or 0.0) - (reading.energy_j or 0.0)
    assert energy.joules == pytest.approx(true_j)


def test_what_somebody_counted_before_is_only_held_against() -> None:
    energy = Energy(counted_until=10.0)
    for at in (4, 8, 10, 12):
        energy.see(look(at, 100.0 * at))
    assert (energy.joules, energy.since, energy.until) == (pytest.approx(200), 10.0, 12)


def test_what_gpus_did_between_two_attempts_was_not_for_this_run() -> None:
    energy = Energy()
    for at in (0, 10):
        energy.see(look(at, 100.0 * at))
    energy.launched()
    for at in (3600, 3610):
        energy.see(look(at, 100.0 * at))
    assert (energy.joules, energy.gpu_s) == (pytest.approx(2000), pytest.approx(20))


def test_steps_are_not_kept_where_no_gpu_is_read_nor_for_ever_when_none_is_read_any_more() -> None:
    energy = Energy()
    for number in range(10):
        energy.see(step(number, number))
    assert not energy._ends
    energy.see(look(10, 0))
    for number in range(10, 10_000):
        energy.see(step(number, number))
    assert len(energy._ends) < 5000


def test_a_step_that_was_read_in_part_is_in_no_mean() -> None:
    energy = Energy()
    for at in range(0, 100, 5):
        energy.see(look(at, 400.0 * at))
        energy.see(look(at, 400.0 * at if at < 50 else None, device="GPU-1", index=1))
        energy.see(step(at // 5, at))
    assert energy.joules_per_step == pytest.approx(4000)
    assert energy.joules_per_token == pytest.approx(40)


def test_a_time_or_a_counter_that_is_no_number_is_not_seen() -> None:
    energy = Energy()
    for at, joules in ((0.0, 0.0), (float("inf"), 10.0), (5.0, float("nan")), (10.0, 1000.0)):
        energy.see(look(at, joules))
    assert (energy.joules, energy.until) == (pytest.approx(1000), 10.0)


@pytest.mark.parametrize("phase_s", [0.0, 0.3, 0.98])
def test_a_step_shorter_than_a_poll_has_its_energy_wherever_the_polls_fall(phase_s: float) -> None:
    energy = Energy()
    read = [look(second + phase_s, 500 * (second + phase_s)) for second in range(30)]
    said = [step(n, 0.05 * n) for n in range(1, 590)]
    for signal in sorted([*read, *said], key=lambda signal: signal.at):
        energy.see(signal)
    assert energy.joules_per_step == pytest.approx(25.0, rel=1e-3)
    assert energy.steps > 500

"""Does a run survive what can go wrong? Seeds of the simulation; `make soak` runs ten thousand days of them."""

from __future__ import annotations

import pytest

from monitors.incidents import DEPTH, Kind
from orchestrator.core.state import ENDED, Phase
from tests.simulation.knobs import Profile
from tests.simulation.simulation import simulated

DAYS = 2.0
ROUGH, CHUNK = 100, 20
ELSEWHERE = frozenset(DEPTH) | {
    Kind.GPU_DEGRADED,
    Kind.HOST_DEGRADED,
    Kind.DISK_FULL,
    Kind.POWER_DROP,
    Kind.STRAGGLER,
    Kind.CODE_DIVERGENCE,
    Kind.RESUME_MISMATCH,
    Kind.RECOVERY_WRONG,
    Kind.RECOVERY_SLOW,
    Kind.LOSS_TOO_GOOD,
    Kind.GRADIENT_SHIFT,
    Kind.LOSS_DIVERGENCE,
}
"""what few of these seeds have: hardware (`test_hardware.py`), ranks that differ, and losses that drift"""
BUDGET = "a budget was spent"
KINDS = frozenset(Kind) - ELSEWHERE
"""what must come up somewhere"""


@pytest.fixture(scope="module")
def seen() -> set[str]:
    """Kinds of incidents that came up in the rough worlds."""
    return set()


@pytest.mark.parametrize("first", range(0, ROUGH, CHUNK))
def test_rough_worlds(first: int, seen: set[str]) -> None:
    for seed in range(first, first + CHUNK):
        result = simulated(seed, days=DAYS, profile=Profile.ROUGH)
        assert result.state.phase in ENDED, f"seed {seed}"
        seen |= result.incidents.keys() | ({BUDGET} if result.budgets_spent else set())
    if first + CHUNK == ROUGH:
        assert seen >= KINDS | {BUDGET}, f"seeds that never meet {KINDS - seen} prove nothing about it"


@pytest.mark.parametrize("seed", [7, 11, 23])
def test_long_runs(seed: int) -> None:
    result = simulated(seed, days=16.0)
    assert result.worlds >= 1


def test_a_healthy_run_is_left_alone() -> None:
    """Slow steps, long saves, evaluations and nothing else: no incident at all, one world, success."""
    for seed in range(35):
        result = simulated(seed, days=DAYS, profile=Profile.HEALTHY)
        assert result.incidents == {}, f"seed {seed}"
        assert (result.state.phase, result.worlds) == (Phase.SUCCEEDED, 1), f"seed {seed}"


def test_what_a_run_can_live_with_ends_no_world() -> None:
    """Crashes of the supervisor, lost links, odd batches, damaged saves, full disks."""
    crashes = 0
    for seed in range(35):
        result = simulated(seed, days=DAYS, profile=Profile.BENIGN)
        assert (result.state.phase, result.worlds) == (Phase.SUCCEEDED, 1), f"seed {seed}"
        crashes += result.crashes
    assert crashes > 35, "the supervisor hardly ever died: this shows little"


@pytest.mark.parametrize("seed", [3, 5, 8])
def test_the_same_seed_gives_the_same_journal(seed: int) -> None:
    one, other = simulated(seed, days=DAYS), simulated(seed, days=DAYS)
    assert one.journal() == other.journal()
    assert one.digest != simulated(seed + 1, days=DAYS).digest


@pytest.mark.soak
@pytest.mark.parametrize("part", range(10))
def test_ten_thousand_days(part: int) -> None:
    days = healthy = 0.0
    seed = 100_000 + part * 1000
    while days < 1000:
        result = simulated(seed)
        days += result.days
        if result.knobs.profile is Profile.HEALTHY:
            healthy += result.days
            assert result.incidents == {}, f"seed {seed}"
        seed += 1
    assert healthy > 0

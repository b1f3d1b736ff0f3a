"""Does a run survive what can go wrong? Seeds of the simulation; `make soak` runs ten thousand days of them."""

from __future__ import annotations

import pytest

from orchestrator.core.state import Phase
from tests.simulation.knobs import Profile, drawn
from tests.simulation.simulation import Simulation, simulated

CHUNK = 25
SHORT_DAYS = 2.0


@pytest.mark.parametrize("first", range(0, 200, CHUNK))
def test_rough_worlds(first: int) -> None:
    for seed in range(first, first + CHUNK):
        result = Simulation(drawn(seed, SHORT_DAYS, Profile.ROUGH)).run()
        assert result.state.phase in (Phase.SUCCEEDED, Phase.HELD, Phase.STOPPED), f"seed {seed}"


@pytest.mark.parametrize("seed", [7, 11, 23])
def test_long_runs(seed: int) -> None:
    result = simulated(seed, days=16.0)
    assert result.worlds >= 1


def test_a_healthy_run_is_left_alone() -> None:
    """Slow steps, long saves, evaluations and nothing else: no incident at all, one world, success."""
    for seed in range(50):
        result = simulated(seed, days=SHORT_DAYS, profile=Profile.HEALTHY)
        assert result.incidents == {}, f"seed {seed}"
        assert (result.state.phase, result.worlds) == (Phase.SUCCEEDED, 1), f"seed {seed}"


def test_what_a_run_can_live_with_ends_no_world() -> None:
    """Crashes of the supervisor, lost links, odd batches, damaged saves, full disks."""
    crashes = 0
    for seed in range(50):
        result = simulated(seed, days=SHORT_DAYS, profile=Profile.BENIGN)
        assert (result.state.phase, result.worlds) == (Phase.SUCCEEDED, 1), f"seed {seed}"
        crashes += result.crashes
    assert crashes > 50, "the supervisor hardly ever died: this shows little"


def test_the_rough_worlds_are_rough() -> None:
    """Every kind that the detectors know comes up, or the seeds above prove little."""
    seen: set[str] = set()
    for seed in range(40):
        seen |= simulated(seed, days=4.0, profile=Profile.ROUGH).incidents.keys()
    wanted = {
        "worker_killed", "worker_exception", "crash_loop", "hang", "start_stalled", "launch_failed", "agent_lost",
        "node_unseen", "nonfinite_loss", "loss_spike", "loss_transient", "checkpoint_corrupt", "save_failed",
        "supervisor_restarted",
    }  # fmt: skip
    assert wanted <= seen, wanted - seen


@pytest.mark.parametrize("seed", [3, 5, 8])
def test_the_same_seed_gives_the_same_journal(seed: int) -> None:
    one, other = simulated(seed, days=SHORT_DAYS), simulated(seed, days=SHORT_DAYS)
    assert one.journal() == other.journal()
    assert one.digest != simulated(seed + 1, days=SHORT_DAYS).digest


@pytest.mark.soak
def test_ten_thousand_days() -> None:
    days = healthy = 0.0
    seed = 100_000
    while days < 10_000:
        result = simulated(seed)
        days += result.days
        if result.knobs.profile is Profile.HEALTHY:
            healthy += result.days
            assert result.incidents == {}, f"seed {seed}"
        seed += 1
    assert healthy > 500

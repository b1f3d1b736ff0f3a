"""Does the simulation find a bug that is there? Two that supervisors in the field have, planted on purpose."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation import planted
from tests.simulation.__main__ import CORRECTNESS, main
from tests.simulation.journal import Decide
from tests.simulation.knobs import Profile, drawn
from tests.simulation.simulation import Simulation
from tests.simulation.truth import Violation

SEEDS = range(12)
DAYS = 4.0


def violations(decider: Decide) -> list[str]:
    """What the truth has against a core, by seed."""
    found = []
    for seed in SEEDS:
        try:
            Simulation(drawn(seed, DAYS, Profile.ROUGH), decider).run()
        except Violation as violation:
            found.append(f"{seed}: {violation}")
    return found


@pytest.fixture(scope="module")
def of_the_real_core() -> list[str]:
    return violations(planted.honest)


@pytest.mark.parametrize(
    ("bug", "says"),
    [
        (planted.trusts_late_verification, "which was detected, and was restored"),
        (planted.starts_early, "starts on node"),
    ],
)
def test_a_planted_bug_is_found_and_the_real_core_has_it_not(
    bug: Decide, says: str, of_the_real_core: list[str]
) -> None:
    assert any(says in violation for violation in violations(bug))
    assert of_the_real_core == []


def test_a_find_is_reported_so_that_it_can_be_reproduced(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = run_main(capsys, ["0", "--seeds", "12", "--days", "4", "--planted", "starts_early"], expects=CORRECTNESS)
    assert "correctness: world" in said
    line = next(line for line in said.splitlines() if line.startswith("reproduce: "))
    again = line.removeprefix("reproduce: python -m tests.simulation ").split()
    assert "correctness: world" in run_main(capsys, again, expects=CORRECTNESS)


def test_a_seed_that_goes_well_says_how_fast(capsys: pytest.CaptureFixture[str]) -> None:
    assert "days/s" in run_main(capsys, ["1", "--days", "2"], expects=0)


def run_main(capsys: pytest.CaptureFixture[str], argv: list[str], *, expects: int) -> str:
    """What the command prints."""
    runs: Callable[[list[str]], int] = main
    assert runs(argv) == expects
    return capsys.readouterr().out

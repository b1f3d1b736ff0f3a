"""Is what breaks told in time, once, as what it is? And is what only looks so left alone? `verdicts.py` judges."""

from __future__ import annotations

import pytest

from monitors.incidents import DEPTH, Incident, Kind, Subject
from orchestrator.core.state import ENDED
from tests.simulation.knobs import Profile
from tests.simulation.simulation import simulated
from tests.simulation.truth import Trouble, Truth, Violation

SEEDS = (0, 1, 2, 4, 5, 8, 9, 11, 12, 15)
"""quick ones that meet every kind between them"""
WANTED = {*DEPTH, Kind.GPU_DEGRADED, Kind.STRAGGLER, Kind.WORKER_EXCEPTION, Kind.POWER_DROP}


def test_what_breaks_is_told_as_what_it_is() -> None:
    seen: set[str] = set()
    for seed in SEEDS:
        result = simulated(seed, days=1.0, profile=Profile.HARDWARE)
        assert result.state.phase in ENDED, f"seed {seed}"
        seen |= result.incidents.keys()
    assert seen >= WANTED, f"seeds that never meet {WANTED - seen} prove nothing about it"


def test_senses_make_no_journal_that_differs() -> None:
    one, other = (simulated(12, days=1.0, profile=Profile.HARDWARE) for _ in range(2))
    assert one.journal() == other.journal()


def incident(
    kind: Kind = Kind.GPU_LOST, *, at: float = 105.0, world: int = 3, node: int, rank: int | None = None
) -> Incident:
    return Incident(kind=kind, at=at, onset=at, world=world, subject=Subject(node=node, rank=rank))


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (incident(node=1, rank=2), ""),
        (incident(node=1), ""),
        (incident(node=1, world=4), ""),  # a sense that lags: the next world runs
        (incident(Kind.LINK_FAULT, node=1), "link_fault instead of gpu_lost"),
        (incident(node=0, rank=2), "node 0 is named"),
        (incident(node=1, rank=3), "rank 3 is named"),
        (incident(node=1, world=2), "no hardware failed"),
        (incident(node=1, world=4, at=400.0), "no hardware failed"),
    ],
)
def test_the_truth_denies_what_is_not_so(told: Incident, why: str) -> None:
    truth = Truth()
    truth.troubles[3] = Trouble(
        what="a GPU fell off the bus", world=3, at=100.0, node=1, rank=2, kinds=frozenset({Kind.GPU_LOST}), clear=True
    )
    said = ""
    try:
        truth.may_blame(told)
    except Violation as error:
        said = str(error)
    assert said.startswith(why)
    assert bool(said) == bool(why)

"""Is a rank that really is slow named, from what a real run tells?"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from monitors.detect.straggler import Straggler
from monitors.incidents import Incident
from monitors.sense.flight_recorder_dump import parse
from monitors.signals import CollectivesLooked, StepReported

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

RANKS, STEPS = 4, 45
TRIES = 3
"""Another's work on this machine makes steps long too, and then three are rightly too few to be sure. In none of them
may anybody innocent be named."""


CULPRIT, SINCE = 0, 38


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Where a rank is slow, and where nobody is; both at once, as they only sleep."""
    base = tmp_path_factory.mktemp("trained")
    _train({base / "slow": (CULPRIT, SINCE), base / "sound": (1, STEPS + 1)})
    return base / "slow", base / "sound"


def test_a_rank_that_sleeps_a_third_longer_is_named_after_three_steps(
    tmp_path: Path, trained: tuple[Path, Path]
) -> None:
    for attempt in range(TRIES):
        folder = tmp_path / str(attempt) if attempt else trained[0]
        if attempt:
            _train({folder: (CULPRIT, SINCE)})
        incidents = _watched(folder)
        assert {(incident.subject.rank, incident.subject.node) for incident in incidents} <= {(CULPRIT, 0)}
        if incidents and incidents[0].step <= SINCE + 3:
            break
    assert len(incidents) == 1
    assert SINCE + 2 <= incidents[0].step <= SINCE + 3
    assert incidents[0].confidence >= 0.8


def test_a_run_in_which_nobody_is_slow_names_nobody(trained: tuple[Path, Path]) -> None:
    assert _watched(trained[1]) == []


def _train(trainings: Mapping[Path, tuple[int, int]]) -> None:
    """Where each is written → who is slow, and from which step on."""
    for folder in trainings:
        folder.mkdir()
    script = Path(__file__).with_name("straggling.py")
    said = [f"{folder}:{slow}:{since}" for folder, (slow, since) in trainings.items()]
    subprocess.run([sys.executable, str(script), str(STEPS), *said], check=True, timeout=120)


def _watched(folder: Path) -> list[Incident]:
    """Let the detector hear of it in order; whoever is asked answers with what it knew at that moment."""
    looks = [_look(folder, rank) for rank in range(RANKS)]
    detector = Straggler(ranks=RANKS, ranks_per_node=RANKS)
    detector.world_began(1)
    found: list[Incident] = []
    for line in (folder / "steps0.jsonl").read_text().splitlines():
        row = StepReported(node=0, world=1, rank=0, **json.loads(line))
        found += detector.see(row)
        for rank in detector.looks:
            found += detector.see(_until(looks[rank], row.at))
    return found


def _look(folder: Path, rank: int) -> CollectivesLooked:
    dump = parse((folder / f"rank{rank}" / "collectives.json").read_bytes())
    return CollectivesLooked(at=0.0, node=0, world=1, rank=rank, groups=dump.statuses)


def _until(look: CollectivesLooked, at: float) -> CollectivesLooked:
    groups = (replace(g, arrivals=tuple(one for one in g.arrivals if one[1] <= at)) for g in look.groups)
    return replace(look, at=at, groups=tuple(groups))

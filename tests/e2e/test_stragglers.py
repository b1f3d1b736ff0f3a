"""Is a rank that really is slow named, from what a real run tells?"""

from __future__ import annotations

import json
import subprocess
import sys
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


def test_a_rank_that_sleeps_a_third_longer_is_named_after_three_steps(tmp_path: Path) -> None:
    culprit, since = 0, 38
    for attempt in range(TRIES):
        incidents = _watched(tmp_path / str(attempt), culprit, since)
        assert {(incident.subject.rank, incident.subject.node) for incident in incidents} <= {(culprit, 0)}
        if incidents and incidents[0].step <= since + 3:
            break
    assert len(incidents) == 1
    assert since + 2 <= incidents[0].step <= since + 3
    assert incidents[0].confidence >= 0.8


def test_a_run_in_which_nobody_is_slow_names_nobody(tmp_path: Path) -> None:
    assert _watched(tmp_path, 1, STEPS + 1) == []


def _watched(folder: Path, culprit: int, since: int) -> list[Incident]:
    """Run it, then let the detector hear of it in order; whoever is asked answers with what it knew at that moment."""
    folder.mkdir(exist_ok=True)
    script = Path(__file__).with_name("straggling.py")
    argv = [sys.executable, str(script), str(folder), str(STEPS), str(culprit), str(since)]
    subprocess.run(argv, check=True, timeout=120)
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

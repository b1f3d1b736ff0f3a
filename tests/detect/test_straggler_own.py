"""Does the time that ranks measure themselves name the slow one, in whatever order it comes?"""

from __future__ import annotations

import pytest

from monitors.detect.straggler import Straggler
from monitors.incidents import Incident
from monitors.signals import Phase, RankProgress, RanksReported, StepReported


def report(step: int, took_s: float) -> StepReported:
    return StepReported(at=100.0 + step, node=0, world=1, rank=0, step=step, step_s=took_s)


def alone(step: int, node: int, own_s: tuple[float, ...]) -> RanksReported:
    ranks = tuple(range(4 * node, 4 * node + 4))
    return RanksReported(at=100.0 + step, node=node, world=1, step=step, ranks=ranks, own_s=own_s)


def test_ranks_that_leave_out_the_wait_for_their_devices_name_the_slow_one() -> None:
    """A step is as long for all; rank 6 worked while the others waited for it. Its node is heard three steps late."""
    detector = Straggler(ranks=8, ranks_per_node=4)
    detector.world_began(1)
    found: list[Incident] = []
    for step in range(1, 40):
        found += detector.see(report(step, 1.0 if step <= 30 else 1.3))
        found += detector.see(alone(step, 0, (0.2, 0.21, 0.2, 0.4)))
        for word in [alone(step - 3, 1, (0.2, 0.2, 0.2 if step - 3 <= 30 else 0.5, 0.2))] * 2:
            found += detector.see(word)
    (slow,) = found
    assert (slow.subject.node, slow.subject.rank) == (1, 6)
    assert "rank 6 on node 1 takes 0.300 s longer" in slow.evidence[1]
    assert slow.step is not None
    assert slow.step <= 38


@pytest.mark.parametrize("own_s", [0.2, 1.3])
def test_ranks_that_all_take_as_long_name_nobody(own_s: float) -> None:
    detector = Straggler(ranks=8, ranks_per_node=4)
    detector.world_began(1)
    for step in range(1, 60):
        assert detector.see(report(step, 1.0 if step <= 30 else 1.3)) == []
        for node in (1, 0):
            took_s = own_s if own_s < 1 or step > 30 else 1.0
            assert detector.see(alone(step, node, (took_s,) * 4)) == []


def test_a_step_with_a_save_in_it_tells_nothing_of_its_ranks() -> None:
    """Every second one: while rank 0 writes, rank 5 is in the next step already, and waits there."""
    detector = Straggler(ranks=8, ranks_per_node=4)
    detector.world_began(1)
    saving = RankProgress(at=0.0, node=0, world=1, rank=0, step=0, phase=Phase.SAVE, moved_at=0.0)
    for step in range(1, 80):
        late = step > 30 and step % 2 == 0
        if late:
            detector.see(saving)
        assert detector.see(report(step, 1.0 if step <= 30 else 1.3)) == []
        assert detector.see(alone(step, 0, (0.2,) * 4)) == []
        assert detector.see(alone(step, 1, (0.2, 0.6 if late else 0.2, 0.2, 0.2))) == []

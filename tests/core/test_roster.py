"""Is the table of ranks what they told last, each in its own place?"""

from __future__ import annotations

from monitors import signals as s
from monitors.hardware import GpuLooked
from orchestrator.roster import COLUMNS, Roster


def roster(ranks: int = 4) -> Roster:
    box = Roster(ranks=ranks, ranks_per_node=2, rank_of=lambda node, index: node * 2 + index)
    box.began(3)
    return box


def moved(rank: int, step: int, at: float, world: int = 3) -> s.RankProgress:
    return s.RankProgress(
        at=at, node=rank // 2, world=world, rank=rank, step=step, phase=s.Phase.STEP, moved_at=at, spent_s=()
    )


def test_every_rank_has_a_row_whether_or_not_it_was_heard() -> None:
    box = roster()
    box.see(moved(1, 7, 10.0))
    box.see(s.RankStarted(at=1.0, node=1, world=3, rank=3, pid=1))
    table = box.table(culprits=[2])
    assert tuple(table) == COLUMNS
    assert {len(column) for column in table.values()} == {4}
    assert table["node"] == [0, 0, 1, 1]
    assert table["started"] == [False, True, False, True]
    assert table["step"] == [None, 7, None, None]
    assert table["culprit"] == [False, False, True, False]


def test_pace_and_lag_are_of_finished_steps() -> None:
    box = roster()
    for step, at in ((1, 10.0), (1, 10.2), (3, 11.0)):
        box.see(moved(0, step, at))
    box.see(moved(1, 1, 10.5))
    table = box.table()
    assert (table["step_s"][0], table["lag"][:2]) == (0.5, [0, 2])
    assert box.spread.step_s == 0.5


def test_what_ranks_saw_alone_and_their_gpus_stand_beside_them() -> None:
    box = roster()
    box.see(s.RanksReported(at=1.0, node=1, world=3, step=8, ranks=(2, 3), losses=(1.0, 2.0), own_s=(0.125, 0.375)))
    box.see(GpuLooked(at=1.0, node=1, device="GPU-x", index=1, power_w=400.0, temperature_c=71.0, memory_bytes=8))
    table = box.table()
    assert table["own_s"] == [None, None, 0.125, 0.375]
    assert (table["gpu"][3], table["power_w"][3], table["memory_share"][3]) == ("GPU-x", 400.0, None)
    assert (box.spread.own_s, box.spread.temperature_c) == ((0.25, 0.375), 71.0)


def test_an_older_world_says_nothing_any_more() -> None:
    box = roster()
    box.see(moved(0, 9, 10.0))
    box.began(4)
    box.see(moved(0, 9, 11.0, world=3))
    assert box.table()["step"] == [None] * 4

"""Of which steps does a node tell what its ranks saw alone, and how often?"""

from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest

from lastgood.progress import Row
from monitors import wire
from monitors.sense.selection import BROKEN_EVERY_S, Selection
from monitors.signals import RanksReported


def row(step: int, at: float, step_s: float = 1.0, **values: float | None) -> Row:
    told: dict[str, float | None] = {"loss": None, "grad_norm": None, "lr": None, "tokens": None, **values}
    return Row(step=step, data_index=step, at=at, step_s=step_s, **told)  # type: ignore[arg-type]


def trained(selection: Selection, steps: int, step_s: float, *, first: int = 1, ranks: int = 2) -> list[RanksReported]:
    """Ranks that train together; the node looks after each step."""
    told = []
    for step in range(first, first + steps):
        for rank in range(ranks):
            selection.put(rank, row(step, step * step_s, step_s, loss=2.0 + rank))
        told += selection.take()
    return told


def test_a_step_is_told_when_all_ranks_of_the_node_have_finished_it() -> None:
    selection = Selection(node=1, world=3, ranks_here=2, ranks=4)
    selection.put(2, row(7, 10.0, loss=2.0, local_loss=2.5, local_grad_norm=0.5, waited_s=0.25))
    assert selection.take() == []
    selection.put(3, row(7, 10.5, loss=2.0, local_loss=1.5, local_grad_norm=math.inf, waited_s=2.0))
    (told,) = selection.take()
    assert told == RanksReported(
        at=10.5,
        node=1,
        world=3,
        step=7,
        ranks=(2, 3),
        losses=(2.5, 1.5),
        grad_norms=(0.5, math.inf),
        own_s=(0.75, 0.0),
    )
    assert selection.take() == []
    assert wire.loads(json.dumps(wire.encode(told)), wire.by_name(RanksReported)) == told


def test_what_was_averaged_is_nobodys_own() -> None:
    selection = Selection(node=0, world=1, ranks_here=2, ranks=2)
    for rank in (0, 1):
        selection.put(rank, row(1, 1.0, loss=2.0, grad_norm=0.5 + rank))
    (told,) = selection.take()
    assert (told.losses, told.grad_norms) == ((), (0.5, 1.5))


def test_a_rank_that_is_alone_has_nobody_to_be_held_against() -> None:
    assert trained(Selection(node=0, world=1, ranks_here=1, ranks=1), 20, 1.0, ranks=1) == []


@pytest.mark.parametrize(
    ("ranks", "step_s", "gap_s"),
    [(16, 0.01, 0.05), (16, 0.5, 0.5), (64, 1e-4, 0.05), (128, 0.1, 1.0), (128, 3.0, 3.0), (100_000, 2.0, 24.0)],
)
def test_lines_are_as_rare_as_the_world_is_large(ranks: int, step_s: float, gap_s: float) -> None:
    selection = Selection(node=0, world=1, ranks_here=2, ranks=ranks)
    told = trained(selection, 200 + round(20 * gap_s / step_s), step_s)
    gaps_s = [after.at - before.at for before, after in pairwise(told)]
    assert len(gaps_s) >= 8
    assert min(gaps_s) >= gap_s / 2
    assert min(gaps_s[3:]) >= gap_s * 0.999


def test_nodes_choose_the_same_steps() -> None:
    """One measures a little longer steps than the other, and began to listen later."""
    here = trained(Selection(node=0, world=1, ranks_here=2, ranks=128), 400, 0.1)
    there = trained(Selection(node=1, world=1, ranks_here=2, ranks=128), 370, 0.11, first=31)
    steps = {told.step for told in here[3:]}
    common = steps & {told.step for told in there}
    assert len(common) >= len(steps) - 4


def test_a_rank_that_never_tells_costs_no_memory_and_one_that_is_late_is_waited_for() -> None:
    selection = Selection(node=0, world=1, ranks_here=2, ranks=2)
    for step in range(1, 5):
        selection.put(0, row(step, float(step), loss=1.0))
    selection.put(1, row(3, 3.0, loss=2.0))
    assert [told.step for told in selection.take()] == [3]
    selection.put(1, row(2, 2.0, loss=2.0))
    selection.put(1, row(4, 4.0, loss=2.0))
    assert [told.step for told in selection.take()] == [4]
    for step in range(5, 2000):
        selection.put(0, row(step, float(step), loss=1.0))
    selection.put(1, row(100, 100.0, loss=2.0))
    assert selection.take() == []


def test_the_runs_own_rows_go_out_and_broken_ones_of_others_once_a_second() -> None:
    selection = Selection(node=0, world=1, ranks_here=2, ranks=2)
    assert selection.tells(0, row(1, 1.0, loss=2.0))
    assert not selection.tells(1, row(1, 1.0, loss=2.0))
    assert selection.tells(1, row(2, 2.0, loss=math.nan))
    storm = [selection.tells(1, row(3 + n, 2.0 + n / 100, loss=math.nan)) for n in range(1, 251)]
    assert sum(storm) == int(2.5 / BROKEN_EVERY_S)
    assert not selection.tells(1, row(300, 5.0, loss=2.0))
    assert selection.tells(1, row(301, 5.01, grad_norm=math.inf)), "another one"

"""Do all ranks save the same steps, when the interval changes while they train?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood import manifest
from lastgood.interval import Interval
from lastgood.peers import Peers
from tests.sdk import together
from tests.sdk.ranks import Rank

ALONE = Peers(0, 1)


def saves(every: int, said: dict[int, int], until: int) -> list[int]:
    """The steps that are saved; `said`: after which step the agent wants which interval."""
    interval, word, found = Interval(every), 0, []
    for step in range(1, until + 1):
        if interval.is_due(step):
            interval.agree(step, word, ALONE)
            found.append(step)
        word = said.get(step, word)
    return found


@pytest.mark.parametrize(
    ("said", "steps"),
    [
        ({}, [10, 20, 30, 40]),
        ({9: 10}, [10, 20, 30, 40]),
        ({3: 7}, [10, 14, 21, 28, 35]),
        ({10: 7}, [10, 20, 28, 35]),
        ({15: 25}, [10, 20, 50]),
        ({5: 11}, [10, 22, 33, 44]),  # 11 lies just behind 10
        ({5: 1, 12: 20}, [10, 11, 12, 13, 40]),  # 20 is less than half an interval behind 13
    ],
)
def test_a_change_counts_from_the_next_save_on(said: dict[int, int], steps: list[int]) -> None:
    assert saves(10, said, until=steps[-1] + 4) == steps


@given(st.integers(1, 30), st.dictionaries(st.integers(1, 200), st.integers(1, 60)))
def test_saves_are_never_closer_than_half_an_interval_nor_further_apart_than_one_and_a_half(
    every: int, said: dict[int, int]
) -> None:
    found = saves(every, said, until=300)
    asked = [every, *said.values()]
    gaps = [after - before for before, after in zip([0, *found], found, strict=False)]
    assert all(2 * gap >= min(asked) for gap in gaps)
    assert all(2 * gap <= 3 * max(asked) for gap in gaps)


def test_the_word_of_the_agent_reaches_a_rank_that_is_alone(rank: Callable[..., Rank], state: dict[str, Any]) -> None:
    world = rank(save_every=4)
    for step in world.run.steps(state, until=14):
        if step == 2:
            world.reader.order_save_every(3)
    assert [note["step"] for note in world.notes("committed")] == [4, 6, 9, 12, 14]


def test_an_agent_that_does_not_know_the_word_changes_nothing(rank: Callable[..., Rank], state: dict[str, Any]) -> None:
    world = rank(save_every=4)
    raw = bytearray((world.folder / "progress").read_bytes())
    assert raw[288:296] == bytes(8), "as in the file of an older agent"
    list(world.run.steps(state, until=9))
    assert [note["step"] for note in world.notes("committed")] == [4, 8, 9]


@pytest.mark.e2e
def test_two_ranks_hear_rank_0_and_save_the_same_steps(tmp_path: Path) -> None:
    first, second = together.run(tmp_path)
    assert first["intervals"] == second["intervals"]
    steps = [note["step"] for note in first["notes"] if note["note"] == "committed"]
    assert steps == [10, 14, 21, 28, 36, 40]
    assert not [note for saw in (first, second) for note in saw["notes"] if note["note"] == "save_failed"]
    for name in manifest.names(str(tmp_path / "checkpoints")):
        files = {path.name for path in (tmp_path / "checkpoints" / str(name)).iterdir()}
        assert {"__0_0.distcp", "__1_0.distcp"} <= files, "a shard of each rank"

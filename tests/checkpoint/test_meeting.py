"""Do the savers of several nodes agree through a folder, and does none wait for one that is gone?"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lastgood.manifest import Name
from lastgood.meeting import Left, Meeting
from lastgood.peers import RoundFailed

FIRST, LATER = Name(step=10, attempt=1, world=2), Name(step=20, attempt=1, world=2)
NEXT_WORLD = Name(step=5, attempt=1, world=3)


def node(folder: Path, number: int, name: Name = FIRST, *, nodes: int = 3, within_s: float = 30.0) -> Meeting:
    return Meeting(str(folder), name, node=number, nodes=nodes, within_s=within_s)


def together(work: Callable[[int], Any], nodes: int = 3) -> list[Any]:
    """What each node gets, or the exception it meets."""

    def tried(number: int) -> Any:
        try:
            return work(number)
        except (RoundFailed, RuntimeError) as error:
            return error

    with ThreadPoolExecutor(nodes) as pool:
        return list(pool.map(tried, range(nodes)))


def test_rounds_give_each_node_its_answer_and_leave_nothing(tmp_path: Path) -> None:
    def work(number: int) -> list[int]:
        mine = node(tmp_path, number)
        first = mine.round(lambda: number, lambda parts: [sum(parts) + i for i in range(3)])
        second = mine.round(lambda: number * 10, lambda parts: [sum(parts) + i for i in range(3)])
        mine.leave()
        return [first, second]

    assert together(work) == [[3, 30], [4, 31], [5, 32]]
    assert list(tmp_path.iterdir()) == []


def test_a_failure_on_one_node_reaches_all_with_its_cause(tmp_path: Path) -> None:
    def work(number: int) -> object:
        mine = node(tmp_path, number)
        try:
            return mine.all(lambda: (tmp_path / "gone").read_text() if number == 1 else "")
        finally:
            mine.leave()

    for error in together(work):
        assert isinstance(error, RoundFailed)
        assert (error.failure.rank, error.failure.errno) == (1, 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("later", [LATER, NEXT_WORLD])
@pytest.mark.parametrize("gone", [0, 1])
def test_who_waits_for_one_that_has_gone_on_hears_of_it(tmp_path: Path, later: Name, gone: int) -> None:
    def work(number: int) -> object:
        mine = node(tmp_path, number, later if number == gone else FIRST, nodes=2, within_s=0.4)
        return mine.all(lambda: None)

    seen = together(work, 2)
    assert isinstance(seen[1 - gone], Left)
    assert f"node {gone} has gone on to {later}" in str(seen[1 - gone])
    assert "told nothing" in str(seen[gone])


def test_an_older_save_of_another_is_no_reason_to_leave(tmp_path: Path) -> None:
    def work(number: int) -> object:
        mine = node(tmp_path, number, FIRST if number == 1 else LATER, nodes=2, within_s=0.3)
        return mine.all(lambda: None)

    newer, older = together(work, 2)
    assert "node 1 told nothing of step-00000020.a1w2 for 0 s" in str(newer)
    assert isinstance(older, Left)


def test_a_folder_that_takes_no_file_fails_the_round(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RoundFailed, match="Not a directory"):
        node(tmp_path / "file", 1).all(lambda: None)

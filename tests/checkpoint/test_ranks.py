"""Two real ranks save and resume bit for bit, agree about failures and damage, and other worlds take over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.checkpoint import ranks
from tests.checkpoint.ranks import ONE, TWO

Seen = list[dict[str, Any]]


def test_a_resumed_run_is_bit_identical(two: Seen) -> None:
    for seen in (rank["resume"] for rank in two):
        assert seen["found"] == [TWO, 3, 7]
        assert seen["restored"]
        assert seen["plain"] == [[0, 1, 2], ["loss1", "loss2", "loss3"], 3, [0.3, 0.3, 0.3]]
        gone_on, again = seen["gone_on"]
        assert gone_on == again
        assert seen["weights"]
    first, second = (rank["resume"]["gone_on"][0] for rank in two)
    assert first != second, "the ranks drew the same random numbers: the test shows nothing"


def test_copies_of_sharded_states_become_checkpoints_by_one_saver_or_by_one_for_each_node(two: Seen) -> None:
    for rank, seen in enumerate(one["from_copies"] for one in two):
        assert seen["1"] == ["step-00000003.a1w51", True]
        assert seen["2"] == ["step-00000003.a1w52", True]
        assert seen["left"] == []
        assert [note["note"] for note in seen["notes"]] == ["committed", "committed"] * (rank == 0)
        assert seen["shards"] == [".metadata", "__0_0.distcp", "__1_0.distcp", "manifest.json"]


def test_only_the_coordinator_notes_a_commit(two: Seen) -> None:
    [note] = two[0]["resume"]["notes"]
    assert (note["note"], note["checkpoint"], note["step"]) == ("committed", TWO, 3)
    assert note["bytes"] > 10_000
    assert 0 < note["stall_s"] < note["at"] - note["saved_at"] + 60
    assert two[1]["resume"]["notes"] == []


def test_a_rank_that_cannot_write_stops_nobody(two: Seen) -> None:
    for seen in (rank["fail_in_turn"] for rank in two):
        assert seen["failures"] > 10
        assert seen["problems"] == []


def test_the_ranks_agree_on_damage_and_take_the_older_one(two: Seen) -> None:
    for zero, one in zip(*(rank["fall_back"]["seen"] for rank in two), strict=True):
        for seen in (zero, one):
            assert seen["alone"] is None
            assert seen["held"], zero["damage"]
            assert seen["found"] == TWO, zero["damage"]
        # One note for each of the two restores, on one rank, naming a damaged file.
        refused = zero["notes"] or one["notes"]
        assert zero["notes"] == [] or one["notes"] == []
        assert [note["note"] for note in refused] == ["refused", "refused"]
        assert refused[0]["why"].partition(":")[0] in zero["damage"], refused


def test_the_ranks_agree_on_what_one_of_them_cannot_read_and_condemn_nothing(two: Seen) -> None:
    newest = "step-00000009.a1w9"
    zero, one = (rank["out_of_sight"]["hidden"] for rank in two)
    for seen in (zero, one):
        assert seen["alone"] == f"{newest}: .: cannot be read: it is listed, and not found"
        assert seen["held"]
        assert seen["found"] == TWO
    assert (zero["notes"], one["notes"]) == ([], [["unread", newest]])


def test_damage_that_one_rank_saw_outweighs_that_another_saw_nothing(two: Seen) -> None:
    newest = "step-00000009.a1w9"
    zero, one = (rank["out_of_sight"]["damaged"] for rank in two)
    assert (zero["alone"], one["alone"]) == ("None", "None")
    assert (zero["found"], one["found"]) == (TWO, TWO)
    assert (zero["notes"], one["notes"]) == ([["refused", newest]], [])


def test_a_checkpoint_that_does_not_fit_is_an_error_on_every_rank(two: Seen) -> None:
    for seen in (rank["misfit"] for rank in two):
        assert "the checkpoint has no model.bias, model.weight" in seen["why"]
        assert seen["notes"] == []


def test_two_ranks_take_over_from_one(two: Seen) -> None:
    assert_taken_over([rank["from_one"] for rank in two], ONE)


@pytest.mark.usefixtures("two")
def test_one_process_without_a_group_takes_over_from_two(folder: Path) -> None:
    assert_taken_over([ranks.from_two(ranks.Rank(0, 1, folder))], TWO)


@pytest.mark.soak
@pytest.mark.usefixtures("two")
def test_three_ranks_take_over_from_two(folder: Path) -> None:
    assert_taken_over([rank["from_two"] for rank in ranks.run("three", 3, folder)], TWO)


def assert_taken_over(seen: Seen, name: str) -> None:
    for rank in seen:
        assert rank["found"] == name
        assert rank["equal"]
        assert rank["repeated"]
        assert rank["notes"] == []
    drawn = {tuple(rank["drawn"]) for rank in seen}
    assert len(drawn) == len(seen), "a rank that is new must not repeat another's random numbers"

"""Whom does everybody wait for? Tables of what flight recorders say, and the hangs that follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitors.detect.collectives import Blocked, blocked
from monitors.detect.collectives_groups import listed
from monitors.detect.stacks import grouped
from monitors.incidents import Blame, Kind
from monitors.signals import CollectivesLooked, GroupStatus
from tests.detect.worlds import World

DP, TP = "nccl:1", "nccl:2"


def stands(group: str, ranks: tuple[int, ...], enqueued: int, completed: int | None = None, **more: Any) -> GroupStatus:
    """A rank that has called `all_reduce` up to `enqueued`; when `completed` is not given, all of it is over."""
    calls = tuple((seq, "all_reduce(4 Float)") for seq in range(max(1, enqueued - 8), enqueued + 1))
    given: dict[str, Any] = {
        "desc": {"1": "dp", "2": "tp"}.get(group[-1], "default_pg"),
        "calls": calls,
        "arrivals": tuple((seq, float(seq)) for seq, _ in calls),
        **more,
    }
    over = enqueued if completed is None else completed
    return GroupStatus(group=group, ranks=ranks, enqueued=enqueued, completed=over, **given)


def look(rank: int, *groups: GroupStatus, said: tuple[str, ...] = ()) -> CollectivesLooked:
    return CollectivesLooked(at=1.0, node=0, world=1, rank=rank, groups=groups, said=said)


def verdict(looks: Mapping[int, tuple[GroupStatus, ...]], ranks: int) -> Blocked | None:
    return blocked({rank: look(rank, *groups) for rank, groups in looks.items()}, range(ranks))


def named(looks: Mapping[int, tuple[GroupStatus, ...]], ranks: int) -> Blocked:
    found = verdict(looks, ranks)
    assert found is not None
    return found


FOUR = (0, 1, 2, 3)


def test_the_rank_that_never_came_is_named() -> None:
    looks = {rank: (stands(DP, FOUR, 118, 117),) for rank in (0, 1, 2)} | {3: (stands(DP, FOUR, 117),)}
    found = named(looks, 4)
    assert (found.rank, found.confidence, found.blame, found.call) == (3, 0.95, None, "")
    assert found.evidence == (
        "rank 3 never came to all_reduce 118 of group dp of ranks 0-3, where 3 ranks (0-2) wait",
        "rank 3 itself waits in no collective: it computes, sleeps or reads",
    )
    assert found.next_best in (0, 1, 2)


def test_the_rank_that_does_not_answer_is_named() -> None:
    found = named({rank: (stands(DP, FOUR, 118, 117),) for rank in (0, 1, 2)}, 4)
    assert (found.rank, found.confidence) == (3, 0.85)
    assert found.evidence[-1].startswith("rank 3 does not answer, 3 ranks (0-2) do")


def test_what_nccl_says_of_one_that_does_not_answer_is_evidence() -> None:
    looks = {rank: look(rank, stands(DP, FOUR, 118, 117)) for rank in (0, 1, 2)}
    found = blocked(looks | {3: look(3, said=("NCCL says so",))}, FOUR)
    assert found is not None
    assert (found.rank, found.confidence, found.evidence[-1]) == (3, 0.85, "NCCL says so")


def test_several_that_do_not_answer_are_doubted() -> None:
    found = named({rank: (stands(DP, FOUR, 118, 117),) for rank in (0, 1)}, 4)
    assert found.rank in (2, 3)
    assert found.confidence < 0.5


def test_gpus_that_run_ahead_of_each_other_make_no_laggard() -> None:
    """The host queues collectives long before the GPUs begin them: only the first unfinished one counts."""
    ahead = {0: (stands(DP, FOUR, 140, 117),), 1: (stands(DP, FOUR, 131, 117),), 2: (stands(DP, FOUR, 125, 117),)}
    assert named({**ahead, 3: (stands(DP, FOUR, 117),)}, 4).rank == 3
    found = named({**ahead, 3: (stands(DP, FOUR, 119, 117),)}, 4)
    assert (found.rank, found.blame) == (None, Blame.NETWORK)
    assert "it does not end on ranks 0-3" in found.evidence[0]


def test_a_gpu_that_does_not_begin_what_the_others_began_is_named() -> None:
    looks = {rank: (stands(DP, FOUR, 118, 117, started=118),) for rank in (0, 1, 3)}
    found = named({**looks, 2: (stands(DP, FOUR, 118, 117, started=117),)}, 4)
    assert (found.rank, found.blame, found.confidence) == (2, Blame.HARDWARE, 0.7)


def mesh(rank: int, *, dp: tuple[int, int | None], tp: tuple[int, int | None]) -> tuple[GroupStatus, ...]:
    """Rank of a 2 by 2 mesh: tensor groups 0-1 and 2-3, data groups 0, 2 and 1, 3 under one name, as after a split."""
    across, along = (rank % 2, rank % 2 + 2), (rank // 2 * 2, rank // 2 * 2 + 1)
    return stands(DP, across, *dp), stands(TP, along, *tp)


def test_waiting_is_followed_from_group_to_group() -> None:
    looks = {
        0: mesh(0, dp=(8, 7), tp=(50, None)),
        1: mesh(1, dp=(8, 7), tp=(50, None)),
        2: mesh(2, dp=(7, None), tp=(50, 49)),
        3: mesh(3, dp=(7, None), tp=(49, None)),
    }
    found = named(looks, 4)
    assert (found.rank, found.confidence) == (3, 0.95)
    assert found.evidence[:3] == (
        "rank 3 never came to all_reduce 8 of group dp of ranks 1, 3, where rank 1 waits",
        "rank 3 never came to all_reduce 50 of group tp of ranks 2-3, where rank 2 waits",
        "rank 0 waits for those, in other groups",
    )


def test_a_receive_leads_to_the_rank_that_does_not_send() -> None:
    waits = GroupStatus(group="point to point", op="recv", peers=(0,))
    found = named({0: (stands(DP, (0, 1), 3),), 1: (stands(DP, (0, 1), 3), waits)}, 2)
    assert (found.rank, found.evidence[0]) == (0, "rank 0 never came to a send or receive, where rank 1 waits")


def test_both_ends_of_a_transfer_are_there_and_it_does_not_end() -> None:
    ends = {rank: (GroupStatus(group="nccl:1", enqueued=0, completed=0, peers=(1 - rank,)),) for rank in (0, 1)}
    found = named(ends, 2)
    assert (found.rank, found.blame) == (None, Blame.NETWORK)


def called(seq: int, call: str) -> tuple[GroupStatus, ...]:
    """A rank whose habit is two buckets in turn, and that now called this."""
    habit = [(n, f"all_reduce({8 + n % 2} Float)") for n in range(1, seq)]
    return (stands(DP, FOUR, seq, seq - 1, calls=(*habit, (seq, call))),)


@pytest.mark.parametrize("odd", ["all_gather(8 Float)", "all_reduce(7 Float)", "all_reduce(8 Double)", "barrier"])
def test_the_minority_that_called_something_else_is_named(odd: str) -> None:
    looks = {rank: called(20, odd if rank == 1 else "all_reduce(8 Float)") for rank in FOUR}
    found = named(looks, 4)
    assert (found.rank, found.blame, found.call, found.confidence) == (1, Blame.USER_CODE, odd, 0.95)
    assert found.evidence[0] == (
        f"in collective 20 of group dp of ranks 0-3, rank 1 called {odd}, and 3 ranks (0, 2-3) all_reduce(8 Float)"
    )


def test_of_two_the_one_that_left_its_habit_is_named() -> None:
    looks = {rank: called(20, "all_reduce(7 Float)" if rank == 1 else "all_reduce(8 Float)") for rank in (0, 1)}
    assert (named(looks, 2).rank, named(looks, 2).confidence) == (1, 0.95)
    fresh = {rank: called(1, f"all_reduce({rank} Float)") for rank in (0, 1)}
    assert named(fresh, 2).confidence == 0.5, "without a past nobody knows"


def test_a_save_in_the_background_is_no_habit() -> None:
    """Its collectives fall between those of the steps as they come, and so follow on others than ever before."""
    arrivals = ((1, 14.5), (2, 15.5), (3, 18.5))
    save = stands(TP, (0, 1), 3, calls=tuple((seq, "scatter") for seq, _ in arrivals), arrivals=arrivals)
    looks = {rank: called(20, "all_reduce(7 Float)" if rank == 1 else "all_reduce(8 Float)") for rank in (0, 1)}
    found = named({rank: (*groups, save) for rank, groups in looks.items()}, 2)
    assert (found.rank, found.confidence) == (1, 0.95)


def test_a_mismatch_that_let_the_others_pass_is_still_a_mismatch() -> None:
    """Short messages are buffered: gloo's others finish, and stand one collective further."""
    looks = {rank: called(21, "all_reduce(9 Float)") for rank in (0, 2, 3)}
    found = named({**looks, 1: called(20, "all_reduce(13 Float)")}, 4)
    assert (found.rank, found.call) == (1, "all_reduce(13 Float)")


def test_a_mismatch_long_ago_is_not_why_it_hangs() -> None:
    calls = tuple((seq, "broadcast(1 Float)") for seq in range(40, 60))
    odd = ((40, "broadcast(2 Float)"), *calls[1:])
    looks = {rank: (stands(DP, FOUR, 60, 59, calls=odd if rank == 1 else calls),) for rank in (0, 1, 2)}
    found = named({**looks, 3: (stands(DP, FOUR, 59, calls=calls),)}, 4)
    assert (found.rank, found.call) == (3, "")


def order(rank: int, *, first: str, waits: str) -> CollectivesLooked:
    """A rank that used to call TP, then DP, five times, and now stands in `waits` after `first`."""
    groups = []
    for offset, name in enumerate((TP, DP)):
        past = [(n, 10.0 * n + offset) for n in range(1, 6)]
        now = [(6, 60.0 + (name != first))] if name in (first, waits) else []
        arrivals = tuple(past + now)
        calls = tuple((seq, "all_reduce(4 Float)") for seq, _ in arrivals)
        over = 5 if name == waits else len(arrivals)
        groups.append(stands(name, (0, 1), len(arrivals), over, calls=calls, arrivals=arrivals))
    return look(rank, *groups)


def test_in_a_circle_the_one_that_left_its_order_is_named() -> None:
    looks = {0: order(0, first=TP, waits=TP), 1: order(1, first=DP, waits=DP)}
    found = blocked(looks, (0, 1))
    assert found is not None
    assert (found.rank, found.blame, found.confidence, found.next_best) == (1, Blame.USER_CODE, 0.9, 0)
    assert found.call
    assert "rank 1 never called them in this order before" in found.evidence


def test_in_a_circle_without_a_past_nobody_is_sure() -> None:
    first = {0: (stands(TP, (0, 1), 1, 0), stands(DP, (0, 1), 0)), 1: (stands(TP, (0, 1), 0), stands(DP, (0, 1), 1, 0))}
    found = named(first, 2)
    assert found.confidence < 0.6
    assert found.call == "", "a hang that may be retried"


def test_after_time_outs_the_numbers_still_show_who_is_behind() -> None:
    looks = {rank: (stands("gloo:0", FOUR, 6),) for rank in (0, 1, 3)} | {2: (stands("gloo:0", FOUR, 5),)}
    found = named(looks, 4)
    assert (found.rank, found.confidence) == (2, 0.7)


def test_who_waits_for_nobody_hangs_for_another_reason() -> None:
    assert verdict({}, 4) is None
    assert verdict({rank: (stands(DP, FOUR, 7),) for rank in FOUR}, 4) is None


def test_a_group_that_all_are_in_needs_no_list_of_members() -> None:
    looks = {rank: (stands("gloo:0", (), 7, 6),) for rank in (0, 1)}
    assert named({**looks, 2: ()}, 3).rank == 2


RANK = st.integers(0, 4)
STATUS = st.builds(
    GroupStatus,
    group=st.sampled_from(["nccl:1", "nccl:2", "gloo:0"]),
    desc=st.sampled_from(["", "dp", "default_pg"]),
    ranks=st.lists(RANK, max_size=4, unique=True).map(tuple),
    enqueued=st.integers(-1, 4),
    started=st.integers(-1, 4),
    completed=st.integers(-1, 5),
    calls=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["a(1 f)", "b"])), max_size=4).map(tuple),
    arrivals=st.lists(st.tuples(st.integers(0, 5), st.floats(0, 9)), max_size=4).map(tuple),
    peers=st.lists(RANK, max_size=2).map(tuple),
)


@settings(max_examples=500, deadline=None)
@given(st.dictionaries(RANK, st.lists(STATUS, max_size=3), max_size=5), st.integers(1, 5))
def test_whatever_they_say_a_verdict_names_a_rank_of_this_world(said: dict[int, list[GroupStatus]], ranks: int) -> None:
    found = verdict({rank: tuple(groups) for rank, groups in said.items()}, ranks)
    if found is not None:
        assert found.rank is None or found.rank in range(ranks)
        assert found.evidence
        assert found.next_best != found.rank or found.rank is None


def test_stacks_are_told_together_the_odd_one_first() -> None:
    waits = ("t.py:1 main", "c10d.py:9 all_reduce")
    said = grouped({0: waits, 1: waits, 2: ("t.py:1 main", "t.py:30 spin"), 3: waits, 4: ()})
    assert said == (
        "stack of rank 2: t.py:30 spin < t.py:1 main",
        "stack of 3 ranks (0-1, 3): c10d.py:9 all_reduce < t.py:1 main",
    )
    assert len(grouped({rank: (str(rank),) for rank in range(20)})) == 4


def test_ranks_are_listed_in_spans() -> None:
    assert listed([5, 3, 0, 1, 2]) == "0-3, 5"


def hangs(world: World, *looks: CollectivesLooked) -> None:
    """Let the world stand still; its kernel says that all sleep, its recorders say this."""
    world.passes(0.8)
    for rank in range(len(world.ranks)):
        world.kernel(rank, "S", ("t.py:1 main", "t.py:2 load" if rank == 3 else "c10d.py:9 all_reduce"))
    for one in looks:
        world.say(CollectivesLooked(at=world.now, node=0, world=1, rank=one.rank, groups=one.groups))


def trained() -> World:
    world = World(ranks_per_node=4)
    world.train(40)
    return world


def test_a_hang_is_told_by_the_recorders_where_nothing_else_tells_ranks_apart() -> None:
    world = trained()
    began = world.now
    hangs(world, *(look(r, stands(DP, FOUR, 118, 117)) for r in (0, 1, 2)), look(3, stands(DP, FOUR, 117)))
    world.until_incident(5)
    (hang,) = world.incidents
    assert (hang.kind, hang.subject.rank, hang.confidence) == (Kind.HANG, 3, 0.95)
    assert hang.at - began <= 1.3
    assert hang.next_best is not None
    assert hang.next_best.rank != 3
    assert hang.senses == ("progress", "collectives", "process")
    assert "rank 3 never came to all_reduce 118" in hang.evidence[0]
    assert "stack of rank 3: t.py:2 load < t.py:1 main" in hang.evidence
    assert hang.evidence.index("stack of rank 3: t.py:2 load < t.py:1 main") < len(hang.evidence) - 2


def test_the_recorders_outrank_a_step_that_others_are_ahead_of_and_the_kernel_outranks_them() -> None:
    looks = [look(r, stands(DP, FOUR, 118, 117)) for r in (0, 1, 2)] + [look(3, stands(DP, FOUR, 117))]
    world = trained()
    world.ranks[1].still = True
    world.train(1)
    hangs(world, *looks)
    world.until_incident(5)
    assert (world.incidents[0].subject.rank, world.incidents[0].next_best.rank) == (3, 1)  # type: ignore[union-attr]
    world = trained()
    hangs(world, *looks)
    world.kernel(2, "T")
    world.until_incident(5)
    assert world.incidents[0].subject.rank == 2


def test_the_verdict_waits_half_a_limit_for_a_dump_that_is_late() -> None:
    world = trained()
    began = world.now
    hangs(world, *(look(r, stands(DP, FOUR, 118, 117)) for r in (0, 1, 2)))
    world.until_incident(5)
    (hang,) = world.incidents
    assert hang.subject.rank == 3, "it does not answer"
    assert 1.4 <= hang.at - began <= 1.8
    world = trained()
    began = world.now
    hangs(world)
    world.until_incident(5)
    assert world.incidents[0].at - began <= 1.3, "nobody has a recorder"


def test_a_dump_from_before_the_silence_says_nothing() -> None:
    world = trained()
    for rank in FOUR:
        world.say(
            CollectivesLooked(
                at=world.now, node=0, world=1, rank=rank, groups=(stands(DP, FOUR, 9 if rank == 2 else 10, 9),)
            )
        )
    world.train(1)
    hangs(world)
    world.until_incident(5)
    assert world.incidents[0].confidence < 0.5


def test_ranks_that_call_different_things_are_a_fault_of_the_code() -> None:
    world = trained()
    hangs(world, *(look(r, *called(20, "barrier" if r == 1 else "all_reduce(8 Float)")) for r in FOUR))
    world.until_incident(5)
    (found,) = world.incidents
    assert (found.kind, found.blame, found.subject.rank) == (Kind.CODE_DIVERGENCE, Blame.USER_CODE, 1)
    assert found.fingerprint == "code_divergence:1:barrier"

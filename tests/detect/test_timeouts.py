"""A collective timed out and its victims die: is the rank named that they waited for, and how long does that take?"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from monitors.detect.exits import Exits
from monitors.incidents import Blame, Incident, Kind, Subject
from monitors.sense.flight_recorder import Where, left, looked
from monitors.signals import CollectivesLooked, Failure, GroupStatus, RankExited, Signal, WorldStopped
from monitors.watch import Watch, WatchConfig

WATCHDOG = "Watchdog caught collective operation timeout: WorkNCCL(SeqNum=118, OpType=ALLREDUCE, Timeout(ms)=600000)"
GLOO = "Timed out waiting 5000ms for recv operation to complete"
CLOSED = "Connection closed by peer [127.0.0.1]:13229."
FOUR = (0, 1, 2, 3)


def died(rank: int, at: float, words: str = WATCHDOG, **fields: Any) -> RankExited:
    """A rank of two nodes with two ranks each, ended by what it says."""
    failure = Failure(kind="RuntimeError", message=words, traceback="", raised_at=at, fingerprint=f"f{rank}")
    fields = {"code": 1, "signal": None, "failure": failure} | fields
    return RankExited(at=at, node=rank // 2, world=1, rank=rank, step=17, **fields)


def aborted(rank: int, at: float, *recording: int) -> RankExited:
    """Ended by NCCL's watchdog, without a word that anybody read."""
    return died(rank, at, code=None, signal=6, failure=None, recording=recording)


def stands(rank: int, enqueued: int, completed: int, *, at: float = 9.0, **more: Any) -> CollectivesLooked:
    """What its flight recorder says, in one group of all four."""
    group = GroupStatus(group="nccl:0", desc="default_pg", ranks=FOUR, enqueued=enqueued, completed=completed, **more)
    return CollectivesLooked(at=at, node=rank // 2, world=1, rank=rank, groups=(group,))


def mute(rank: int) -> CollectivesLooked:
    return CollectivesLooked(at=9.0, node=rank // 2, world=1, rank=rank, groups=(), said=("it cannot be read",))


@pytest.fixture
def exits() -> Exits:
    detector = Exits(ranks=4, ranks_per_node=2)
    detector.world_began(1)
    return detector


def heard(exits: Exits, *signals: Signal) -> list[Incident]:
    return [incident for signal in signals for incident in exits.see(signal)]


def test_the_rank_that_never_came_is_named_and_not_the_first_to_die(exits: Exits) -> None:
    """NCCL's watchdog ended rank 0; the records of all ranks of a node came before, and the others were asked."""
    assert heard(exits, aborted(0, 10.0, 0, 1)) == []
    assert exits.looks == (1, 2, 3)
    assert heard(exits, stands(0, 118, 117), stands(1, 118, 117)) == []
    assert (exits.looks, exits.deadline) == ((2, 3), 12.5)
    assert heard(exits, stands(2, 118, 117)) == []
    (incident,) = heard(exits, stands(3, 117, 117))
    assert (incident.kind, incident.subject, incident.confidence) == (Kind.HANG, Subject(node=1, rank=3), 0.95)
    assert (incident.at, incident.step, incident.senses) == (10.0, 17, ("exit", "collectives"))
    assert incident.evidence[0].startswith("rank 3 never came to collective 118 of the default group, where 3 ranks")
    assert "rank 0 on node 0 was ended by SIGABRT" in incident.evidence[-1]
    assert incident.next_best is not None
    assert incident.next_best.rank in (0, 1, 2)
    assert heard(exits, aborted(1, 10.1), died(2, 10.2, "'lr'")) == []
    assert (exits.silent(99.0), exits.looks, exits.deadline) == ([], (), None)


def test_gloos_time_out_is_found_in_what_its_victims_left_although_the_time_out_wiped_it_out(exits: Exits) -> None:
    """Nothing is unfinished any more; that some came further than others still shows."""
    heard(exits, *(died(rank, 10.0, GLOO, recording=(rank,)) for rank in (0, 1, 3)))
    (incident,) = heard(exits, *(stands(rank, 6, 6) for rank in (0, 1, 3)), stands(2, 5, 5, at=10.3))
    assert (incident.kind, incident.subject, incident.confidence) == (Kind.HANG, Subject(node=1, rank=2), 0.7)


def test_a_dump_that_was_begun_is_waited_for_and_an_answer_that_does_not_come_for_a_moment(exits: Exits) -> None:
    heard(exits, aborted(0, 10.0, 0, 1), stands(0, 118, 117), stands(2, 118, 117), stands(3, 118, 117))
    assert exits.deadline == 72.0, "rank 1 has begun to write"
    assert exits.silent(50.0) == []
    (incident,) = heard(exits, stands(1, 117, 117))
    assert incident.subject.rank == 1

    exits.world_began(1)
    assert heard(exits, died(0, 10.0), stands(1, 118, 117), stands(2, 118, 117)) == []
    assert exits.silent(12.4) == []
    (incident,) = exits.silent(12.5)
    assert (incident.subject.rank, incident.confidence) == (3, 0.85), "it did not answer, and the others did"
    assert "rank 3 does not answer" in " ".join(incident.evidence)


def test_a_victim_that_left_nothing_waited_too(exits: Exits) -> None:
    heard(exits, died(0, 10.0, GLOO), stands(1, 118, 117), stands(2, 118, 117))
    (incident,) = heard(exits, stands(3, 117, 117))
    assert (incident.subject.rank, incident.confidence) == (3, 0.95)


def test_a_dump_that_cannot_be_read_counts_as_no_answer(exits: Exits) -> None:
    told = heard(exits, aborted(0, 10.0, 0, 1), stands(0, 118, 117), mute(1), stands(2, 118, 117), stands(3, 118, 117))
    assert [(one.subject.rank, one.confidence) for one in told] == [(1, 0.85)]
    assert "it cannot be read" in told[0].evidence


def test_a_rank_that_had_ended_well_is_the_one_that_never_came(exits: Exits) -> None:
    heard(exits, died(3, 5.0, code=0, failure=None), died(0, 10.0, recording=(0, 1)))
    (incident,) = heard(exits, *(stands(rank, 118, 117) for rank in (0, 1, 2)))
    assert incident.subject.rank == 3
    assert "rank 3 had ended with status 0 after step 17, and takes part no more" in incident.evidence
    assert "does not answer" not in " ".join(incident.evidence)


def test_ranks_that_called_different_things_are_told_as_that(exits: Exits) -> None:
    ways = {rank: ((118, "barrier" if rank == 1 else "all_reduce(8 Float)"),) for rank in FOUR}
    heard(exits, aborted(0, 10.0, 0, 1))
    (incident,) = heard(exits, *(stands(rank, 118, 117, calls=ways[rank]) for rank in FOUR))
    assert (incident.kind, incident.subject.rank, incident.blame) == (Kind.CODE_DIVERGENCE, 1, Blame.USER_CODE)
    assert incident.fingerprint == "code_divergence:1:barrier", "as where it is seen before the time-out"


def test_where_all_came_the_first_to_die_stands_for_a_network_that_does_not_end_it(exits: Exits) -> None:
    heard(exits, aborted(0, 10.0, 0, 1))
    (incident,) = heard(exits, *(stands(rank, 118, 117) for rank in FOUR))
    assert (incident.kind, incident.subject.rank) == (Kind.WORKER_KILLED, 0)
    assert (incident.blame, incident.confidence) == (Blame.NETWORK, 0.4)
    assert "all that take part came to collective 118" in " ".join(incident.evidence)


def test_when_nobody_tells_anything_the_first_to_die_is_all_there_is(exits: Exits) -> None:
    assert heard(exits, died(2, 10.1, GLOO), died(0, 10.0, GLOO)) == []
    (incident,) = exits.silent(13.0)
    assert (incident.subject.rank, incident.blame, incident.confidence) == (0, Blame.UNKNOWN, 0.4)


def test_a_node_without_ranks_tells_nothing_more(exits: Exits) -> None:
    heard(exits, aborted(0, 10.0, 0, 1), stands(0, 118, 117), stands(2, 118, 117), stands(3, 118, 117))
    (incident,) = heard(exits, WorldStopped(at=10.2, node=0, world=1))
    assert (incident.subject.rank, incident.confidence) == (1, 0.85)


def test_what_is_no_time_out_waits_no_longer_than_before(exits: Exits) -> None:
    (killed,) = heard(exits, died(1, 10.0, code=None, signal=9, failure=None))
    assert (killed.at, killed.subject.rank) == (10.0, 1)
    exits.world_began(1)
    (raised,) = heard(exits, died(1, 10.0, "'lr'"))
    assert (raised.at, raised.subject.rank) == (10.0, 1)
    exits.world_began(1)
    heard(exits, died(0, 10.0, CLOSED), stands(1, 117, 117), stands(2, 118, 117), stands(3, 118, 117))
    assert (exits.looks, exits.deadline) == ((), 10.5), "somebody asked for these for another reason"
    exits.world_began(1)
    heard(exits, aborted(0, 10.0))
    assert (exits.looks, exits.deadline) == ((), 10.5)


def test_a_root_that_comes_while_records_are_waited_for_is_the_culprit(exits: Exits) -> None:
    assert heard(exits, died(0, 10.0), stands(1, 118, 117), stands(3, 118, 117)) == []
    (incident,) = heard(exits, died(2, 11.0, code=None, signal=9, failure=None))
    assert (incident.kind, incident.subject.rank) == (Kind.WORKER_KILLED, 2)


def test_looks_from_before_the_first_death_do_not_count(exits: Exits) -> None:
    """They are of another moment: who was behind then may be far ahead now."""
    heard(exits, *(stands(rank, 50 - rank, 40) for rank in FOUR), aborted(0, 10.0, 0, 1))
    assert exits.looks == (1, 2, 3)


def test_the_watch_wants_the_living_looked_at() -> None:
    watch = Watch(WatchConfig(), nodes=2, ranks_per_node=2)
    watch.world_began(1, 0.0)
    assert watch.see(aborted(0, 10.0, 0)) == []
    assert watch.looks == (1, 2, 3)
    (incident,) = [one for rank in FOUR for one in watch.see(stands(rank, 118 - (rank == 1), 117))]
    assert (incident.kind, incident.subject.rank) == (Kind.HANG, 1)
    assert watch.looks == ()


def nccl(seq: int, **more: Any) -> dict[str, Any]:
    """An entry as NCCL's recorder writes it."""
    return {
        "record_id": seq,
        "process_group": ("0", "default_pg"),
        "collective_seq_id": seq,
        "profiling_name": "nccl:all_reduce",
        "time_created_ns": 1_700_000_000_000_000_000 + seq,
        "input_sizes": [[4]],
        "output_sizes": [[4]],
        "input_dtypes": ["Float"],
        "state": "completed",
        "retired": True,
        "is_p2p": False,
        **more,
    }


def test_dumps_as_nccl_writes_them_lead_to_the_culprit(exits: Exits, tmp_path: Path) -> None:
    """What timed out is retired and not completed; rank 2 never called it."""
    late = nccl(3, state="started", retired=True)
    told: list[Incident] = heard(exits, aborted(0, 10.0, 0, 1), aborted(3, 10.1, 2, 3))
    for rank in FOUR:
        where = Where(node=rank // 2, world=1, rank=rank, folder=tmp_path)
        entries = [nccl(1), nccl(2), *([] if rank == 2 else [late])]
        config = {"0": {"name": "0", "desc": "default_pg", "ranks": "[0, 1, 2, 3]"}}
        where.nccl_dump.write_bytes(pickle.dumps({"version": "2.10", "pg_config": config, "entries": entries}, 2))
        dump = left(where)
        assert dump is not None
        told += exits.see(looked(10.2, where, dump))
    assert [(one.kind, one.subject) for one in told] == [(Kind.HANG, Subject(node=1, rank=2))]
    assert told[0].evidence[0].startswith("rank 2 never came to all_reduce 3 of the default group, where 3 ranks")


def mesh(rank: int, *, dp: tuple[int, int], tp: tuple[int, int]) -> CollectivesLooked:
    """A rank of a 2 by 2 mesh: where it stands in the group across, and in the one along."""
    across, along = (rank % 2, rank % 2 + 2), (rank // 2 * 2, rank // 2 * 2 + 1)
    groups = tuple(
        GroupStatus(group=f"gloo:{name}{ranks}", desc=name, ranks=ranks, enqueued=at[0], completed=at[1])
        for name, ranks, at in (("dp", across, dp), ("tp", along, tp))
    )
    return CollectivesLooked(at=9.0, node=rank // 2, world=1, rank=rank, groups=groups)


@pytest.mark.parametrize("wiped", [{0}, {1}, {2}, {0, 1}, {0, 2}, {1, 2}, {0, 1, 2}])
def test_whose_time_is_up_is_not_named_because_another_still_waits_for_it(exits: Exits, wiped: set[int]) -> None:
    """Rank 3 came to nothing more; 1 and 2 wait for it, 0 waits for 2. What timed out looks finished by now."""
    dp = {0: 40, 1: 40, 2: 39, 3: 39}
    tp = {0: 80, 1: 80, 2: 80, 3: 79}
    over = {rank: (dp[rank], tp[rank]) if rank in wiped or rank == 3 else (39, 79 + (rank < 2)) for rank in FOUR}
    heard(exits, *(died(rank, 10.0, GLOO, recording=(rank,)) for rank in sorted(wiped)))
    looks = [mesh(rank, dp=(dp[rank], over[rank][0]), tp=(tp[rank], over[rank][1])) for rank in FOUR]
    (incident,) = heard(exits, *looks)
    assert (incident.kind, incident.subject.rank) == (Kind.HANG, 3)

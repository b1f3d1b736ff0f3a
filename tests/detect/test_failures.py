"""Who failed first, when every rank has something to say?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitors.catalogue.faults import FAULTS
from monitors.catalogue.signatures import judge
from monitors.detect.exits import Exits
from monitors.detect.failures import SAID_FOR_S, fingerprint, first, fresh, read, suspect
from monitors.incidents import Blame, Incident, Kind
from monitors.signals import Failure, RankExited, RankSaid

PEER = "RuntimeError: [gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.1]:99"
WAITED = "Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7, OpType=ALLREDUCE)"
ECC = "CUDA error: uncorrectable ECC error encountered"
RETRY = "NCCL WARN NET/IB : Got completion from peer 10.0.0.1<2> with status=12 opcode=0 len=0 vendor err 129"
FLUSH = "NCCL WARN NET/IB : Got completion from peer 10.0.0.1<2> with status=5 opcode=0 len=0 vendor err 249"


def said(rank: int, at: float, text: str, step: int = 17) -> RankSaid:
    found = judge(text)
    assert found is not None
    return RankSaid(
        at=at,
        node=rank // 2,
        world=1,
        rank=rank,
        fault=found.fault,
        role=found.role.value,
        retryable=bool(found.retryable),
        text=found.text,
        step=step,
    )


def died(rank: int, at: float, words: str = "", **fields: Any) -> RankExited:
    kind, _, message = words.partition(": ")
    failure = Failure(kind=kind, message=message, traceback="", raised_at=at - 0.02, fingerprint=f"f{rank}")
    given = {"code": 1, "signal": None, "failure": failure if words else None} | fields
    return RankExited(at=at, node=rank // 2, world=1, rank=rank, step=17, **given)


@pytest.fixture
def exits() -> Exits:
    detector = Exits()
    detector.world_began(1)
    return detector


def concluded(exits: Exits, *signals: RankSaid | RankExited) -> Incident:
    incidents = [incident for signal in signals for incident in exits.see(signal)]
    (incident,) = incidents or exits.silent(exits.deadline or 0.0)
    return incident


def test_a_status_without_an_exception_is_explained_by_what_was_said(exits: Exits) -> None:
    incident = concluded(exits, said(3, 9.8, ECC), died(3, 10.0))
    assert (incident.kind, incident.subject.rank, incident.blame) == (Kind.WORKER_EXCEPTION, 3, Blame.HARDWARE)
    assert (incident.onset, incident.senses, incident.witnesses) == (9.8, ("exit", "logs"), 2)
    assert any("uncorrectable ECC" in one for one in incident.evidence)
    assert incident.fingerprint.startswith("exit:1:")


def test_an_abort_that_was_explained_is_no_victim(exits: Exits) -> None:
    incident = concluded(exits, died(0, 9.9, PEER), said(2, 9.8, ECC), died(2, 10.0, code=None, signal=6))
    assert (incident.subject.rank, incident.blame) == (2, Blame.HARDWARE)


def test_an_abort_by_the_watchdog_waits_for_the_culprit(exits: Exits) -> None:
    incident = concluded(
        exits, said(0, 9.0, WAITED), died(0, 10.0, code=None, signal=6), died(1, 10.4, code=None, signal=11)
    )
    assert incident.subject.rank == 1


def test_a_kill_keeps_its_name_and_is_explained(exits: Exits) -> None:
    words = "slurmstepd: error: Detected 1 oom_kill event in StepId=1.0. Some of the step tasks have been OOM Killed."
    incident = concluded(exits, said(1, 9.9, words), died(1, 10.0, code=None, signal=9))
    assert (incident.kind, incident.blame) == (Kind.WORKER_KILLED, Blame.HOST)
    assert "SIGKILL" in incident.evidence[0]


def test_a_victims_words_do_not_soften_a_kill(exits: Exits) -> None:
    incident = concluded(exits, said(1, 9.9, FLUSH), died(1, 10.0, code=None, signal=9))
    assert (incident.subject.rank, incident.confidence, incident.evidence[0][:6]) == (1, 1.0, "rank 1")


@pytest.mark.parametrize("last", [PEER, f"RuntimeError: {WAITED}", f"RuntimeError: {FLUSH}"])
def test_a_rank_that_said_its_own_reason_is_no_victim(exits: Exits, last: str) -> None:
    incident = concluded(exits, said(1, 9.0, ECC), died(1, 10.0, last))
    assert (incident.subject.rank, incident.blame, incident.confidence) == (1, Blame.HARDWARE, 1.0)


def test_a_rank_that_has_not_ended_is_named_by_what_it_said(exits: Exits) -> None:
    """Its process is slow to end (a logger, a core dump), and its peers are dead long before."""
    incident = concluded(exits, said(2, 9.9, "ValueError: bad shape"), died(0, 10.0, PEER), died(1, 10.1, PEER))
    assert (incident.subject.rank, incident.subject.node, incident.blame) == (2, 1, Blame.USER_CODE)
    assert incident.next_best is not None
    assert incident.next_best.rank == 0
    assert not incident.retryable
    assert sum("counted as a victim" in one for one in incident.evidence) == 2


def test_a_root_that_is_heard_after_its_victims_died_is_named(exits: Exits) -> None:
    incident = concluded(exits, died(0, 10.0, PEER), said(3, 10.3, ECC))
    assert incident.subject.rank == 3


def test_what_every_rank_printed_names_nobody(exits: Exits) -> None:
    warning = "ModuleNotFoundError: No module named 'apex'"
    signals = [said(rank, 5.0, warning) for rank in (0, 1, 2)]
    incident = concluded(exits, *signals, died(0, 10.0, PEER), died(1, 10.1, PEER))
    assert (incident.subject.rank, incident.blame) == (0, Blame.UNKNOWN)


def test_what_a_rank_got_over_is_not_why_it_ended(exits: Exits) -> None:
    old = said(1, 5.0, "OSError: [Errno 5] Input/output error", step=3)
    incident = concluded(exits, old, died(1, 10.0))
    assert incident.fingerprint == "exit:1"
    assert fresh([old], 10.0, 4) == [old]
    assert fresh([old], 10.0, 5) == fresh([old], 6.0 + SAID_FOR_S, 4) == []


def test_either_end_of_a_broken_link_waits_for_a_better_culprit(exits: Exits) -> None:
    assert exits.see(said(0, 9.0, RETRY)) == []
    incident = concluded(exits, died(0, 10.0), died(1, 10.2, code=None, signal=9))
    assert incident.subject.rank == 1
    exits.world_began(1)
    alone = concluded(exits, said(0, 9.0, RETRY), said(0, 9.0, FLUSH), died(0, 10.0), died(1, 10.2, PEER))
    assert (alone.subject.rank, alone.blame, alone.confidence) == (0, Blame.NETWORK, 0.6)


def test_words_of_another_world_are_history(exits: Exits) -> None:
    assert exits.see(replace(said(1, 9.0, ECC), world=0)) == []
    assert concluded(exits, died(1, 10.0)).fingerprint == "exit:1"


@pytest.mark.parametrize(
    ("words", "retryable"),
    [
        ("ValueError: bad shape", False),
        ("ModuleNotFoundError: No module named 'x'", False),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", False),
        ("OSError: [Errno 28] No space left on device", True),
        (f"RuntimeError: {ECC}", True),
        ("lastgood.faults.Drill: drill 3: an exception was ordered after step 9", True),
        (PEER, True),
    ],
)
def test_what_another_attempt_may_get_past(exits: Exits, words: str, retryable: bool) -> None:
    assert concluded(exits, died(0, 10.0, words)).retryable is retryable


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("[rank3] RuntimeError at 0x7f12 in /data/a/x.py", "[rank11] RuntimeError at 0x5581 in /scratch/b/c/y.py"),
        ("timed out after 600012 ms on 10.0.0.1<4000>", "timed out after 600077 ms on 10.0.7.9<51234>"),
        ("loss is 1.5e-3 at 2026-01-02T03:04:05", "loss is 9 at 2026-11-12T13:14:15"),
    ],
)
def test_a_fingerprint_knows_no_rank_time_path_or_address(one: str, other: str) -> None:
    assert fingerprint("f", one) == fingerprint("f", other)


def test_a_fingerprint_knows_the_failure() -> None:
    assert len({fingerprint(fault, words) for fault in "ab" for words in ("no 'lr'", "no 'wd'")}) == 4


def test_the_first_of_equals_and_the_deepest_of_all_counts() -> None:
    words = [said(0, 1.0, FLUSH), said(1, 3.0, WAITED), said(2, 6.0, RETRY), said(3, 7.0, ECC), said(4, 8.0, ECC)]
    found = first(words)
    assert found is not None
    assert found.rank == 3
    assert first([]) is None
    assert suspect(words, [read(died(3, 9.0, PEER))], 9.0, 17) is None


WORDS = st.builds(
    said,
    st.integers(0, 3),
    st.floats(0, 100),
    st.sampled_from([PEER, WAITED, ECC, RETRY, FLUSH, "KeyError: 'a'", "srun: error: n: task 0: Killed"]),
    st.integers(0, 20),
)
DEATHS = st.builds(
    died,
    st.integers(0, 3),
    st.floats(0, 100),
    st.sampled_from(["", PEER, "KeyError: 'a'", f"RuntimeError: {RETRY}", "Odd: x", "a.b.Weird: "]),
    code=st.sampled_from([None, 1, 3]),
    signal=st.sampled_from([None, 6, 9, 15, 64]),
)


@given(st.lists(WORDS | DEATHS, max_size=12), st.floats(0, 1000))
def test_whatever_is_said_one_world_has_one_culprit_at_most(signals: list[RankSaid | RankExited], now: float) -> None:
    exits = Exits()
    exits.world_began(1)
    incidents = [incident for signal in signals for incident in exits.see(signal)]
    incidents += exits.silent(now) + exits.silent(now + 1000)
    ended = any(isinstance(signal, RankExited) for signal in signals)
    assert len(incidents) == ended
    assert all(incident.blame is None or incident.blame in Blame for incident in incidents)
    assert {signal.fault for signal in signals if isinstance(signal, RankSaid)} <= set(FAULTS)

"""One death, one culprit."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from monitors.detect.exits import Exits
from monitors.incidents import Blame, Kind
from monitors.signals import Failure, RankExited

VICTIM = "[../third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:13229."


def died(rank: int, at: float, message: str = "", *, kind: str = "RuntimeError", **fields: Any) -> RankExited:
    failure = Failure(kind=kind, message=message, traceback="", raised_at=at - 0.02, fingerprint=f"f{rank}")
    fields = {"code": 1, "signal": None, "failure": failure if message else None} | fields
    return RankExited(at=at, node=rank // 2, world=1, rank=rank, step=17, **fields)


@pytest.fixture
def exits() -> Exits:
    detector = Exits()
    detector.world_began(1)
    return detector


def test_a_killed_rank_is_concluded_at_once_and_its_victims_are_folded(exits: Exits) -> None:
    (incident,) = exits.see(died(1, 10.0, code=None, signal=9))
    assert (incident.kind, incident.subject.rank, incident.subject.node) == (Kind.WORKER_KILLED, 1, 0)
    assert (incident.fingerprint, incident.step, incident.onset) == ("signal:9", 17, 10.0)
    assert "out-of-memory killer" in " ".join(incident.evidence)
    assert exits.see(died(0, 10.1, VICTIM)) == []
    assert exits.see(died(2, 10.1, "boom")) == []
    assert exits.silent(20.0) == []
    assert exits.deadline is None


def test_a_root_that_comes_after_its_victims_is_the_culprit(exits: Exits) -> None:
    assert exits.see(died(0, 10.0, VICTIM)) == []
    assert exits.see(died(3, 10.1, "Broken pipe", kind="BrokenPipeError")) == []
    assert exits.deadline == 10.5
    (incident,) = exits.see(died(2, 10.2, "list index out of range", kind="IndexError"))
    assert (incident.subject.rank, incident.blame, incident.fingerprint) == (2, Blame.USER_CODE, "f2")
    assert incident.onset == pytest.approx(10.18)
    assert sum("counted as a victim" in said for said in incident.evidence) == 2


def test_victims_alone_blame_nobody(exits: Exits) -> None:
    exits.see(died(2, 10.1, VICTIM))
    exits.see(died(0, 10.0, VICTIM))
    assert exits.silent(10.5) == []
    (incident,) = exits.silent(10.6)
    assert (incident.subject.rank, incident.blame) == (0, Blame.UNKNOWN)
    assert incident.confidence < 0.5
    assert exits.silent(10.6) == exits.silent(99.0) == []


@pytest.mark.parametrize(
    ("number", "words"),
    [(11, "SIGSEGV"), (7, "SIGBUS"), (64, "signal 64")],
)
def test_signals_are_named(exits: Exits, number: int, words: str) -> None:
    (incident,) = exits.see(died(0, 10.0, code=None, signal=number))
    assert words in incident.evidence[0]


def test_a_rank_that_was_asked_to_end_decides_only_when_nobody_else_died(exits: Exits) -> None:
    assert exits.see(died(0, 10.0, code=None, signal=15)) == []
    (incident,) = exits.silent(10.5)
    assert "SIGTERM" in incident.evidence[0]
    exits.world_began(2)
    exits.see(replace(died(0, 20.0, code=None, signal=15), world=2))
    (incident,) = exits.see(replace(died(1, 20.3, "'lr'", kind="KeyError"), world=2))
    assert incident.subject.rank == 1


def test_an_abort_waits_for_a_root_as_the_watchdog_of_nccl_ends_victims_so(exits: Exits) -> None:
    assert exits.see(died(0, 10.0, code=None, signal=6)) == []
    (incident,) = exits.see(died(1, 10.3, code=None, signal=9))
    assert incident.subject.rank == 1


@pytest.mark.parametrize("fields", [{"ordered": True, "code": None, "signal": 9}, {"code": 0}])
def test_what_was_ordered_or_went_well_is_no_incident(exits: Exits, fields: dict[str, Any]) -> None:
    assert exits.see(died(0, 10.0, **fields)) == []


def test_a_status_without_words_is_known_by_its_number(exits: Exits) -> None:
    (incident,) = exits.see(died(0, 10.0, code=3))
    assert (incident.kind, incident.fingerprint) == (Kind.WORKER_EXCEPTION, "exit:3")


@pytest.mark.parametrize("raised_at", [math.nan, math.inf, 99.0])
def test_a_nonsense_time_of_raising_is_not_believed(exits: Exits, raised_at: float) -> None:
    failure = Failure(kind="ValueError", message="x", traceback="", raised_at=raised_at, fingerprint="f")
    (incident,) = exits.see(died(0, 10.0, failure=failure))
    assert incident.onset == 10.0


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("RuntimeError", VICTIM),
        ("RuntimeError", "[pair.cc:537] Read error [127.0.0.1]:52364: Connection reset by peer."),
        ("torch.distributed.DistBackendError", "NCCL error: remote process exited or there was a network error"),
        ("torch.distributed.DistNetworkError", "Failed to recv, got 0 bytes. Connection was likely closed."),
        ("RuntimeError", "Timed out waiting 1800000ms for recv operation to complete"),
        ("torch.distributed.DistStoreError", "wait timeout after 300000ms, keys: /default_pg/0//cpu//0/0"),
        ("BrokenPipeError", "[Errno 32] Broken pipe"),
        ("RuntimeError", "Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1580, OpType=ALLREDUCE)"),
    ],
)
def test_last_words_of_victims_wait_for_another(exits: Exits, kind: str, message: str) -> None:
    assert exits.see(died(0, 10.0, message, kind=kind)) == []
    (incident,) = exits.silent(10.5)
    assert incident.blame is Blame.UNKNOWN


@pytest.mark.parametrize(
    ("kind", "message", "whose"),
    [
        ("KeyError", "'learning_rate'", Blame.USER_CODE),
        ("lastgood.faults.Drill", "drill 3: an exception was ordered after step 9", Blame.USER_CODE),
        ("OSError", "[Errno 28] No space left on device", Blame.STORAGE),
        ("OSError", "[Errno 5] Input/output error", Blame.STORAGE),
        ("MemoryError", "", Blame.HOST),
        ("RuntimeError", "DefaultCPUAllocator: can't allocate memory: you tried to allocate 28 bytes.", Blame.HOST),
        ("RuntimeError", "CUDA error: uncorrectable ECC error encountered", Blame.HARDWARE),
        ("torch.OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB", Blame.USER_CODE),
        ("RuntimeError", "CUDA error: an illegal memory access was encountered", Blame.UNKNOWN),
        ("ValueError", "Caught ValueError in DataLoader worker process 0.", Blame.DATA),
        ("ValueError", "loss is not finite at step 412: nan", Blame.NUMERICS),
        ("RuntimeError", "PytorchStreamReader failed reading zip archive", Blame.STORAGE),
        ("ValueError", "tenant name is unknown", Blame.USER_CODE),
    ],
)
def test_whose_fault_the_words_tell_of(exits: Exits, kind: str, message: str, whose: Blame) -> None:
    failure = Failure(kind=kind, message=message, traceback="", raised_at=9.9, fingerprint="f")
    (incident,) = exits.see(died(0, 10.0, failure=failure))
    assert incident.blame is whose

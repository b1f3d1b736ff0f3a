"""What is read from dumps of all versions, and what is made of bytes that are none?"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import pickle
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitors.sense import flight_recorder
from monitors.sense.flight_recorder import Where
from monitors.sense.flight_recorder_dump import (
    ARRIVALS,
    ARRIVALS_SMALL,
    BYTES_MAX,
    CALLS_AFTER,
    CALLS_BEFORE,
    SMALL_RANKS,
    Dump,
    parse,
)
from monitors.sense.flight_recorder_pickle import OPCODES_MAX, Refused, load
from monitors.signals import GroupStatus


def entry(seq: int, op: str = "nccl:all_reduce", **more: Any) -> dict[str, Any]:
    """One entry as NCCL's recorder of version 2.10 writes it."""
    return {
        "record_id": seq,
        "pg_id": 3,
        "process_group": ("7", "dp"),
        "collective_seq_id": seq,
        "p2p_seq_id": 0,
        "op_id": seq,
        "profiling_name": op,
        "time_created_ns": 1_700_000_000_000_000_000 + seq * 1_000_000_000,
        "input_sizes": [[4, 8]],
        "output_sizes": [[4, 8]],
        "input_dtypes": ["BFloat16"],
        "output_dtypes": ["BFloat16"],
        "state": "completed",
        "time_discovered_started_ns": None,
        "time_discovered_completed_ns": 1,
        "retired": True,
        "timeout_ms": 600_000,
        "is_p2p": False,
        "frames": [
            {"name": "all_reduce", "filename": "c10d.py", "line": 9},
            {"name": "step", "filename": "t.py", "line": 3},
        ],
        **more,
    }


def dump(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A dump of version 2.10 with these entries."""
    config = {"7": {"name": "7", "desc": "dp", "ranks": "[0, 2, 4, 6]"}}
    return {"version": "2.10", "pg_config": config, "comm_lib_version": "2.28.9", "entries": list(entries), **more}


def read(value: Any, protocol: int = 2) -> Dump:
    return parse(pickle.dumps(value, protocol))


def only(found: Dump) -> GroupStatus:
    (status,) = found.statuses
    return status


RUNNING = {"state": "scheduled", "retired": False, "time_discovered_completed_ns": None}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_dump_of_nccl_tells_where_the_rank_stands(protocol: int) -> None:
    found = read(dump(entry(1), entry(2), entry(3, **RUNNING)), protocol)
    assert found.library_version == "2.28.9"
    status = only(found)
    assert (status.group, status.desc, status.ranks) == ("nccl:7", "dp", (0, 2, 4, 6))
    assert (status.enqueued, status.started, status.completed) == (3, -1, 2)
    assert (status.op, status.sizes, status.dtypes) == ("all_reduce", "[(4, 8)] -> [(4, 8)]", "BFloat16")
    assert status.frames == ("t.py:3 step", "c10d.py:9 all_reduce")
    assert status.arrivals[-1] == (3, 1_700_000_003.0)
    assert status.calls[-1] == (3, "all_reduce(32 BFloat16)")


def test_json_and_pickle_say_the_same() -> None:
    value = dump(entry(1), entry(2, **RUNNING))
    text = dump(*({**e, "frames": []} for e in value["entries"]))
    status = {"7": {"last_enqueued_collective": "2", "last_started_collective": "-1", "last_completed_collective": "1"}}
    assert parse(json.dumps({**text, "pg_status": status}).encode()).statuses == read(text).statuses


def test_what_nccl_retired_without_completing_timed_out() -> None:
    late = entry(2, state="started", retired=True)
    assert (only(read(dump(entry(1), late))).completed, only(read(dump(entry(1), late))).started) == (1, 2)


def test_gloo_calls_everything_scheduled_and_retires_what_is_over() -> None:
    over = entry(1, "gloo:all_reduce", state="scheduled")
    status = only(read(dump(over, entry(2, "gloo:barrier", **RUNNING), pg_config={"": {"ranks": "[]"}})))
    assert (status.group, status.enqueued, status.started, status.completed) == ("gloo:7", 2, -1, 1)


def test_sends_and_receives_do_not_move_the_number_of_collectives() -> None:
    """They do move pg_status, whose numbers two ranks can therefore not compare."""
    passed = entry(4, "nccl:send 1->2", is_p2p=True, p2p_seq_id=1, collective_seq_id=1, record_id=2, retired=True)
    waits = entry(5, "nccl:recv 1<-0", is_p2p=True, p2p_seq_id=2, collective_seq_id=1, record_id=3, **RUNNING)
    status = only(read(dump(entry(1), passed, waits, pg_status={3: {"last_enqueued_collective": 5}})))
    assert (status.enqueued, status.completed) == (1, 1)
    assert status.peers == (0,), "the group's first rank; rank 1 of the group is global rank 2"


RING = 2000


def test_of_a_full_ring_the_newest_are_told() -> None:
    found = read(dump(*(entry(seq) for seq in range(5001, 5001 + RING))))
    status = only(found)
    assert (status.enqueued, status.completed) == (7000, 7000)
    assert [seq for seq, _ in status.arrivals] == list(range(7001 - ARRIVALS_SMALL, 7001))
    assert not found.is_complete
    assert len(found.entries) < RING / 5


@pytest.mark.parametrize("library", ["nccl", "gloo"])
@pytest.mark.parametrize("waits_in", [5001, 5040, 6000, 6999])
def test_of_a_full_ring_what_is_not_over_is_told_however_old(library: str, waits_in: int) -> None:
    over = {"state": "scheduled"} if library == "gloo" else {}
    rows = [entry(seq, f"{library}:all_reduce", **over) for seq in range(5001, 5001 + RING)]
    rows[waits_in - 5001] |= RUNNING
    status = only(read(dump(*rows)))
    assert (status.enqueued, status.completed) == (7000, waits_in - 1)
    before, after = max(5001, waits_in - 1 - CALLS_BEFORE), min(7000, waits_in - 1 + CALLS_AFTER)
    assert [seq for seq, _ in status.calls] == list(range(before, after + 1))


def test_of_a_full_ring_a_group_that_was_called_long_ago_is_told() -> None:
    once = entry(1, process_group=("9", "pp"), record_id=0)
    found = read(dump(once, *(entry(seq, record_id=seq) for seq in range(1, RING))))
    assert {status.group: status.enqueued for status in found.statuses} == {"nccl:9": 1, "nccl:7": RING - 1}
    assert found.is_complete


def test_sends_do_not_push_the_collectives_of_their_group_out() -> None:
    p2p = {"is_p2p": True, "profiling_name": "nccl:send 0->1"}
    sends = [entry(10, record_id=10 + number, p2p_seq_id=number, **p2p) for number in range(1, 600)]
    status = only(read(dump(*(entry(seq) for seq in range(1, 11)), *sends)))
    assert (status.enqueued, status.completed, len(status.arrivals)) == (10, 10, 10)


def test_what_a_finished_coalesced_operation_holds_is_no_reason_to_read_the_whole_ring() -> None:
    ids = iter(range(4000))
    rows = [
        entry(seq, op, record_id=next(ids), **more)
        for seq in range(1, 1001)
        for op, more in (("nccl:all_gather", RUNNING), ("nccl:allgather_coalesced", {}))
    ]
    found = read(dump(*rows))
    assert only(found).completed == 1000
    assert len(found.entries) < len(rows) / 5


def test_all_groups_of_a_rank_reach_back_as_far_as_those_of_a_large_world() -> None:
    rows = [
        entry(seq, process_group=(name, ""), record_id=2 * seq + (name == "9")) for seq in range(300) for name in "79"
    ]
    for size, kept in ((SMALL_RANKS, ARRIVALS_SMALL), (SMALL_RANKS + 1, ARRIVALS)):
        config = {
            name: {"name": name, "desc": "", "ranks": str(list(range(ranks)))}
            for name, ranks in (("7", size), ("9", 2))
        }
        found = read(dump(*rows, pg_config=config))
        assert {len(status.arrivals) for status in found.statuses} == {kept}


def test_a_coalesced_operation_speaks_for_what_it_holds() -> None:
    inside = [entry(5, "nccl:_reduce_scatter_base", record_id=n, op_id=n, **RUNNING) for n in (1, 2)]
    whole = entry(5, "nccl:coalesced", record_id=3)
    assert only(read(dump(*inside, whole))).completed == 5
    assert only(read(dump(*inside))).completed == 4


@pytest.mark.parametrize(
    ("op", "inputs", "outputs", "call"),
    [
        ("all_gather", [[2]], [[2], [2]], "all_gather(4 BFloat16)"),
        ("_reduce_scatter_base", [[8]], [[2]], "_reduce_scatter_base(8 BFloat16)"),
        ("broadcast", [[3, 3]], [[3, 3]], "broadcast(9 BFloat16)"),
        ("all_to_all", [[7]], [[9]], "all_to_all"),
        ("gather", [[7]], [], "gather"),
        ("barrier", [], [], "barrier"),
    ],
)
def test_a_call_is_what_all_ranks_must_agree_on(op: str, inputs: Any, outputs: Any, call: str) -> None:
    found = read(dump(entry(1, f"nccl:{op}", input_sizes=inputs, output_sizes=outputs)))
    assert only(found).calls == ((1, call),)


def test_the_oldest_versions_number_everything_alike() -> None:
    old = {
        "record_id": 0,
        "pg_id": 2,
        "seq_id": 11,
        "profiling_name": "nccl:all_reduce",
        "input_sizes": ((4,),),
        "output_sizes": ((4,),),
        "state": "scheduled",
    }
    status = only(read({"version": "2.0", "entries": [old]}))
    assert (status.group, status.enqueued, status.completed) == ("nccl:2", 11, 10)


def test_a_group_that_was_never_called_is_known_when_nothing_was_lost() -> None:
    config = {"7": {"desc": "dp", "ranks": "[0, 1]"}, "9": {"desc": "tp", "ranks": "[0, 4]"}}
    statuses = {s.group: s for s in read(dump(entry(0), pg_config=config)).statuses}
    assert (statuses["nccl:9"].enqueued, statuses["nccl:9"].ranks) == (0, (0, 4))
    lost = read(dump(entry(5000), pg_config=config))
    assert [s.group for s in lost.statuses] == ["nccl:7"], "the ring may have held calls of the other group"


def test_an_answer_holds_the_dumps_of_all_libraries_and_what_python_knows() -> None:
    gloo = dump(entry(0, "gloo:all_reduce", process_group=["0", "default_pg"]), pg_config={"": {"ranks": "[]"}})
    nccl = base64.b64encode(pickle.dumps(dump(entry(4)), 2)).decode()
    groups = {"0": {"desc": "default_pg", "ranks": [0, 1]}, "7": {"desc": "dp", "ranks": [0, 1]}}
    waits = [{"op": "recv", "peers": [1]}]
    answer = {"asked": "q", "groups": groups, "waits": waits, "recorders": [gloo, nccl]}
    found = parse(json.dumps(answer).encode())
    assert (found.asked, found.library_version) == ("q", "2.28.9")
    statuses = {s.group: s for s in found.statuses}
    assert statuses["gloo:0"].ranks == (0, 1)
    assert statuses["nccl:7"].enqueued == 4
    assert statuses["point to point"].peers == (1,)


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.file}",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_wants_to_run_something_is_refused(tmp_path: Path, protocol: int) -> None:
    body = pickle.dumps({"entries": [Evil(tmp_path / "ran")]}, protocol)
    for read_it in (load, parse, lambda body: parse(b'{"recorders": ["' + base64.b64encode(body) + b'"]}')):
        with pytest.raises(Refused):
            read_it(body)
    assert not (tmp_path / "ran").exists()


BOMBS = {
    "cut off after 87 bytes": pickle.dumps(dump(entry(1)), 2)[:87],
    "no bytes": b"",
    "compressed": zlib.compress(bytes(1 << 20)),
    "a memory of two billion places": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "a text of four gigabytes": b"\x80\x02X\xff\xff\xff\xff.",
    "a number of 2000 bits": b"\x80\x02\x8a\xfa" + b"\x7f" * 250 + b".",
    "a key a million deep": b"\x80\x02}" + b")" + b"\x85" * 1_000_000 + b"Ns.",
    "nested JSON": b"[" * 100_000,
    "a number of 5000 digits": b'{"entries": [' + b"9" * 5000 + b"]}",
    "no end": b"\x80\x02(((((",
    "an item for nothing": b"\x80\x02Ns.",
    "two values": b"\x80\x02NN.",
    "too many bytes": b" " * (BYTES_MAX + 1),
    "a list of names": b"\x80\x02]X\x01\x00\x00\x00aa.",
}


@pytest.mark.parametrize("what", BOMBS)
def test_what_is_no_dump_is_refused_with_a_sentence(what: str) -> None:
    with pytest.raises(Refused, match=r"^the "):
        parse(BOMBS[what])


def test_a_pickle_of_too_many_steps_is_refused() -> None:
    with pytest.raises(Refused, match="steps"):
        load(b"\x80\x02" + b"(" * (OPCODES_MAX + 1))


def test_values_shared_a_billion_billion_times_stay_small() -> None:
    """Each list holds the one before twice: to walk all of it would never end."""
    shared: list[Any] = []
    for _ in range(60):
        shared = [shared, shared]
    config = {"7": {"desc": shared, "ranks": shared}}
    found = read(dump(entry(1, input_sizes=shared, frames=shared, process_group=shared), pg_config=config))
    assert [status.enqueued for status in found.statuses] == [1]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_are_refused_or_read(body: bytes) -> None:
    for start in (b"", b"\x80\x02", b"{"):
        with suppress(Refused):
            parse(start + body)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_dump_is_refused_or_read(data: st.DataObject) -> None:
    good = pickle.dumps(dump(entry(1), entry(2, **RUNNING)), data.draw(st.sampled_from([2, 4])))
    body = bytearray(good)
    for _ in range(data.draw(st.integers(1, 8))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    for one in (bytes(body), bytes(body[:cut])):
        with suppress(Refused):
            assert isinstance(parse(one).statuses, tuple)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**100), 2**100) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.dictionaries(st.sampled_from([*entry(0), "seq_id"]), JSON, max_size=8)


@settings(max_examples=100, deadline=None)
@given(st.lists(FIELDS, max_size=4), JSON, JSON)
def test_values_of_any_kind_in_a_dump_are_read(fields: list[dict[str, Any]], config: Any, waits: Any) -> None:
    rows = [{**entry(1), **more} for more in fields]
    for value in (dump(*rows, pg_config=config), {"recorders": [dump(*rows)], "groups": config, "waits": waits}):
        with suppress(Refused):
            assert isinstance(parse(json.dumps(value).encode()).statuses, tuple)


class Watched(pickle.Unpickler):
    """The reference: Python's own, which may look up nothing."""

    def find_class(self, module: str, name: str) -> Any:
        raise AssertionError((module, name))


@settings(max_examples=200, deadline=None)
@given(JSON, st.integers(2, 5))
def test_plain_values_come_out_as_they_went_in(value: Any, protocol: int) -> None:
    body = pickle.dumps(value, protocol)
    assert load(body) == Watched(io.BytesIO(body)).load()


def where(tmp_path: Path) -> Where:
    return Where(node=0, world=1, rank=3, folder=tmp_path)


def test_what_nccl_left_is_found_and_a_dump_that_was_begun_is_waited_for(tmp_path: Path) -> None:
    assert flight_recorder.left(where(tmp_path)) is None
    assert not flight_recorder.is_coming([where(tmp_path)])
    body = pickle.dumps(dump(entry(1)), 2)
    (tmp_path / "fr_3").write_bytes(body[:-20])
    assert flight_recorder.is_coming([where(tmp_path)])
    assert flight_recorder.left(where(tmp_path)) is None
    (tmp_path / "fr_3").write_bytes(body)
    assert not flight_recorder.is_coming([where(tmp_path)])
    found = flight_recorder.left(where(tmp_path))
    assert found is not None
    assert only(found).enqueued == 1
    asked = asyncio.run(flight_recorder.look(2e9, where(tmp_path)))
    assert asked == found, "nobody answers, but this was left"
    assert flight_recorder.looked(2e9, where(tmp_path), found).at == pytest.approx((tmp_path / "fr_3").stat().st_mtime)


def test_nccl_is_asked_through_its_own_pipe_when_python_does_not_answer(tmp_path: Path) -> None:
    pipe = where(tmp_path).nccl_pipe
    os.mkfifo(pipe)
    watchdog = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    async def nccl() -> None:
        while True:
            await asyncio.sleep(0.01)
            try:
                if os.read(watchdog, 1):
                    break
            except BlockingIOError:
                continue
        (tmp_path / "fr_3").write_bytes(pickle.dumps(dump(entry(8)), 2))

    async def both() -> Dump | None:
        dumping = asyncio.create_task(nccl())
        found = await flight_recorder.look(1.0, where(tmp_path))
        await dumping
        return found

    found = asyncio.run(both())
    os.close(watchdog)
    assert found is not None
    assert only(found).enqueued == 8

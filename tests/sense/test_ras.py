"""What does NCCL's RAS service say, and when is it left in peace? Against a small server that speaks its protocol."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitors.sense import ras
from monitors.sense.flight_recorder_dump import Dump, Entry
from monitors.sense.ras import Ras, RasRefused, forbidden, parse, told, witness


def member(rank: int, pid: int, launched: int, **status: Any) -> dict[str, Any]:
    """One rank of a communicator as NCCL 2.29 writes it."""
    return {
        "rank": rank,
        "host": "127.0.0.1",
        "pid": pid,
        "cuda_dev": rank,
        "nvml_dev": rank,
        "status": {"init_state": 0, "async_error": 0, "finalize_called": False, "abort_flag": False, **status},
        "collective_counts": {"Broadcast": 1, "AllReduce": launched - 1},
    }


def answer(*members: dict[str, Any], missing: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    """The whole of what STATUS brings."""
    row = {"hash": "0xab", "size": 3, "ranks": list(members), "missing_ranks": list(missing)}
    return {"nccl_version": "2.29.2", "communicators": [row], "ras": {"timeouts_count": 0}}


LOST = {
    "rank": 2,
    "host": "127.0.0.1",
    "pid": 12,
    "status": {"unresponsive": True, "considered_dead": False},
}


@dataclass
class Nccl:
    """A RAS service with faults of its own."""

    body: bytes
    speaks: str = "SERVER PROTOCOL 2\n"
    heard: list[str] = field(default_factory=list)
    silent: bool = False
    clients: int = 0
    clients_max: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        self.clients += 1
        self.clients_max = max(self.clients, self.clients_max)
        with suppress(ConnectionError):
            while line := (await reader.readline()).decode().strip():
                self.heard.append(line)
                if self.silent:
                    await reader.read()
                if line == "STATUS":
                    writer.write(self.body)
                    await writer.drain()
                    break
                writer.write((self.speaks if line.startswith("CLIENT") else "OK\n").encode())
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        self.clients -= 1

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Its address."""
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        async with server:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            while self.clients:
                await asyncio.sleep(0.001)


def ask(nccl: Nccl) -> tuple[ras.Communicator, ...]:
    async def asked() -> tuple[ras.Communicator, ...]:
        async with nccl.listening() as address:
            return await Ras(address).ask()

    return asyncio.run(asked())


def test_a_rank_that_is_behind_or_not_heard_is_named_in_sentences() -> None:
    nccl = Nccl(json.dumps(answer(member(0, 10, 118), member(1, 11, 117), missing=(LOST,))).encode())
    communicators = ask(nccl)
    assert nccl.heard == ["CLIENT PROTOCOL 2", "TIMEOUT 5", "SET FORMAT json", "STATUS"]
    assert told(communicators, {10: 4, 11: 5, 12: 6}) == {
        5: ("NCCL says that rank 5 has launched 117 collectives of a communicator of 3 ranks, others 118",),
        6: ("NCCL says that rank 6 does not respond, in a communicator of 3 ranks",),
    }


def test_a_process_of_another_host_with_the_same_number_is_not_ours() -> None:
    strange = {**member(1, 11, 5), "host": "198.51.100.7"}
    assert told(parse(json.dumps(answer(member(0, 10, 9), strange)).encode()), {11: 5}) == {}


def test_an_error_of_a_communicator_is_told() -> None:
    found = parse(json.dumps(answer(member(0, 10, 9, async_error=6))).encode())
    assert told(found, {10: 0}) == {0: ("NCCL says that a communicator of 3 ranks has failed on rank 0 (error 6)",)}


@pytest.mark.parametrize(
    ("nccl", "why"),
    [
        (Nccl(b"", speaks="ERROR: Unknown command\n"), "does not know CLIENT PROTOCOL"),
        (Nccl(b"", speaks="x" * 100_000), "endless answer"),
        (Nccl(b"Job summary\n===========\n"), "JSON"),
        (Nccl(b"[]"), "no communicators"),
        (Nccl(b"[" * 100_000), "JSON"),
        (Nccl(b" " * (ras.BYTES_MAX + 2)), "says more than"),
        (Nccl(b"", speaks=""), "does not answer"),
    ],
)
def test_a_service_that_is_none_is_refused_with_a_sentence(nccl: Nccl, why: str) -> None:
    if not nccl.speaks:
        with pytest.raises(RasRefused, match=why):
            asyncio.run(Ras("127.0.0.1:9").ask())
        return
    with pytest.raises(RasRefused, match=why):
        ask(nccl)


def test_one_question_at_a_time() -> None:
    nccl = Nccl(b"", silent=True)

    async def twice() -> None:
        async with nccl.listening() as address:
            first = asyncio.create_task(Ras(address).ask())
            while not nccl.heard:
                await asyncio.sleep(0.001)
            with pytest.raises(RasRefused, match="already"):
                await Ras(address).ask()
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)

    asyncio.run(twice())
    assert nccl.clients_max == 1


def answered(version: str, *, completed: bool = True) -> Dump:
    """A rank's flight recorder with one NCCL collective in it."""
    one = Entry(
        record=0,
        library="nccl",
        group="0",
        desc="default_pg",
        seq=1,
        op="all_reduce",
        is_p2p=False,
        created_s=0.0,
        state="completed" if completed else "scheduled",
        retired=completed,
        inputs=(1,),
        outputs=(1,),
        sizes="",
        dtypes="Float",
        frames=(),
    )
    return Dump(library_version=version, entries=(one,))


@pytest.mark.parametrize(
    ("version", "env", "completed", "why"),
    [
        ("2.29.2", {}, True, ""),
        ("2.28.9+cuda13.0", {"NCCL_RAS_ENABLE": "1"}, True, ""),
        ("2.29.2", {"NCCL_RAS_ENABLE": "0"}, True, "NCCL_RAS_ENABLE"),
        ("2.29.2", {}, False, "in the making"),
        ("2.29.7", {}, True, "crashes"),
        ("2.27.3", {}, True, "crashes"),
        ("2.21.5", {}, True, "prose"),
        ("2.28.3", {}, True, "prose"),
        ("", {}, True, "not known"),
    ],
)
def test_who_may_be_asked(version: str, env: dict[str, str], completed: bool, why: str) -> None:
    found = forbidden([answered(version, completed=completed)], env)
    assert why in found
    assert bool(why) == bool(found)


@pytest.mark.parametrize(("version", "said"), [("2.29.2", 1), ("2.29.7", 0)])
def test_a_witness_is_heard_only_where_that_is_safe(version: str, said: int) -> None:
    nccl = Nccl(json.dumps(answer(missing=(LOST,))).encode())

    async def heard() -> dict[int, tuple[str, ...]]:
        async with nccl.listening() as address:
            return await witness([answered(version)], {12: 3}, {"NCCL_RAS_ADDR": address})

    assert len(asyncio.run(heard())) == said
    assert len(nccl.heard) == 4 * said


@pytest.mark.parametrize(
    "address", ["localhost:1", "[::1]:1", "nonsense", ":", "localhost:99999", "localhost:123456789"]
)
def test_an_address_where_nobody_is_costs_nothing(address: str) -> None:
    assert asyncio.run(witness([answered("2.29.2")], {1: 1}, {"NCCL_RAS_ADDR": address})) == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
ROW = st.dictionaries(st.sampled_from(["rank", "host", "pid", "status", "collective_counts"]), JSON)


@settings(max_examples=200, deadline=None)
@given(st.lists(ROW | JSON, max_size=3), st.lists(ROW | JSON, max_size=3), st.binary(max_size=60))
def test_whatever_it_says_nothing_breaks(ranks: list[Any], missing: list[Any], noise: bytes) -> None:
    row = {"hash": None, "ranks": ranks, "missing_ranks": missing}
    told(parse(json.dumps({"communicators": [row, ranks]}).encode()), {0: 0, -1: 1})
    with suppress(RasRefused):
        parse(noise)

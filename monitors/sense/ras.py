"""What does NCCL itself say of a process that does not answer? Its RAS service, asked as seldom as can be.

RAS is a thread of NCCL in every process of a job (2.24 and later) that answers on a local port. To ask has crashed
jobs, so it is asked only for a rank that is silent and does not answer otherwise, one question at a time, never while
communicators are being made, and never a version that is known to crash or that answers in prose.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import psutil

from monitors.sense.flight_recorder_dump import Dump

DEFAULT_ADDRESS = "localhost:28028"
JSON_SINCE = (2, 28, 7)
"""earlier ones answer in prose"""
CRASHED = {
    (2, 26, 2): "nccl#1669",
    (2, 26, 5): "nccl#1718",
    (2, 27, 3): "nccl#1762",
    (2, 27, 7): "nccl#1996",
    (2, 29, 7): "nccl#2346",
}
"""asking these has ended jobs"""
GATHER_S = 5
"""for NCCL to collect from its peers: its own time for one leg"""
DEADLINE_S = 12.0
"""NCCL gives up after 10 s by itself"""
BYTES_MAX = 16 << 20
_LINE_BYTES = 256

log = logging.getLogger(__name__)


class RasRefused(Exception):
    """There is no answer; the message is a sentence saying why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One rank of one communicator, as NCCL sees it."""

    rank: int
    """in the communicator"""
    host: str
    pid: int
    launched: int | None = None
    """collectives so far; None for one that RAS does not hear"""
    error: int = 0
    dead: bool = False
    aborted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Communicator:
    """The ranks that talk through one communicator."""

    hash: str
    size: int
    members: tuple[Member, ...]

    @property
    def most(self) -> int:
        """Collectives launched by the rank that is furthest."""
        return max((member.launched for member in self.members if member.launched is not None), default=0)


async def witness(dumps: Iterable[Dump], pids: Mapping[int, int], env: Mapping[str, str]) -> dict[int, tuple[str, ...]]:
    """What NCCL says of our ranks that do not answer; nothing where it may not be asked, or does not answer either.

    `dumps`: of the ranks that did answer. `pids`: the global rank of each process of interest. `env`: that of ranks.
    """
    known = tuple(dumps)
    why = forbidden(known, env)
    if not why:
        try:
            return told(await Ras(env.get("NCCL_RAS_ADDR", DEFAULT_ADDRESS)).ask(), pids)
        except RasRefused as refused:
            why = str(refused)
    log.info("NCCL's RAS is of no help: %s", why)
    return {}


def forbidden(dumps: Iterable[Dump], env: Mapping[str, str]) -> str:
    """Why this NCCL must not be asked; empty when it may be. `dumps`: of the ranks that answered."""
    dumps = tuple(dumps)
    version = next((dump.library_version for dump in dumps if dump.library_version), "")
    groups = [status for dump in dumps for status in dump.statuses]
    if env.get("NCCL_RAS_ENABLE", "1").strip() == "0":
        return "NCCL_RAS_ENABLE is 0"
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if found is None:
        return "the version of NCCL is not known"
    parsed = (int(found[1]), int(found[2]), int(found[3]))
    if parsed in CRASHED:
        return f"NCCL {version} crashes when it is asked ({CRASHED[parsed]})"
    if parsed < JSON_SINCE:
        return f"NCCL {version} answers in prose"
    if any(group.group.startswith("nccl:") and group.completed <= 0 < group.enqueued for group in groups):
        return "a communicator may be in the making, which is when NCCL has crashed"
    return ""


class Ras:
    """The service of this host's processes."""

    _asked: ClassVar[set[str]] = set()
    """addresses where a question is under way"""

    def __init__(self, address: str = DEFAULT_ADDRESS) -> None:
        host, _, port = address.rpartition(":")
        self._address = address
        self._host = host.strip("[]") or "localhost"
        self._port = int(port) if port.isdecimal() and len(port) < 6 else 0

    async def ask(self) -> tuple[Communicator, ...]:
        """Every communicator of the job. Raises RasRefused."""
        if self._address in self._asked:
            raise RasRefused("NCCL is being asked already")
        self._asked.add(self._address)
        try:
            async with asyncio.timeout(DEADLINE_S):
                return parse(await self._answer())
        except (OSError, EOFError, OverflowError) as error:  # a TimeoutError is an OSError
            why = str(error) or type(error).__name__
            raise RasRefused(f"NCCL's RAS at {self._address} does not answer: {why}") from error
        finally:
            self._asked.discard(self._address)

    async def _answer(self) -> bytes:
        reader, writer = await asyncio.open_connection(self._host, self._port, limit=_LINE_BYTES)
        try:
            await _command(reader, writer, "CLIENT PROTOCOL 2", expects="SERVER PROTOCOL ")
            await _command(reader, writer, f"TIMEOUT {GATHER_S}", expects="OK")
            await _command(reader, writer, "SET FORMAT json", expects="OK")
            writer.write(b"STATUS\n")
            body = bytearray()
            while piece := await reader.read(1 << 16):
                body += piece
                if len(body) > BYTES_MAX:
                    raise RasRefused(f"NCCL's RAS says more than {BYTES_MAX:,} bytes")
            return bytes(body)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def _command(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, command: str, *, expects: str) -> None:
    writer.write(f"{command}\n".encode())
    try:
        line = (await reader.readuntil(b"\n")).decode(errors="replace").strip()
    except asyncio.LimitOverrunError as error:
        raise RasRefused(f"NCCL's RAS does not speak its protocol: endless answer to {command}") from error
    if not line.startswith(expects):
        raise RasRefused(f"NCCL's RAS does not know {command}: {line[:80]!r}")


def parse(body: bytes) -> tuple[Communicator, ...]:
    """The communicators in an answer. Raises RasRefused for what is none."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RasRefused("NCCL's RAS does not answer in JSON") from error
    rows = value.get("communicators") if isinstance(value, dict) else None
    if not isinstance(rows, list):
        raise RasRefused("NCCL's RAS tells of no communicators")
    return tuple(_communicator(row) for row in rows if isinstance(row, dict))


def told(communicators: Iterable[Communicator], pids: Mapping[int, int]) -> dict[int, tuple[str, ...]]:
    """What is wrong with ranks of ours, in sentences, by global rank. `pids`: global rank by process number here."""
    here = _addresses()
    said: dict[int, list[str]] = {}
    for communicator in communicators:
        for member in communicator.members:
            rank = pids.get(member.pid)
            if rank is not None and member.host in here:  # another host has the same numbers
                said.setdefault(rank, []).extend(_sentences(rank, member, communicator))
    return {rank: tuple(dict.fromkeys(sentences)) for rank, sentences in said.items() if sentences}


def _addresses() -> frozenset[str]:
    """Of this host."""
    return frozenset(one.address.partition("%")[0] for of in psutil.net_if_addrs().values() for one in of)


def _sentences(rank: int, member: Member, communicator: Communicator) -> list[str]:
    where = f"a communicator of {communicator.size} ranks"
    if member.launched is None:
        return [f"NCCL says that rank {rank} {'is dead' if member.dead else 'does not respond'}, in {where}"]
    said = []
    if member.launched < communicator.most:
        behind = f"{member.launched} collectives of {where}, others {communicator.most}"
        said.append(f"NCCL says that rank {rank} has launched {behind}")
    if member.error or member.aborted:
        said.append(f"NCCL says that {where} has failed on rank {rank} (error {member.error})")
    return said


def _communicator(row: dict[str, Any]) -> Communicator:
    heard = [_member(one) for one in _rows(row.get("ranks"))]
    unheard = [_missing(one) for one in _rows(row.get("missing_ranks"))]
    return Communicator(hash=_text(row.get("hash")), size=_int(row.get("size")), members=(*heard, *unheard))


def _member(row: dict[str, Any]) -> Member:
    counts, status = row.get("collective_counts"), row.get("status")
    status = status if isinstance(status, dict) else {}
    return Member(
        rank=_int(row.get("rank")),
        host=_text(row.get("host")),
        pid=_int(row.get("pid"), -1),
        launched=sum(map(_int, counts.values())) if isinstance(counts, dict) else None,
        error=_int(status.get("async_error")),
        aborted=status.get("abort_flag") is True,
    )


def _missing(row: dict[str, Any]) -> Member:
    status = row.get("status")
    dead = isinstance(status, dict) and status.get("considered_dead") is True
    return Member(rank=_int(row.get("rank")), host=_text(row.get("host")), pid=_int(row.get("pid"), -1), dead=dead)


def _rows(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value[:80] if isinstance(value, str) else ""


def _int(value: Any, otherwise: int = 0) -> int:
    return value if type(value) is int and abs(value) < 1 << 64 else otherwise

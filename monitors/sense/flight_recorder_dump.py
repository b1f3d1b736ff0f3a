"""Where does a rank stand in each process group? Read from a dump of torch's flight recorder, of any version.

A dump is a pickle (NCCL writes it after a time-out) or JSON. Four things in it mislead:

- `pg_status` counts sends and receives along with collectives (gloo), or holds whichever counter moved last (NCCL), and
  its keys are numbers that differ from rank to rank. So the entries decide, which have the group's name and a number
  for collectives alone.
- gloo leaves every entry `scheduled`; what it retires is over. NCCL retires what timed out as well; what it calls
  `completed` is over.
- Entries inside a coalesced operation are never completed; the one that ends it speaks for them.
- gloo records no sends and receives, and no members of groups. The recorder in the worker adds what it can
  (`lastgood/recorder.py`); its answer holds one dump for each library.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from monitors.sense.flight_recorder_pickle import Refused, load
from monitors.signals import GroupStatus

BYTES_MAX = 32 << 20
"""20,000 entries, ten times the usual ring, take 11 MB as JSON"""
ENTRIES_MAX = 40_000
CALLS_BEFORE, CALLS_AFTER = 64, 16
"""collectives kept before the oldest unfinished one (a training step has that many in a group), and from it on"""
ARRIVALS = 64
ARRIVALS_SMALL, SMALL_RANKS = 192, 64
"""of a small world more steps can be told, and fewer looks do"""
FRAMES = 12
_TEXT = 200
_DIMENSIONS = 64
POINT_TO_POINT = "point to point"
"""stands for the group in what a rank waits for by its Python stack"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One operation as a rank called it."""

    record: int
    library: str
    """nccl, gloo..."""
    group: str
    desc: str
    seq: int
    """of collectives in the group; for sends and receives: of those"""
    op: str
    is_p2p: bool
    created_s: float
    state: str
    retired: bool
    inputs: tuple[int, ...]
    """number of elements of each tensor"""
    outputs: tuple[int, ...]
    sizes: str
    dtypes: str
    frames: tuple[str, ...]

    @property
    def is_over(self) -> bool:
        """It does not run any more."""
        return _is_over(self.library, self.state, retired=self.retired)

    @property
    def call(self) -> str:
        """What must be equal on all ranks."""
        elements = self._elements()
        return self.op if elements is None else f"{self.op}({elements} {self.dtypes or '?'})"

    def _elements(self) -> int | None:
        name = self.op.replace("_", "")
        if "allgather" in name:
            return sum(self.outputs)
        if "reduce" in name or "broadcast" in name:
            return sum(self.inputs)
        return None  # all_to_all, gather, scatter, barrier: sizes may differ


@dataclass(frozen=True, slots=True, kw_only=True)
class Dump:
    """What one rank's recorders hold."""

    asked: str = ""
    """the question that it answers, when it answers one"""
    library_version: str = ""
    """of NCCL"""
    groups: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    """description and global ranks by the group's name, where known"""
    entries: tuple[Entry, ...] = ()
    is_complete: bool = True
    """nothing was pushed out of the ring"""
    waits: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """sends and receives that stand in the Python stack: the operation, and the global ranks at the other end"""
    stack: tuple[str, ...] = ()
    """frames of the main thread, innermost last, where the rank told them"""
    written_at: float | None = None
    """None: just now, as an answer"""

    @property
    def statuses(self) -> tuple[GroupStatus, ...]:
        """One for each group and library that this rank has called, or, where that is sure, not called yet."""
        by_group: dict[tuple[str, str], list[Entry]] = {}
        for entry in sorted(self.entries, key=lambda entry: entry.record):
            by_group.setdefault((entry.library, entry.group), []).append(entry)
        found = [self._status(entries) for entries in by_group.values()]
        found += self._untouched({library for library, _ in by_group}, by_group.keys())
        found += [GroupStatus(group=POINT_TO_POINT, op=op, peers=peers) for op, peers in self.waits]
        return tuple(found)

    def _status(self, entries: list[Entry]) -> GroupStatus:
        last = entries[-1]
        desc, ranks = self.groups.get(last.group, (last.desc, ()))
        collectives = [entry for entry in entries if not entry.is_p2p]
        over = _over(entries)
        unfinished = [entry.seq for entry in collectives if not over[entry.record]]
        enqueued = max((entry.seq for entry in collectives), default=0)
        completed = min(unfinished) - 1 if unfinished else enqueued
        newest = collectives[-1] if collectives else last
        return GroupStatus(
            group=f"{last.library}:{last.group}",
            desc=desc or last.desc,
            ranks=ranks,
            enqueued=enqueued,
            started=_started(collectives),
            completed=completed,
            op=newest.op,
            sizes=newest.sizes,
            dtypes=newest.dtypes,
            frames=newest.frames,
            arrivals=tuple({entry.seq: entry.created_s for entry in collectives}.items())[-self._arrivals_most :],
            calls=_calls(collectives, completed),
            peers=tuple(sorted({p for e in entries if e.is_p2p and not over[e.record] for p in _peers(e, ranks)})),
        )

    @property
    def _arrivals_most(self) -> int:
        """The same for all groups of a rank: each has to reach back as far as the others."""
        known = [len(ranks) for _, ranks in self.groups.values()]
        return ARRIVALS_SMALL if 0 < max(known, default=0) <= SMALL_RANKS else ARRIVALS

    def _untouched(self, libraries: Iterable[str], seen: Iterable[tuple[str, str]]) -> list[GroupStatus]:
        """Groups that this rank is in and never called; where the ring has lost entries, nobody can say."""
        called = set(seen)
        return [
            GroupStatus(group=f"{library}:{name}", desc=desc, ranks=ranks, enqueued=0, completed=0)
            for library in sorted(libraries)
            for name, (desc, ranks) in self.groups.items()
            if self.is_complete and (library, name) not in called
        ]


def parse(body: bytes) -> Dump:
    """The dump in a file, or in a worker's answer. Raises Refused, with a sentence, for everything else."""
    if len(body) > BYTES_MAX:
        raise Refused(f"the dump has {len(body):,} bytes, at most {BYTES_MAX:,} are read")
    value = _decoded(body)
    if not isinstance(value, dict):
        raise Refused("the dump is not a table of values")
    return _answer(value) if "recorders" in value else _dump(value)


def _decoded(body: bytes) -> Any:
    if body[:1] == b"\x80":
        return load(body)
    try:
        return json.loads(body)
    except RecursionError as error:
        raise Refused("the dump is nested too deep") from error
    except ValueError as error:  # bytes that are no UTF-8, numbers of thousands of digits
        raise Refused(f"the dump is neither a pickle nor whole JSON ({str(error)[:80]})") from error


def _answer(value: dict[str, Any]) -> Dump:
    """What a worker wrote: the dumps of all libraries, and what Python knows beside them."""
    dumps = [_dump(_packed(one)) for one in _items(value["recorders"])[:8]]
    groups = {name: known for dump in dumps for name, known in dump.groups.items()}
    for name, known in _pairs(value.get("groups")):
        groups[name[:_TEXT]] = (_text(_field(known, "desc")), _ranks(_field(known, "ranks")))
    waits = [(_text(_field(one, "op")), _ranks(_field(one, "peers"))) for one in _items(value.get("waits"))[:16]]
    return Dump(
        asked=_text(value.get("asked")),
        library_version=next((dump.library_version for dump in dumps if dump.library_version), ""),
        groups=groups,
        entries=tuple(entry for dump in dumps for entry in dump.entries),
        is_complete=all(dump.is_complete for dump in dumps),
        waits=tuple(waits),
        stack=_main_stack(value.get("threads")),
    )


def _main_stack(threads: Any) -> tuple[str, ...]:
    mains = [one for one in _items(threads)[:64] if _field(one, "main")]
    return tuple(_text(frame) for frame in _items(_field(mains[0], "frames"))[:64]) if mains else ()


def _packed(one: Any) -> dict[str, Any]:
    """JSON stands as it is, a pickle as base64."""
    if isinstance(one, str):
        try:
            one = load(base64.b64decode(one, validate=True))
        except binascii.Error as error:
            raise Refused("a pickle in the answer is damaged") from error
    if not isinstance(one, dict):
        raise Refused("a dump in the answer is not a table of values")
    return one


def _dump(value: dict[str, Any]) -> Dump:
    rows = value.get("entries", ())
    if not isinstance(rows, list | tuple):
        raise Refused("the dump has no list of entries")
    if len(rows) > ENTRIES_MAX:
        raise Refused(f"the dump has {len(rows):,} entries, at most {ENTRIES_MAX:,} are read")
    told = [(_int(row.get("record_id"), number), row) for number, row in enumerate(rows) if isinstance(row, dict)]
    entries = tuple(_entry(row, record) for record, row in _needed(told))
    groups = {
        name[:_TEXT]: (_text(_field(known, "desc")), _ranks(_field(known, "ranks")))
        for name, known in _pairs(value.get("pg_config"))
        if name  # gloo has one group without a name, and knows nothing of it
    }
    return Dump(
        library_version=_text(value.get("comm_lib_version") or value.get("nccl_version")),
        groups=groups,
        entries=entries,
        is_complete=all(record < len(told) for record, _ in told),
    )


def _needed(told: list[tuple[int, dict[str, Any]]]) -> list[tuple[int, dict[str, Any]]]:
    """The newest of each group, what is not over, and what came just before that: to read all 2,000 takes 0.1 s.

    Sends and receives apart: there may be hundreds of them for each collective.
    """
    by_group: dict[tuple[str, str, bool], list[tuple[int, dict[str, Any]]]] = {}
    for record, row in sorted(told, key=lambda one: one[0]):
        by_group.setdefault((_called(row)[0], _group(row), _is_p2p(row)), []).append((record, row))
    return [one for (library, *_), rows in by_group.items() for one in rows[_first_needed(library, rows) :]]


def _first_needed(library: str, rows: list[tuple[int, dict[str, Any]]]) -> int:
    newest = max(0, len(rows) - ARRIVALS_SMALL)
    over = [_is_over(library, row.get("state"), retired=bool(row.get("retired"))) for _, row in rows]
    whole = {_seq(row) for (_, row), ended in zip(rows, over, strict=True) if ended and _is_coalesced(_called(row)[1])}
    doubted = (place for place in range(newest) if not over[place] and _seq(rows[place][1]) not in whole)
    return max(0, min(newest, next(doubted, newest) - CALLS_BEFORE - 1))


def _called(row: Mapping[str, Any]) -> tuple[str, str]:
    """Library and operation."""
    library, _, op = _text(row.get("profiling_name")).rpartition(":")
    return library, op


def _is_p2p(row: Mapping[str, Any]) -> bool:
    return bool(row.get("is_p2p")) or _called(row)[1].startswith(("send ", "recv "))


def _is_coalesced(op: str) -> bool:
    return "coalesced" in op.lower()


def _seq(row: Mapping[str, Any]) -> int:
    old = _int(row.get("seq_id"))  # before 2.1 one number counted both
    return _int(row.get("p2p_seq_id" if _is_p2p(row) else "collective_seq_id"), old)


def _is_over(library: str, state: object, *, retired: bool) -> bool:
    """By itself, whatever it is a part of."""
    return retired if library == "gloo" else state == "completed"


def _group(row: dict[str, Any]) -> str:
    names = _items(row.get("process_group"))
    return _text(names[0]) if names else str(_int(row.get("pg_id")))


def _entry(row: dict[str, Any], record: int) -> Entry:
    library, op = _called(row)
    names = _items(row.get("process_group"))
    dtypes = [_text(name) for key in ("input_dtypes", "output_dtypes") for name in _items(row.get(key))[:_DIMENSIONS]]
    inputs, outputs = _shapes(row.get("input_sizes")), _shapes(row.get("output_sizes"))
    return Entry(
        record=record,
        library=library or "?",
        group=_group(row),
        desc=_text(names[1]) if len(names) > 1 else "",
        seq=_seq(row),
        op=op,
        is_p2p=_is_p2p(row),
        created_s=_int(row.get("time_created_ns")) / 1e9,
        state=_text(row.get("state")),
        retired=bool(row.get("retired")),
        inputs=tuple(prod(shape) for shape in inputs),
        outputs=tuple(prod(shape) for shape in outputs),
        sizes=f"{inputs} -> {outputs}"[:_TEXT] if inputs or outputs else "",
        dtypes=", ".join(dict.fromkeys(dtypes)),
        frames=_frames(row.get("frames")),
    )


def _over(entries: list[Entry]) -> dict[int, bool]:
    """By record, whether it is over; a coalesced operation speaks for all that it holds."""
    whole = {(e.is_p2p, e.seq): e.is_over for e in entries if _is_coalesced(e.op)}
    return {e.record: whole.get((e.is_p2p, e.seq), e.is_over) for e in entries}


def _started(collectives: list[Entry]) -> int:
    """-1: nothing says when operations start (gloo, and NCCL without timing)."""
    if not any(entry.state == "started" for entry in collectives):
        return -1
    return max(entry.seq for entry in collectives if entry.state in ("started", "completed"))


def _calls(collectives: list[Entry], completed: int) -> tuple[tuple[int, str], ...]:
    near = {e.seq: e.call for e in collectives if -CALLS_BEFORE <= e.seq - completed <= CALLS_AFTER}
    return tuple(near.items())


def _peers(entry: Entry, ranks: tuple[int, ...]) -> list[int]:
    """Global rank at the other end of `send 0->1` or `recv 1<-0`, which count within the group."""
    _, _, ends = entry.op.partition(" ")
    other = ends.rpartition("->" if "->" in ends else "<-")[2]
    if not other.isdecimal() or len(other) > 8:
        return []
    number = int(other)
    if not ranks:
        return [number]
    return [sorted(ranks)[number]] if number < len(ranks) else []


def _shapes(value: Any) -> list[tuple[int, ...]]:
    return [tuple(_int(one) for one in _items(shape)[:_DIMENSIONS]) for shape in _items(value)[:_DIMENSIONS]]


def _frames(value: Any) -> tuple[str, ...]:
    """Innermost last; recorded innermost first."""
    rows = [row for row in _items(value)[:FRAMES] if isinstance(row, dict)]
    lines = [f"{_text(r.get('filename'))}:{_int(r.get('line'))} {_text(r.get('name'))}" for r in rows]
    return tuple(reversed(lines))


def _ranks(value: Any) -> tuple[int, ...]:
    """Ranks stand as a list, or as the text of one."""
    if isinstance(value, str):
        parts = value.strip("[]() ").split(",") if len(value) <= 1 << 20 else []
        return tuple(int(part) for part in parts if part.strip().isdecimal() and len(part) < 12)
    return tuple(one for one in _items(value) if type(one) is int)


def _pairs(value: Any) -> list[tuple[str, Any]]:
    return [(str(key), known) for key, known in value.items()] if isinstance(value, dict) else []


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _text(value: Any) -> str:
    return value[:_TEXT] if isinstance(value, str) else ""


def _int(value: Any, otherwise: int = 0) -> int:
    """JSON writes some numbers as text."""
    if isinstance(value, str) and len(value) < 20 and value.lstrip("-").isdecimal():
        return int(value)
    return value if type(value) is int and abs(value) < 1 << 63 else otherwise

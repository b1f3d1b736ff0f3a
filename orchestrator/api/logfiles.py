"""What is in the log of a rank? A piece of one file at a time, however long the file and its lines are.

Nothing is read that a viewer could name freely: an id is five plain parts, and the file they lead to must lie in the
run's folder and be no link. Lines come as text that shows what was written and does nothing.
"""

from __future__ import annotations

import os
import re
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

ID = re.compile(r"(\d{1,6})/(\d{1,6})/(\d{1,9})/(\d{1,7})/(stdout|stderr)")
SUPERVISOR = "supervisor"
PIECE_BYTES = 1 << 20
"""read at once; an answer looks at one piece, but for a search"""
SEARCHED_BYTES = 64 << 20
LINE_CHARACTERS = 4000
LINES, LINES_MOST = 200, 5000
SOURCES_MOST = 4096

ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
"""control characters, and those that turn the direction of writing"""
ERROR = re.compile(r"\b(?:error|exception|traceback|fatal|critical|failed|abort(?:ed)?|killed|oom)\b", re.IGNORECASE)
WARNING = re.compile(r"\bwarn(?:ing)?\b", re.IGNORECASE)


class NoLog(Exception):
    """There is no such log; the text says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One log file of a run."""

    path: Path
    attempt: int
    node: int
    world: int
    rank: int
    stream: str

    @property
    def id(self) -> str:
        """What a page names it by."""
        return SUPERVISOR if self.rank < 0 else f"{self.attempt}/{self.node}/{self.world}/{self.rank}/{self.stream}"

    def plain(self, culprit: bool) -> dict[str, Any]:
        """As docs/dashboard.md has it. Raises OSError."""
        found = self.path.stat()
        place = {name: getattr(self, name) for name in ("id", "attempt", "node", "world", "rank", "stream")}
        return place | {"bytes": found.st_size, "written_at": found.st_mtime, "culprit": culprit}


def source(root: Path, run: str, name: str) -> Source:
    """The log of this id. Raises NoLog."""
    if name == SUPERVISOR:
        return Source(path=root / "supervisor.log", attempt=-1, node=-1, world=-1, rank=-1, stream="stderr")
    found = ID.fullmatch(name)
    if found is None:
        raise NoLog("source: must be ATTEMPT/NODE/WORLD/RANK/stdout or stderr, or supervisor")
    attempt, node, world, rank = map(int, found.groups()[:4])
    folder = root / "runs" / run / "attempts" / f"{attempt:03d}" / f"node{node}" / f"w{world}" / f"rank{rank}"
    return Source(path=folder / f"{found[5]}.log", attempt=attempt, node=node, world=world, rank=rank, stream=found[5])


def sources(
    root: Path, run: str, *, attempt: int | None, node: int | None, world: int | None, rank: int | None
) -> list[Source]:
    """The logs there are, those of one attempt, node, world or rank when given; newest world first, then by rank."""
    found = [
        Source(path=path, attempt=number, node=of_node, world=of_world, rank=of_rank, stream=path.stem)
        for number, attempts in _numbered(root / "runs" / run / "attempts", "", attempt)
        for of_node, nodes in _numbered(attempts, "node", node)
        for of_world, worlds in _numbered(nodes, "w", world)
        for of_rank, ranks in _numbered(worlds, "rank", rank)
        for path in (ranks / "stderr.log", ranks / "stdout.log")
        if path.is_file()
    ]
    return sorted(found, key=lambda one: (-one.world, one.rank, one.stream))


def _numbered(folder: Path, prefix: str, wanted: int | None) -> Iterator[tuple[int, Path]]:
    with suppress(OSError):
        for entry in os.scandir(folder):
            number = entry.name.removeprefix(prefix)
            fits = entry.name.startswith(prefix) and number.isascii() and number.isdecimal() and len(number) < 10
            if fits and (wanted is None or int(number) == wanted) and entry.is_dir(follow_symlinks=False):
                yield int(number), Path(entry.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which lines."""

    count: int = LINES
    start: int | None = None
    """from this byte on; None: the last ones, or those before `before`"""
    before: int | None = None
    text: str = ""
    """only lines with this in them, letters' case aside"""


def lines(root: Path, run: str, found: Source, wanted: Wanted) -> dict[str, Any]:
    """The body of `/api/runs/RUN/logs/lines`, without `source`. Raises NoLog."""
    with _opened(root, run, found) as file:
        size = os.fstat(file.fileno()).st_size
        if wanted.text:
            return _searched(file, size, wanted) | {"bytes": size}
        if wanted.start is not None:
            return _forward(file, min(wanted.start, size), size, wanted.count) | {"bytes": size}
        return _backward(file, min(size, size if wanted.before is None else wanted.before), wanted.count) | {
            "bytes": size
        }


def _opened(root: Path, run: str, found: Source) -> BinaryIO:
    """Open a plain file below the run's folder (or the supervisor's log): no link on the way, no pipe at the end."""
    folder = (root if found.rank < 0 else root / "runs" / run).resolve()
    try:
        if not found.path.resolve(strict=True).is_relative_to(folder):
            raise NoLog(f"{found.id}: is not in the folder of {run}")
        fd = os.open(found.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        raise NoLog(f"{run} has no log {found.id}") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NoLog(f"{found.id}: is no file")
    return os.fdopen(fd, "rb")


def _piece(file: BinaryIO, start: int, length: int) -> bytes:
    file.seek(start)
    return file.read(length)


def _cut(data: bytes, start: int) -> list[tuple[int, bytes]]:
    """(where it begins, the line without its end) of each line in a piece; the last one may be unfinished."""
    found = []
    for raw in data.split(b"\n"):
        found.append((start, raw))
        start += len(raw) + 1
    if found and not found[-1][1]:
        found.pop()
    return found


def _forward(file: BinaryIO, start: int, size: int, count: int) -> dict[str, Any]:
    data = _piece(file, start, PIECE_BYTES)
    end = data.rfind(b"\n") + 1
    if end:
        data = data[:end]  # the rest of the last line is still to come
    elif len(data) < PIECE_BYTES:
        data = b""
    rows = _cut(data, start)
    following = rows[count][0] if len(rows) > count else start + len(data)
    return {"lines": [_line(*row) for row in rows[:count]], "first": start, "next": following, "more": following < size}


def _backward(file: BinaryIO, end: int, count: int) -> dict[str, Any]:
    start = max(0, end - PIECE_BYTES)
    data = _piece(file, start, end - start)
    if start:
        cut = data.find(b"\n") + 1  # the first line may have begun before; one as long as a piece is shown in parts
        start, data = start + cut, data[cut:]
    rows = _cut(data, start)[-count:] if count else []
    first = rows[0][0] if rows else end
    return {"lines": [_line(*row) for row in rows], "first": first, "next": end, "more": first > 0}


def _searched(file: BinaryIO, size: int, wanted: Wanted) -> dict[str, Any]:
    """Lines with a text: the first ones from a byte on, or else the last ones before one; 64 MiB are looked at."""
    if wanted.start is not None:
        start, end = min(wanted.start, size), min(size, wanted.start + SEARCHED_BYTES)
    else:
        end = size if wanted.before is None else min(wanted.before, size)
        start = max(0, end - SEARCHED_BYTES)
    needle = wanted.text.casefold()
    found: deque[tuple[int, bytes]] = deque(maxlen=None if wanted.start is not None else wanted.count)
    place = start
    while place < end:
        data = _piece(file, place, min(PIECE_BYTES, end - place))
        if not data:
            break
        whole = data[: data.rfind(b"\n") + 1] or data
        if needle in whole.decode(errors="replace").casefold():
            found += [row for row in _cut(whole, place) if needle in row[1].decode(errors="replace").casefold()]
        place += len(whole)
        if wanted.start is not None and len(found) >= wanted.count:
            break
    kept = list(found)[: wanted.count]
    following = kept[-1][0] + len(kept[-1][1]) + 1 if len(found) > len(kept) else place
    more = following < size if wanted.start is not None else start > 0
    return {"lines": [_line(*row) for row in kept], "first": start, "next": following, "more": more}


def _line(start: int, raw: bytes) -> list[Any]:
    text = inert(raw)
    level = "error" if ERROR.search(text) else "warning" if WARNING.search(text) else ""
    return [start, text, level]


def inert(raw: bytes) -> str:
    """A line as a screen would show it in the end, as characters that only stand there."""
    text = raw[: 4 * LINE_CHARACTERS].decode(errors="replace").rstrip("\r")
    text = UNSEEN.sub("", ESCAPES.sub("", text.rpartition("\r")[2]))
    cut = len(text) > LINE_CHARACTERS or len(raw) > 4 * LINE_CHARACTERS
    return text[:LINE_CHARACTERS] + "…" if cut else text

"""Where can the kernel's log be read, and when was each line written? /dev/kmsg, the journal, or a file.

A source remembers where it was when it is opened again. None blocks; each gives a bounded number of lines at a time.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from monitors.catalogue.kernel_prefix import LINE_CHARS
from monitors.clock import uptime_s

RECORDS = 1024
"""taken at a time: 30 ms of reading when each of them is a fault"""
CHUNK_BYTES = 128 << 10
RECORD_BYTES = 16 << 10
"""at least what /dev/kmsg writes at once, which was 8 KiB at most"""
GONE_S = 10.0
"""a file that is being rotated is missing for a moment"""
OLDEST_STAMP_S = 60.0
"""a new line that says to be older has another clock, or another boot"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line, or one record of several lines."""

    at: float
    text: str


class Source(Protocol):
    """Somewhere that the kernel's lines come from."""

    name: str
    lost: int
    """records that were overwritten before they were read, ever"""
    more: bool
    """the last `read` ended at its bound, not at the end"""

    def open(self, now: float) -> None:
        """Begin at lines not older than the look-back, or where it was left. Raises OSError that says why not."""
        ...

    def read(self, now: float) -> list[Line]:
        """New lines, in order. Raises OSError when the source is gone."""
        ...

    def close(self) -> None:
        """Let go of it, for good or until it is opened again."""
        ...


class Kmsg:
    """`/dev/kmsg`: one record at each read, with a sequence number and the time since boot in microseconds."""

    def __init__(
        self,
        path: Path = Path("/dev/kmsg"),
        *,
        lookback_s: float,
        uptime: Callable[[], float] = uptime_s,
        read: Callable[[int, int], bytes] = os.read,
    ) -> None:
        self.name, self.lost, self.more = str(path), 0, False
        self._path, self._uptime, self._lookback_s = path, uptime, lookback_s
        self._read = read
        self._file: int | None = None
        self._sequence: int | None = None
        self._overrun = False
        self._since = 0.0
        self._drained_at: float | None = None
        """when the end of the log was seen last; None: every record may be old"""

    def open(self, now: float) -> None:
        """The kernel gives every record since boot that it still has."""
        self._file = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._since, self._drained_at = now - self._lookback_s, None

    def read(self, now: float) -> list[Line]:
        """Records since the last read."""
        booted = now - self._uptime()
        found = [self._line(record, booted, now) for record in self._records()]
        self._drained_at = self._drained_at if self.more else now
        return [line for line in found if line is not None]

    def _records(self) -> Iterator[bytes]:
        assert self._file is not None
        for _ in range(RECORDS):
            self.more = False
            try:
                record = self._read(self._file, RECORD_BYTES)
            except BlockingIOError:
                return
            except BrokenPipeError:  # the next record was overwritten; the kernel goes on at the oldest that it has
                self._overrun = True
                continue
            except OSError as error:
                if error.errno != errno.EINVAL:  # a record that does not fit
                    raise
                continue
            if not record:
                return
            self.more = True
            yield record

    def _line(self, record: bytes, booted: float, now: float) -> Line | None:
        read = kmsg(record)
        if read is None:
            return None
        sequence, written_s, text = read
        before, self._sequence = self._sequence, max(sequence, self._sequence or 0)
        if before is not None and sequence <= before:  # read before this was closed and opened again
            return None
        if self._overrun and before is not None:
            self.lost += max(0, sequence - before - 1)
        self._overrun = False
        at = min(booted + written_s, now)
        if self._drained_at is None:
            return Line(at=at, text=text) if at >= self._since else None
        # The clock of the log drifts, by minutes in months; what was not there at the last look is not older than it.
        return Line(at=max(at, self._drained_at), text=text)

    def close(self) -> None:
        """Close the device."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def kmsg(record: bytes) -> tuple[int, float, str] | None:
    """Sequence number, seconds since boot, and text of a record `priority,sequence,microseconds,flags;text`."""
    head, mark, text = record.partition(b";")
    fields = head.split(b",", 4)
    if not mark or len(fields) < 4 or not (fields[1].isdigit() and fields[2].isdigit()):
        return None
    # Further lines are properties of the device; a line break inside the text is escaped.
    body = text[: 4 * LINE_CHARS].partition(b"\n")[0].decode(errors="replace").replace("\\x0a", "\n")
    return int(fields[1][:19]), int(fields[2][:19]) / 1e6, body


class Lines:
    """Whole lines out of chunks of bytes; of one that is longer than `most`, the beginning."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that ended in this chunk."""
        first, *lines = chunk.split(b"\n")
        self._rest += first[: max(0, self._most - len(self._rest))]
        if not lines:
            return []
        whole, self._rest = self._rest, lines.pop()[: self._most]
        return [line for line in (whole, *(line[: self._most] for line in lines)) if line]


class File:
    """A file that somebody else writes the log to: rotated, truncated, or not there yet."""

    def __init__(self, path: Path, *, lookback_s: float, uptime: Callable[[], float] = uptime_s) -> None:
        self.name, self.lost, self.more = str(path), 0, False
        self._path, self._uptime, self._lookback_s = path, uptime, lookback_s
        self._file: int | None = None
        self._lines = Lines(LINE_CHARS)
        self._missed = False
        """it was not there: what is in it when it comes is new"""
        self._old_until = 0
        """lines that end before this were there at the beginning"""
        self._since = 0.0
        self._gone_at: float | None = None

    def open(self, now: float) -> None:
        """Begin near the end of a file that is there; one that comes later is new from its first line."""
        try:
            self._file = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            self._missed = True
            raise
        self._lines = Lines(LINE_CHARS)
        self._since, self._gone_at = now - self._lookback_s, None
        self._old_until = 0 if self._missed else os.fstat(self._file).st_size
        os.lseek(self._file, max(0, self._old_until - CHUNK_BYTES), os.SEEK_SET)
        self._missed = False

    def read(self, now: float) -> list[Line]:
        """Lines since the last read; of those that were there at the beginning, the dated ones of the look-back."""
        assert self._file is not None
        old_bytes = self._old_until - os.lseek(self._file, 0, os.SEEK_CUR)
        chunk = os.read(self._file, min(CHUNK_BYTES, old_bytes) if old_bytes > 0 else CHUNK_BYTES)
        self.more = old_bytes > 0 or len(chunk) == CHUNK_BYTES
        if not chunk:
            self._follow(now)
            return []
        found = [self._line(line, now, old=old_bytes > 0) for line in self._lines.feed(chunk)]
        return [line for line in found if line is not None]

    def _follow(self, now: float) -> None:
        """Nothing new: was the file cut, or another one put in its place? OSError when there is none for long."""
        assert self._file is not None
        try:
            here, named = os.fstat(self._file), self._path.stat()
        except FileNotFoundError:
            self._gone_at = now if self._gone_at is None else self._gone_at
            if now - self._gone_at > GONE_S:
                self._missed = True
                raise
            return
        self._gone_at = None
        if (here.st_dev, here.st_ino) != (named.st_dev, named.st_ino):
            fresh = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.close(self._file)
            self._file, self._old_until, self.more = fresh, 0, True
        elif os.lseek(self._file, 0, os.SEEK_CUR) > here.st_size:
            os.lseek(self._file, 0, os.SEEK_SET)
            self._old_until, self.more = 0, True

    def _line(self, raw: bytes, now: float, *, old: bool) -> Line | None:
        text = raw.decode(errors="replace")
        at = stamp(text, now - self._uptime())
        if old and (at is None or not self._since <= at <= now):
            return None
        fits = at is not None and now - OLDEST_STAMP_S <= at <= now
        return Line(at=at if at is not None and fits else now, text=text.replace("\\x0a", "\n"))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


_RAW = re.compile(r"\d{1,4},\d{1,19},(?P<microseconds>\d{1,19}),[^;\s]{1,64};")
_SECONDS = re.compile(r"(?:<\d{1,4}>)?\[\s*(?P<seconds>\d{1,10}\.\d{1,9})\]")
_ISO = re.compile(
    r"(?:[a-z]+ *: *[a-z]+ *: *)?(?P<iso>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d{1,6})?(?:Z|[+-]\d\d:?\d\d))"
)


def stamp(text: str, booted: float) -> float | None:
    """When a line says that it was written, as far as it says it without doubt; `booted` is the start of the kernel."""
    if raw := _RAW.match(text):
        return booted + int(raw["microseconds"]) / 1e6
    if seconds := _SECONDS.match(text):
        return booted + float(seconds["seconds"])
    if iso := _ISO.match(text):
        with suppress(ValueError, OverflowError):
            return datetime.fromisoformat(iso["iso"].replace(",", ".")).timestamp()
    return None

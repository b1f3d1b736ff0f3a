"""What does a rank's output say that the catalogue of signatures knows? Read as it is written, and again at the end.

Normal output costs a search for a few words. A rank that writes faster than anyone reads has only its newest output
looked at: what a look costs does not depend on how much was written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from monitors.catalogue.signature import Role
from monitors.catalogue.signatures import Judgement, judge, judge_line
from monitors.signals import RankSaid

LOOK_EVERY_S = 0.25
"""a rank that says why it fails is heard before its peers are past the wait for their culprit (detect/exits)"""
LOOK_BYTES = 64 << 10
"""newest output read of each file and look; a terminal full of text is 8 KiB"""
LINE_BYTES = 4096
LINES_MAX = 64
"""lines held against the catalogue in one look, some 50 us each"""
REMEMBERED = 512
"""lines known not to matter, by what is left of them without their numbers"""
END_BYTES = 256 << 10
TRACE_BYTES = 16 << 10
"""a traceback is rarely longer, and one that is has its last line in them"""
TEXT_CHARS = 500

WORDS = (
    *(b"error", b"fail", b"exception", b"fatal", b"nccl warn", b"timeout", b"timed out", b"closed", b"killed"),
    *(b"cancelled", b"signal", b"abort", b"refused", b"reset by", b"denied", b"watchdog", b"fault", b"mismatch"),
    *(b"errno", b"no space", b"quota", b"stale", b"broken pipe", b"oom", b"out of memory", b"bus", b"got stuck"),
    *(b"is not finite", b"non-finite", b"inf grad", b"nan ", b"ecc ", b"_status_", b"traceback", b"time limit"),
    *(b"unreachable", b"dump", b"corrupt", b"exit"),
)
"""what lines that matter have one of; what has none is still judged when the rank ends"""
_DIGITS = b"0123456789"


class Output:
    """New lines of one file that hold one of the words."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""
        self.traced = False
        """a traceback was begun, and nobody has asked for it yet"""

    def read(self) -> tuple[bool, list[bytes]]:
        """Whether anything was written since, and its newest telling lines, cut."""
        chunk = self._chunk().replace(b"\r", b"\n")  # a progress bar never ends its line
        if not chunk:
            return False, []
        lowered = chunk.lower()
        cut = chunk.rfind(b"\n") + 1
        rest, self._rest = self._rest, chunk[cut:][:LINE_BYTES] if cut else (self._rest + chunk)[:LINE_BYTES]
        if not cut or not (any(word in lowered for word in WORDS) or _tells(rest)):
            return True, []
        self.traced = self.traced or b"traceback (most" in lowered
        return True, [line[:LINE_BYTES] for line in (rest + chunk[:cut]).split(b"\n") if _tells(line[:LINE_BYTES])]

    def tail(self, size: int) -> str:
        """The last `size` bytes; empty when there is no file."""
        try:
            with self._path.open("rb") as file:
                end = file.seek(0, 2)
                file.seek(max(0, end - size))
                return file.read(size).decode(errors="replace")
        except OSError:
            return ""

    def _chunk(self) -> bytes:
        try:
            size = self._path.stat().st_size
            if size == self._offset:
                return b""
            if size < self._offset:  # truncated: what is there now is new
                self._offset, self._rest = 0, b""
            if size - self._offset > LOOK_BYTES:
                self._offset, self._rest = size - LOOK_BYTES, b""
            with self._path.open("rb") as file:
                file.seek(self._offset)
                chunk = file.read(LOOK_BYTES)
        except OSError:
            return b""
        self._offset += len(chunk)
        return chunk


def _tells(line: bytes) -> bool:
    lowered = line.lower()
    return any(word in lowered for word in WORDS)


class Utterances:
    """What one rank says, each class of faults once."""

    def __init__(self, folder: Path, *, node: int, world: int, rank: int) -> None:
        """`folder` holds stdout.log and stderr.log."""
        self._outputs = (Output(folder / "stderr.log"), Output(folder / "stdout.log"))
        self._node, self._world, self._rank = node, world, rank
        self._told: set[str] = set()
        self._known: set[bytes] = set()
        self._looked_at = float("-inf")

    def look(self, now: float, step: int) -> list[RankSaid]:
        """What is new; `step` is the last one that the rank finished."""
        if now - self._looked_at < LOOK_EVERY_S:
            return []
        self._looked_at = now
        heard = [one for output in self._outputs for one in self._heard(output)]
        return list(self._said(heard, now, step))

    def end(self, now: float, step: int) -> list[RankSaid]:
        """What the end of the output says, now that nothing more will come; stderr first."""
        heard = [judge(output.tail(END_BYTES)) for output in self._outputs]
        return list(self._said(heard, now, step))

    def _heard(self, output: Output) -> Iterator[Judgement | None]:
        wrote, lines = output.read()
        for line in self._unknown(lines):
            yield judge_line(line.decode(errors="replace"))
        if output.traced and not wrote:
            # A traceback, and nothing after it: this is how a rank ends, and a handled error mostly is not.
            output.traced = False
            yield judge(output.tail(TRACE_BYTES))

    def _unknown(self, lines: Iterable[bytes]) -> list[bytes]:
        new: list[bytes] = []
        for line in lines:
            masked = line.translate(None, _DIGITS)
            if masked not in self._known:
                if len(self._known) >= REMEMBERED:
                    self._known.clear()
                self._known.add(masked)
                new.append(line)
        return new[-LINES_MAX:]

    def _said(self, heard: Iterable[Judgement | None], now: float, step: int) -> Iterator[RankSaid]:
        for one in heard:
            if one is None or one.role is Role.NONE or one.fault in self._told:
                continue
            self._told.add(one.fault)
            yield RankSaid(
                at=now,
                node=self._node,
                world=self._world,
                rank=self._rank,
                fault=one.fault,
                role=one.role.value,
                retryable=bool(one.retryable),
                text=one.text.strip()[:TEXT_CHARS],
                step=step,
            )

"""Where does a script that is not ours stand? Its output says so: that it moves, and, by a pattern, its step.

Robust to what programs write: endless lines, progress bars that return the carriage, bytes that are no text, files
that someone truncates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

READ_BYTES = 1 << 20
"""per file and look: the agent must not stall on a rank that writes faster than anyone reads"""
LINE_BYTES = 4096
"""searched of each line: beyond it no one prints a step, and a pattern that backtracks must stay harmless"""
STEP_MAX = 1 << 53
"""beyond it no float tells a number from the next: what a wide pattern finds there is an id, and no step"""

_LINE_END = re.compile(rb"[\r\n]")


class Tail:
    """New lines of one file, as they come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""

    def read(self) -> tuple[bool, list[str]]:
        """Whether anything was written since, and the lines that were finished (cut at LINE_BYTES)."""
        try:
            size = self._path.stat().st_size
            if size == self._offset:
                return False, []
            if size < self._offset:  # truncated: what is there now is new
                self._offset, self._rest = 0, b""
            with self._path.open("rb") as file:
                file.seek(self._offset)
                chunk = file.read(READ_BYTES)
        except OSError:
            return False, []
        self._offset += len(chunk)
        *lines, rest = _LINE_END.split(self._rest + chunk)
        self._rest = rest[:LINE_BYTES]
        return True, [line[:LINE_BYTES].decode(errors="replace") for line in lines if line]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the pattern saw in a line."""

    step: int
    loss: float | None
    grad_norm: float | None


def search(pattern: re.Pattern[str], line: str) -> Found | None:
    """The step of a line, None when it names none. `1,200` is a number too, `loss=nan` is a loss."""
    match = pattern.search(line)
    if match is None:
        return None
    groups = match.groupdict()
    step = _number(groups["step"])
    if step is None or not step.is_integer() or abs(step) > STEP_MAX:
        return None
    return Found(step=int(step), loss=_number(groups.get("loss")), grad_norm=_number(groups.get("grad_norm")))


def _number(text: str | None) -> float | None:
    with suppress(ValueError):
        return None if text is None else float(text.replace(",", ""))
    return None


class Logs:
    """The output of one rank."""

    def __init__(self, folder: Path, pattern: str | None) -> None:
        """`folder` holds stdout.log and stderr.log."""
        self._tails = (Tail(folder / "stdout.log"), Tail(folder / "stderr.log"))
        self._pattern = re.compile(pattern) if pattern is not None else None

    def read(self) -> tuple[bool, list[Found]]:
        """Whether the rank wrote anything since, and the steps that it named."""
        reads = [tail.read() for tail in self._tails]
        lines = [line for _, some in reads for line in some]
        return any(moved for moved, _ in reads), list(self._search(lines))

    def _search(self, lines: list[str]) -> Iterator[Found]:
        if self._pattern is not None:
            for line in lines:
                if (found := search(self._pattern, line)) is not None:
                    yield found

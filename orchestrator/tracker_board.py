"""How do lines reach TensorBoard? One event file for each run, one record for each line: its length says how far.

Steps that are trained again void those that were rolled back: TensorBoard shows the line of training that counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator import tracker_events as events
from orchestrator.tracker_lines import AXIS, Line

NAME = "events.out.tfevents.{at:010d}.lastgood.{run}"


class Board:
    """The event file of one run."""

    def __init__(self, folder: Path, run: str, at: float) -> None:
        """Go on where it ends, or begin it at `at`. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        known = sorted(folder.glob(f"events.out.tfevents.*.lastgood.{run}"))
        self._file = (known[-1] if known else folder / NAME.format(at=int(at), run=run)).open("ab+")
        self.count = self._recover()
        """lines that are in it"""
        if self._file.tell() == 0:
            self._file.write(events.record(events.first(at)))

    def write(self, lines: Sequence[Line]) -> None:
        """Add a record for each line."""
        self._file.write(b"".join(events.record(_event(line)) for line in lines))
        self._file.flush()
        self.count += len(lines)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _recover(self) -> int:
        self._file.seek(0)
        raw = self._file.read()
        found = list(events.records(raw))
        if found and not events.is_sound(raw, *found[-1]):  # a power cut
            found.pop()
        end = found[-1][0] if found else 0
        self._file.truncate(end)
        self._file.seek(end)
        return max(0, len(found) - 1)  # the first one is no line


def _event(line: Line) -> bytes:
    step = int(line.values[AXIS])
    if line.kind == "rewind":
        return events.session(line.at, int(line.values["lastgood/rolled_back_to"]) + 1)
    if line.kind == "copy":  # nothing was taken away
        return events.row(line.at, step, {}, {})
    scalars = {name: float(value) for name, value in line.values.items() if _is_number(value) and name != AXIS}
    texts = {name: str(value) for name, value in line.values.items() if isinstance(value, str)}
    return events.row(line.at, step, scalars, texts)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

"""Which step of W&B is a line? Its number, until steps of W&B are taken back.

`_step` only counts: charts have an axis of their own. The server ignores a row whose `_step` it has, so telling a line
again is harmless, and the first `_step` that it misses says which line comes next.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestrator.tracker_lines import Line

WAYS = {"append": (), "rewind": ("rewind",), "fork": ("fork",), "auto": ("rewind", "fork")}
"""what is tried when steps were rolled back, one after the other; then they are kept"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How one run was told so far, kept beside its lines."""

    id: str
    """of the run at W&B"""
    shifts: tuple[tuple[int, int], ...] = ((0, 0),)
    """(number of a line, by how much its `_step` is less and that of those after it)"""
    branched: int = -1
    """number of the last rewind that was dealt with"""
    taken: bool = False
    """W&B took its steps back, or went on in a fork"""
    refused: tuple[tuple[str, str], ...] = ()
    """(way, why) of what the server would not do for the next one"""
    forks: int = 0
    url: str = ""
    delivered: int = 0
    """lines that W&B is known to have"""
    finished: bool = False
    """W&B has every line, and knows that the run is over"""
    stop_obeyed: bool = False
    """a Stop button was obeyed"""

    def step(self, number: int) -> int:
        """The `_step` of a line."""
        return number - next(shift for first, shift in reversed(self.shifts) if number >= first)

    def number(self, step: int) -> int:
        """The line of a `_step`."""
        found = (step + shift for first, shift in reversed(self.shifts) if step + shift >= first)
        return next(found, step)

    def tells(self, line: Line) -> bool:
        """Copies of marks are for who lost the marks."""
        return line.kind != "copy" or self.taken


def way(course: Course, number: int, line: Line, after_rewind: str) -> str:
    """What is to be tried at a line: `rewind`, `fork`, `append`; empty: nothing is to be decided there."""
    if line.kind != "rewind" or number <= course.branched:
        return ""
    if line.keep is None:
        return "append"
    tried = {name for name, _ in course.refused}
    return next((name for name in WAYS[after_rewind] if name not in tried), "append")


def branched(course: Course, number: int, keep: int | None, how: str, new_id: str = "") -> Course:
    """The course beyond a rewind at `number`, dealt with in this way."""
    if how == "append" or keep is None:
        return replace(course, branched=number, taken=False, refused=())
    shifts = (*course.shifts, (number, number - course.step(keep) - 1))
    return replace(course, branched=number, taken=True, refused=(), shifts=shifts, id=new_id or course.id)


def skipped(course: Course, count: int, step: int) -> Course:
    """The course when W&B has more than the `count` lines that there are: a disk lost the last ones. What comes next
    must not look like them."""
    lost = course.number(step) - count
    return course if lost <= 0 else replace(course, shifts=(*course.shifts, (count, course.shifts[-1][1] - lost)))

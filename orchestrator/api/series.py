"""Which lines does a chart show? By world, what was rolled back apart from what is in the weights."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.api.course import Course
from orchestrator.api.rows import STEPPED, Rows, within
from orchestrator.api.sampling import Line, Point, reduced
from orchestrator.journal import Journal
from orchestrator.timeline import Timeline

UNITS = {
    "loss": "",
    "grad_norm": "",
    "lr": "",
    "tokens_per_s": "tokens/s",
    "step_s": "s",
    "own_p50_s": "s",
    "own_max_s": "s",
    "slowest_rank_s": "s",
    "power_w": "W",
    "temperature_c": "°C",
    "save_s": "s",
    "stall_s": "s",
}
"""every name there is, and what it is counted in"""
POINTS_LEAST, POINTS_MOST, POINTS = 10, 4000, 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a chart wants."""

    names: tuple[str, ...]
    start: float | None
    end: float | None
    points: int


def answer(asked: Asked, course: Course, rows: Rows, journal: Journal) -> dict[str, Any]:
    """The body of `/api/runs/RUN/series`."""
    line = course.timeline()
    everything = asked.start is None and asked.end is None
    start = float("-inf") if asked.start is None else asked.start
    end = float("inf") if asked.end is None else asked.end
    told: list[tuple[str, list[dict[str, Any]]]] = []
    for name in asked.names:
        lines = _of_worlds(name, course, rows, line)
        crowded = any(one.total > len(one.points) for _, one in lines)
        if not everything and name in STEPPED and crowded:
            lines = list(within(journal, course.run, name, start, end).items())
        told.append((name, list(_segments(lines, line, start, end, asked.points))))
    band = _band(rows, start, end) if "loss" in asked.names else None
    ats = [at for _, segments in told for segment in segments for at in (segment["at"][0], segment["at"][-1])]
    series = [
        {
            "name": name,
            "unit": UNITS[name],
            "source": "rows" if name in STEPPED else "events",
            "segments": segments,
            "band": band if name == "loss" else None,
        }
        for name, segments in told
    ]
    return {"from": asked.start or min(ats, default=0.0), "to": asked.end or max(ats, default=0.0), "series": series}


def _of_worlds(name: str, course: Course, rows: Rows, line: Timeline) -> list[tuple[int, Line]]:
    if name in STEPPED:
        return [(world, lines[name]) for world, lines in sorted(rows.lines.items()) if name in lines]
    whole = course.charts.lines.get(name)
    return [] if whole is None else list(_by_world(whole, line))


def _by_world(whole: Line, line: Timeline) -> Iterator[tuple[int, Line]]:
    """What events told, which do not all say their world: the one that was ordered last by then."""
    numbers = sorted(line.worlds)
    begins = [line.worlds[number].ordered_at for number in numbers]
    cuts = [bisect_left([point.at for point in whole.points], at) for at in begins] + [len(whole.points)]
    for n, number in enumerate(numbers):
        part = Line()
        part.add(whole.points[cuts[n] : cuts[n + 1]])
        if part.points:
            yield number, part


def _segments(
    lines: Iterable[tuple[int, Line]], line: Timeline, start: float, end: float, buckets: int
) -> Iterator[dict[str, Any]]:
    shown = [(world, _inside(one.points, start, end), one.total) for world, one in lines]
    ats = [points[n].at for _, points, _ in shown if points for n in (0, -1)]
    width_s = max((max(ats) - min(ats)) / buckets, 1e-6) if ats else 1.0
    for world, points, total in shown:
        kept = kept_to(line, world)
        for rolled_back, part in _split(points, kept):
            few = reduced(part, min(ats), width_s) if len(part) > buckets else part
            yield {
                "attempt": line.worlds[world].attempt if world in line.worlds else 0,
                "world": world,
                "rolled_back": rolled_back,
                "at": [point.at for point in few],
                "step": [point.step for point in few],
                "y": [point.y for point in few],
                "total": total,
            }


def kept_to(line: Timeline, world: int) -> float:
    """The last step of a world that no later one went back before; infinite: all are in the weights."""
    later = [one.from_step for number, one in line.worlds.items() if number > world and one.from_step is not None]
    return min(later, default=float("inf"))


def _split(points: Sequence[Point], kept: float) -> Iterator[tuple[bool, Sequence[Point]]]:
    """Steps of a world only grow, so there is one place where what was lost begins."""
    first_lost = next((n for n, point in enumerate(points) if (point.step or 0) > kept), len(points))
    if first_lost:
        yield False, points[:first_lost]
    if first_lost < len(points):
        yield True, points[first_lost:]


def _inside(points: list[Point], start: float, end: float) -> list[Point]:
    ats = [point.at for point in points]
    return points[bisect_left(ats, start) : bisect_right(ats, end)]


def _band(rows: Rows, start: float, end: float) -> dict[str, Any] | None:
    samples = [sample for sample in rows.band.samples if start <= sample[0] <= end]
    if not samples:
        return None
    at, step, centre, high = (list(column) for column in zip(*samples, strict=True))
    return {"at": at, "step": step, "centre": centre, "low": None, "high": high}

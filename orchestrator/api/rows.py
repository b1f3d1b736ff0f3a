"""What did the ranks report, step by step? The lines of a run's charts, read from the journal once and then along.

A line for each value and world, so that what was trained twice is two lines.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from monitors.detect.loss_level import Level, LevelConfig
from orchestrator.api.sampling import Line, Point, reduced
from orchestrator.journal import Journal

STEPPED = ("loss", "grad_norm", "lr", "tokens_per_s", "step_s")
SPARKS = 48
BAND_ROWS = 20_000
"""newest rows of which the detector's band is drawn: its median costs some microseconds for each"""
BAND_EVERY = 8
BAND_MOST = 2500


@dataclass(slots=True)
class Band:
    """What the loss detector takes for usual."""

    level: Level = field(default_factory=lambda: Level(LevelConfig()))
    samples: list[tuple[float, int, float, float]] = field(default_factory=list)
    """(at, step, centre, high)"""
    _count: int = 0

    def see(self, at: float, step: int, loss: float) -> None:
        """The next loss of the present line of steps."""
        reading = self.level.read(loss) if math.isfinite(loss) else None
        if math.isfinite(loss) and not (reading is not None and reading.strong):
            self.level.accept(loss)
        self._count += 1
        if self._count % BAND_EVERY or not self.level.is_known:
            return
        config, centre = self.level.config, self.level.median
        above = max(config.floor * abs(centre), max(0.0, self.level.usual) + config.strong_sigmas * self.level.sigma)
        self.samples.append((at, step, centre, centre + above))
        if len(self.samples) > BAND_MOST:
            del self.samples[: BAND_MOST // 2 : 2]


class Rows:
    """The steps of one run that were reported, as lines."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._read_to: dict[int, int] = {}
        """the newest step of each world that was read"""
        self.lines: dict[int, dict[str, Line]] = {}
        """world to name to line"""
        self.band = Band()
        self._sparks: list[tuple[int, float]] = []

    def catch_up(self, journal: Journal) -> bool:
        """Read what is new; whether anything was. A step of the world before may come after the first of the next."""
        newest = max(self._read_to, default=0)
        found = False
        for world in journal.worlds(self._run, max(0, newest - 1)):
            while rows := journal.columns(self._run, world, self._read_to.get(world, -1)):
                found = True
                self._read_to[world] = rows[-1][0]
                self._take(world, rows)
        return found

    @property
    def sparkline(self) -> list[float]:
        """The newest losses, few of them."""
        points = [Point(float(n), None, y) for n, (_, y) in enumerate(self._sparks)]
        # Four of each bucket: first, last, least, greatest, and those that are not finite where there are such.
        few = reduced(points, 0.0, max(1.0, len(points) * 4 / SPARKS))
        return [point.y for point in few]

    def _take(self, world: int, rows: Iterable[tuple[Any, ...]]) -> None:
        read = list(rows)
        lines = self.lines.setdefault(world, {})
        for name, points in columns(read):
            if points:
                lines.setdefault(name, Line()).add(points)
        losses = [(step, at, float(loss)) for step, at, loss, *_ in read if loss is not None]
        for step, at, loss in losses[-BAND_ROWS:]:
            self.band.see(at, step, loss)
        self._sparks = (self._sparks + [(step, loss) for step, _, loss in losses[-256:]])[-256:]


def columns(rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[str, list[Point]]]:
    """Name and points of each line that these rows go on with."""
    for number, name in ((2, "loss"), (3, "grad_norm"), (4, "lr"), (6, "step_s")):
        yield name, [Point(row[1], row[0], float(row[number])) for row in rows if row[number] is not None]
    yield "tokens_per_s", [Point(row[1], row[0], float(row[5]) / float(row[6])) for row in rows if row[5] and row[6]]


def within(journal: Journal, run: str, name: str, start: float, end: float) -> dict[int, Line]:
    """The lines of one value inside a stretch of time, at full resolution: what a chart asks for that is zoomed."""
    found: dict[int, Line] = {}
    for world in journal.worlds(run):
        after = -1
        while rows := journal.columns(run, world, after):
            after = rows[-1][0]
            inside = [row for row in rows if start <= row[1] <= end]
            points = dict(columns(inside))[name] if inside else []
            if points:
                found.setdefault(world, Line()).add(points)
            if rows[0][1] > end:
                break
    return found

"""What is new of a run that somebody looks at? Points for its charts, and events with their sentences."""

from __future__ import annotations

from typing import Any

from orchestrator import timeline
from orchestrator.api.course import Charts
from orchestrator.api.events import told
from orchestrator.api.rows import columns
from orchestrator.core import events as e
from orchestrator.journal import Entry, Journal

BEHIND_ROWS = 2000
"""of a run so much quicker than it is looked at, the rest is read with the next page"""


class Following:
    """One run, from the moment that somebody looks."""

    def __init__(self, run: str, journal: Journal) -> None:
        self._run = run
        self._charts = Charts()
        self._course = timeline.Course()
        self._entries: list[Entry] = []
        self._world = 0
        self.kpi_at = 0.0
        """when its numbers were told last, and `ranks_at`: its ranks"""
        self.ranks_at = 0.0
        newest = journal.rows(run, limit=1)
        self._read_to = {row.world: row.step for row in newest}
        self._since = max(self._read_to, default=0)

    def see(self, entry: Entry) -> None:
        """An entry that is new."""
        self._course.see(entry)
        self._charts.see(entry.event)
        if isinstance(entry.event, e.Progressed):
            self._world = entry.event.world
        if not isinstance(entry.event, e.Progressed | e.TimePassed) or entry.reason or entry.actions or entry.opened:
            self._entries.append(entry)

    def events(self) -> list[dict[str, Any]]:
        """What was decided since the last time."""
        entries, self._entries = self._entries, []
        return told(entries, self._course.timeline()) if entries else []

    def points(self, journal: Journal) -> dict[str, list[list[Any]]]:
        """What each line goes on with since the last time: `[at, step, y, world]`."""
        found: dict[str, list[list[Any]]] = {}
        for name, line in self._charts.lines.items():
            if line.points:
                found[name] = [[*point, self._world] for point in line.points]
                line.points = []
        since = max(self._since, max(self._read_to, default=0) - 1)  # a step of the world before may come late
        for world in journal.worlds(self._run, since):
            rows = journal.columns(self._run, world, self._read_to.get(world, -1))[:BEHIND_ROWS]
            if rows:
                self._read_to[world] = rows[-1][0]
            for name, points in columns(rows):
                found.setdefault(name, []).extend([*point, world] for point in points)
        return {name: points for name, points in found.items() if points}

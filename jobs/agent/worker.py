"""What is known of the process that holds a rank?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jobs.agent.child import Child
from jobs.agent.survivors import Line
from monitors.sense import flight_recorder
from monitors.sense.progress import RankSense
from monitors.signals import Failure, RankStarted


@dataclass(slots=True, kw_only=True)
class Worker:
    """One rank of one world."""

    rank: int
    child: Child
    sense: RankSense
    folder: Path
    started: RankStarted
    line: Line | None = None
    """by which it may leave the world instead of ending with it"""
    left: bool = False
    """it did"""
    ordered: bool = False
    """its end was ordered"""
    failure: Failure | None = None
    """why the agent itself ended it"""

    @property
    def recorder(self) -> flight_recorder.Where:
        """What it recorded of its collectives."""
        where = self.started
        return flight_recorder.Where(node=where.node, world=where.world, rank=self.rank, folder=self.folder)

"""Which incidents did a drill provoke? A fault that only happens after one was asked for is a real one."""

from __future__ import annotations

from collections.abc import Iterable

from monitors.incidents import Incident, Kind
from orchestrator.core import events as e
from orchestrator.drills import DRILLS

Drill = e.DrillRequested | e.DrillDone

ALSO: dict[str, frozenset[Kind]] = {
    "stop": frozenset({Kind.START_STALLED}),
    "spin": frozenset({Kind.START_STALLED}),
    "exception": frozenset({Kind.CRASH_LOOP}),
    "exit": frozenset({Kind.CRASH_LOOP}),
    "agent": frozenset({Kind.NODE_UNSEEN}),
}
"""what else than its table says a drill may look like"""
OF_A_RANK = frozenset(
    {Kind.WORKER_KILLED, Kind.WORKER_EXCEPTION, Kind.CRASH_LOOP, Kind.HANG, Kind.STRAGGLER, Kind.CODE_DIVERGENCE}
)
"""kinds that name the rank that is at fault: when they are sure of it, and it is not the drill's, the fault is real"""
REACH_S = 120.0
"""Between the drill and the onset of what it provokes: a step, a few polls. Also backwards: a rank that is stopped was
last seen to move before it was."""
READ_S = 600.0
"""a damaged checkpoint shows when it is read"""


def by(drills: Iterable[Drill], incidents: Iterable[Incident]) -> list[str | None]:
    """For each incident the drill that provoked it; a drill provokes one incident only."""
    left = [drill for drill in drills if _bites(drill)]
    return [_taken(left, incident) for incident in incidents]


def expected(drill: str) -> frozenset[Kind]:
    """What a drill provokes; one that is not in the table may provoke anything."""
    row = DRILLS.get(drill)
    return frozenset(Kind) if row is None else ALSO.get(drill, frozenset()) | {row.expects}


def _bites(drill: Drill) -> bool:
    """What an agent or a rank does, it tells of when it does it; the others were done by whoever asked."""
    return isinstance(drill, e.DrillDone) or drill.rank is None


def _taken(left: list[Drill], incident: Incident) -> str | None:
    for drill in left:
        if _fits(drill, incident):
            left.remove(drill)
            return drill.drill
    return None


def _fits(drill: Drill, incident: Incident) -> bool:
    if incident.kind not in expected(drill.drill):
        return False
    after_s = incident.onset - drill.at
    if isinstance(drill, e.DrillRequested):
        return -REACH_S <= after_s <= (READ_S if drill.drill == "flip" else REACH_S)
    named = incident.subject.rank if incident.kind in OF_A_RANK and incident.confidence >= 1.0 else None
    elsewhere = named is not None and drill.rank is not None and named != drill.rank
    return incident.world == drill.world and abs(after_s) <= REACH_S and not elsewhere

"""How many seconds did each part of a recovery take?"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.timeline import Case, Timeline, World


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """Seconds. None: did not happen, or not yet. Those that are not None follow each other without a gap."""

    detect: float
    """from the onset to the conclusion"""
    decide: float
    """from the conclusion to the decision"""
    stop: float | None = None
    """from the decision until no worker was left"""
    wait: float | None = None
    """until the order to start the world that made it: back-off, the scheduler's queue, worlds that failed too"""
    start: float | None = None
    """from that order until every rank reached its training loop; to the first step for a script without the SDK"""
    restore: float | None = None
    """until every rank held its state"""
    first_step: float | None = None
    """until a step was finished"""
    total: float | None = None
    """from the onset to the first step"""


def of(case: Case, timeline: Timeline) -> Phases:
    """The phases of one incident. A time that lies before the one it follows counts as equal to it."""
    incident = case.incident
    world = timeline.worlds.get(case.world) if case.world is not None else None
    stamps = (case.decided_at, *_stamps(case, world))
    lengths: list[float | None] = []
    since = incident.at
    for stamp in stamps:
        lengths.append(None if stamp is None else max(0.0, stamp - since))
        since = since if stamp is None else max(since, stamp)
    decide, stop, wait, start, restore, first_step = lengths
    assert decide is not None
    return Phases(
        detect=incident.at - incident.onset,
        decide=decide,
        stop=stop,
        wait=wait,
        start=start,
        restore=restore,
        first_step=first_step,
        total=None if case.over_at is None else since - incident.onset,
    )


def _stamps(case: Case, world: World | None) -> tuple[float | None, ...]:
    """Ends of stop, wait, start, restore, first step."""
    if world is None:
        return (case.stopped_at, None, None, None, None)
    # Nothing had to be ended when every worker was gone before the decision.
    stopped_at = case.decided_at if case.stopped_at is None else case.stopped_at
    if world.entered_at is None:
        return (stopped_at, world.ordered_at, world.first_step_at, None, None)
    return (stopped_at, world.ordered_at, world.entered_at, world.restored_at, world.first_step_at)

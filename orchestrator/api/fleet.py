"""Which machines were in a run, and which of them are named again and again? Called in the desk's thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.api.course import Course
from orchestrator.api.desk import Desk

MONTH_S = 30 * 86400.0
REPEATED = 3


def nodes(desk: Desk) -> dict[str, Any]:
    """The body of `/api/nodes`."""
    now = desk.clock.now()
    named = [one for one in _named(desk) if one["at"] >= now - MONTH_S]
    found: dict[str, dict[str, Any]] = {}
    for run in desk.runs():
        phase = desk.journal.phase(run)
        for host, (node, joined_at, gone_at) in desk.course(run).hosts.items():
            row = found.setdefault(host, {"host": host, "runs": [], "joined_at": None, "gone_at": None})
            row["runs"].append({"run": run, "node": node, "state": desk.word(phase)})
            if row["joined_at"] is None or joined_at > row["joined_at"]:
                row["joined_at"], row["gone_at"] = joined_at, gone_at
    rows = [row | _record(host, named) for host, row in found.items()]
    return {"nodes": sorted(rows, key=lambda row: (-row["incidents_30d"], row["host"]))}


def _record(host: str, named: list[dict[str, Any]]) -> dict[str, Any]:
    own = [one for one in named if one["host"] == host]
    last = max(own, key=lambda one: one["at"], default=None)
    return {
        "incidents_30d": len(own),
        "kinds": dict(Counter(one["kind"] for one in own)),
        "last": {name: last[name] for name in ("run", "id", "kind", "at")} if last else None,
        "repeat": len(own) >= REPEATED,
    }


def named_on(desk: Desk, host: str) -> list[dict[str, Any]]:
    """Incidents that named a machine, newest first."""
    found = [{name: one[name] for name in ("run", "id", "kind", "at")} for one in _named(desk) if one["host"] == host]
    return sorted(found, key=lambda one: -one["at"])[:50]


def _named(desk: Desk) -> Iterator[dict[str, Any]]:
    for run in desk.runs():
        course = desk.course(run)
        for case in course.timeline().cases:
            if case.drill is None and (host := _host(course, case.incident.subject.node, case.incident.at)) is not None:
                yield {
                    "host": host,
                    "run": run,
                    "id": case.id,
                    "kind": case.incident.kind.value,
                    "at": case.incident.at,
                }


def host_of(course: Course, one: Mapping[str, Any]) -> str | None:
    """The machine that an incident names; None: it names none."""
    return _host(course, one["subject"]["node"], one["detected"])


def _host(course: Course, node: int | None, at: float) -> str | None:
    """Which machine was node `node` of a run at a time."""
    joined = [(joined_at, host) for joined_at, index, host in course.joined if index == node and joined_at <= at]
    return max(joined)[1] if joined else None

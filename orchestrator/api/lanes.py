"""How is the course of a run drawn? A lane for each attempt and world, its time coloured by the ledger's buckets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from monitors.incidents import Kind
from orchestrator.api.course import Course
from orchestrator.core.policy import Policy, Rung
from orchestrator.spans import Span
from orchestrator.story import describe
from orchestrator.timeline import Timeline

SHARE = 1000
"""what is shorter than such a part of the range is joined with its neighbours"""
_SAID = {
    "supervisor": "a new supervisor took over",
    "policy": "the runbooks changed",
    "drill": "a drill was asked for",
    "stop": "asked to stop",
    "resume": "asked to go on",
    "pause": "asked to pause",
    "restart": "asked for new ranks",
    "note": "said something about an incident",
}


def answer(
    course: Course, policy: Policy | None, now: float, *, start: float | None, end: float | None, least_s: float | None
) -> dict[str, Any]:
    """The body of `/api/runs/RUN/timeline`."""
    line, spans = course.timeline(), course.account.spans(now)
    first = start if start is not None else spans[0].start_ms / 1000 if spans else now
    last = end if end is not None else spans[-1].end_ms / 1000 if spans else now
    shortest = max(0.001, (last - first) / SHARE if least_s is None else least_s)
    shown = [span for span in spans if span.end_ms > first * 1000 and span.start_ms < last * 1000]
    return {
        "from": first,
        "to": last,
        "lanes": list(lanes(shown, line, shortest)),
        "markers": sorted(
            (mark for mark in markers(course, line, policy) if first <= mark["at"] <= last), key=lambda mark: mark["at"]
        ),
    }


def lanes(spans: Sequence[Span], line: Timeline, least_s: float) -> Iterator[dict[str, Any]]:
    """Spans of one world in a row are a lane."""
    groups = [(world, list(group)) for world, group in groupby(spans, key=lambda span: span.world)]
    for n, (number, group) in enumerate(groups):
        world = line.worlds.get(number)
        steps = [span for span in group if span.last_step]
        yield {
            "attempt": world.attempt if world else 0,
            "world": number,
            "from": group[0].start_ms / 1000,
            "to": group[-1].end_ms / 1000,
            "open": n == len(groups) - 1 and (world is None or world.ended_at is None),
            "from_step": world.from_step if world else None,
            "to_step": max(span.last_step for span in steps) if steps else None,
            "checkpoint": world.checkpoint if world else None,
            "spans": list(merged(group, least_s)),
        }


def merged(spans: Iterable[Span], least_s: float) -> Iterator[list[Any]]:
    """`[from, to, bucket, mixed]`: neighbours of one bucket are one, and short ones are joined until they are long."""
    pending: list[tuple[float, float, str]] = []
    for start, end, bucket in _joined(spans):
        if not pending and end - start >= least_s:
            yield [start, end, bucket, False]
            continue
        if pending and end - start >= least_s:
            yield _mixed(pending)
            pending = []
            yield [start, end, bucket, False]
            continue
        pending.append((start, end, bucket))
        if end - pending[0][0] >= least_s:
            yield _mixed(pending)
            pending = []
    if pending:
        yield _mixed(pending)


def _joined(spans: Iterable[Span]) -> Iterator[tuple[float, float, str]]:
    for bucket, group in groupby(spans, key=lambda span: span.bucket.value):
        found = list(group)
        yield found[0].start_ms / 1000, found[-1].end_ms / 1000, bucket


def _mixed(parts: list[tuple[float, float, str]]) -> list[Any]:
    spent: dict[str, float] = {}
    for start, end, bucket in parts:
        spent[bucket] = spent.get(bucket, 0.0) + end - start
    return [parts[0][0], parts[-1][1], max(spent, key=spent.__getitem__), len(spent) > 1]


def markers(course: Course, line: Timeline, policy: Policy | None) -> Iterator[dict[str, Any]]:
    """Points in time that explain the lanes."""
    severity: Callable[[Kind], str | None] = lambda kind: policy.responses[kind].severity.value if policy else None  # noqa: E731
    for case in line.cases:
        said = case.incident.evidence[0] if case.incident.evidence else ""
        mark = _mark(case.incident.onset, "incident", case.incident.world, f"{case.incident.kind}: {said}")
        yield mark | {"id": case.id, "until": case.resolved_at, "severity": severity(case.incident.kind)}
        if case.world is not None and case.rung is not Rung.OBSERVE and case.world in line.worlds:
            did = [text for _, action in case.actions if (text := describe(action)) is not None]
            yield _mark(line.worlds[case.world].ordered_at, "restart", case.world, did[-1] if did else "restarted")
    for at, kind, who in course.marks:
        text = f"{_SAID[kind]}: {who}" if kind == "drill" else f"{who} {_SAID[kind]}" if who else _SAID[kind]
        yield _mark(at, kind, 0, text)


def _mark(at: float, kind: str, world: int, text: str) -> dict[str, Any]:
    return {"at": at, "kind": kind, "id": None, "until": None, "severity": None, "world": world, "text": text}

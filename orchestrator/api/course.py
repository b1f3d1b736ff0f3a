"""What did one run go through? Walked once, and further on from there: a long journal is never walked again.

Spans of time that lie back are made coarser, as nobody can see a stall of a second of yesterday: each stays as long as
it was. Sums, times and steps stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from orchestrator import ledger, timeline
from orchestrator.api.sampling import Line, Point
from orchestrator.core import events as e
from orchestrator.core.policy import Rung
from orchestrator.journal import Entry, Journal
from orchestrator.ledger import Bucket, Ledger, Span
from orchestrator.timeline import Timeline

COARSE_AFTER_S = ((86400.0, 3600.0), (7200.0, 600.0), (600.0, 60.0))
"""what is older than the first is told in pieces of the second"""
SPANS_BEFORE_COARSENING = 500
TRAINED = (Bucket.CHECKPOINT_STALL, Bucket.DATA_STALL, Bucket.PRODUCTIVE)
ENERGY_EVERY_S = 30.0
ASKED: dict[type, str] = {
    e.StopRequested: "stop",
    e.ResumeRequested: "resume",
    e.PauseRequested: "pause",
    e.RestartRequested: "restart",
}
DAY_S = 86400.0


class Course:
    """The walk over one run's journal, standing behind the newest entry that was read."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.read_to = 0
        """id of the newest entry that was read"""
        self.opened_in: dict[str, int] = {}
        """incident to the entry that concluded it, and `closed_in` to the one that closed it"""
        self.closed_in: dict[str, int] = {}
        self.lines: dict[str, Line] = {}
        """what events tell, for charts: name to line"""
        self.marks: list[tuple[float, str, str]] = []
        """(at, kind, who) of what people did, and of supervisors"""
        self.said: dict[str, list[e.Said]] = {}
        """what people said of each incident"""
        self.pinned: dict[str, bool] = {}
        self.ranks = 0
        self._timeline = timeline.Course()
        self._walk: ledger.Walk | None = None
        self._coarse_at = 0
        self._energies: list[Entry] = []
        self._read: e.EnergyRead | None = None

    def catch_up(self, journal: Journal) -> bool:
        """Read what is new; whether anything was."""
        new = journal.entries(self.run, self.read_to, thin=True)
        for entry in new:
            self._see(entry)
        if self._walk is not None and new and len(self._walk.spans) - self._coarse_at > SPANS_BEFORE_COARSENING:
            self._walk.spans = coarse(self._walk.spans, new[-1].event.at)
            self._coarse_at = len(self._walk.spans)
        return bool(new)

    def timeline(self) -> Timeline:
        """Attempts, worlds and incidents."""
        return self._timeline.timeline()

    def spans(self, now: float) -> list[Span]:
        """Where the time went."""
        return self._walk.until(now) if self._walk else []

    def ledger(self, now: float) -> Ledger:
        """The books."""
        return ledger.summed(self.spans(now), self.timeline(), self._energies, ranks=self.ranks)

    def power(self) -> float | None:
        """Watts of all GPUs that were read last."""
        line = self.lines.get("power_w")
        return line.points[-1].y if line and line.points else None

    def _see(self, entry: Entry) -> None:
        self.read_to = entry.id
        self._timeline.see(entry)
        self._walk = self._walk or ledger.Walk(entry.event.at)
        self._walk.see(entry)
        for opened in entry.opened:
            self.opened_in.setdefault(opened.id, entry.id)
        for closed in entry.closed:
            self.closed_in[closed] = entry.id
        self._chart(entry.event)
        self._mark(entry.event)
        if isinstance(entry.event, e.Progressed | e.NodeStopped) and entry.event.energy is not None:
            self._keep(entry, entry.event.energy)

    def _keep(self, entry: Entry, read: e.EnergyRead) -> None:
        last = self._energies[-2:]
        reads = [one.event.energy for one in last if isinstance(one.event, e.Progressed | e.NodeStopped)]
        crowded = len(reads) == 2 and reads[0] is not None and reads[0].since == read.since
        if crowded and reads[0] is not None and read.until - reads[0].until < ENERGY_EVERY_S:
            self._energies.pop()
        self._energies.append(entry)

    def _chart(self, event: e.Event) -> None:
        match event:
            case e.RunSubmitted():
                self.ranks = event.plan.nodes * event.plan.ranks_per_node
            case e.CheckpointCommitted():
                self._plot("save_s", event.at, event.step, event.write_s)
                self._plot("stall_s", event.at, event.step, event.stall_s)
            case e.Progressed():
                self._progress(event)
            case _:
                pass

    def _progress(self, event: e.Progressed) -> None:
        if event.own_s is not None:
            self._plot("own_p50_s", event.at, event.step, event.own_s[0])
            self._plot("own_max_s", event.at, event.step, event.own_s[1])
        self._plot("slowest_rank_s", event.at, event.step, event.slowest_s)
        self._plot("temperature_c", event.at, event.step, event.temperature_c)
        read, before = event.energy, self._read
        if read is None:
            return
        if before is not None and before.since == read.since and read.until - before.until >= 0.5:
            self._plot("power_w", event.at, event.step, (read.joules - before.joules) / (read.until - before.until))
        elif before is not None and before.since == read.since:
            return
        self._read = read

    def _plot(self, name: str, at: float, step: int | None, value: float | None) -> None:
        if value is not None:
            self.lines.setdefault(name, Line()).add((Point(at, step, value),))

    def _mark(self, event: e.Event) -> None:
        match event:
            case e.SupervisorStarted(last_alive=float()):
                self.marks.append((event.at, "supervisor", ""))
            case e.PolicyChanged():
                self.marks.append((event.at, "policy", ""))
            case e.DrillRequested():
                self.marks.append((event.at, "drill", event.drill))
            case e.StopRequested() | e.ResumeRequested() | e.PauseRequested() | e.RestartRequested():
                self.marks.append((event.at, ASKED[type(event)], event.by))
            case e.IncidentAcknowledged() | e.IncidentNoted() | e.IncidentJudged() | e.IncidentResolved():
                self.said.setdefault(event.incident, []).append(event)
                self.marks.append((event.at, "note", event.by))
            case e.CheckpointPinned():
                self.pinned[event.checkpoint] = event.pinned
            case _:
                pass


def restarts_since(course: Timeline, at: float) -> int:
    """Worlds that were started for a fault since then."""
    worlds = {c.world for c in course.cases if c.world is not None and c.rung is not Rung.OBSERVE}
    return sum(1 for number in worlds if number in course.worlds and course.worlds[number].ordered_at >= at)


def coarse(spans: Sequence[Span], now: float) -> list[Span]:
    """The same time in fewer spans: in each piece of it that lies back, what a world's steps took is added up."""
    return [span for _, group in groupby(spans, lambda span: _piece(span, now)) for span in _merged(list(group))]


def _piece(span: Span, now: float) -> tuple[object, ...]:
    if span.bucket not in TRAINED:
        return (span.start_ms, span.bucket)
    age_s = now - span.end_ms / 1000
    for older_s, piece_s in COARSE_AFTER_S:
        if age_s > older_s:
            return (span.world, piece_s, int(span.start_ms / 1000 // piece_s))
    return (span.start_ms,)


def _merged(group: list[Span]) -> Iterator[Span]:
    """What steps took in one piece of time, each bucket in one span; the steps are those of the productive one."""
    if len(group) < 2 or group[0].bucket not in TRAINED:
        yield from group
        return
    cursor_ms, first, last = group[0].start_ms, group[0].first_step, group[-1].last_step
    for bucket in TRAINED:
        length_ms = sum(span.end_ms - span.start_ms for span in group if span.bucket is bucket)
        if not length_ms:
            continue
        reached = last if bucket is Bucket.PRODUCTIVE else first
        yield replace(
            group[0],
            bucket=bucket,
            start_ms=cursor_ms,
            end_ms=cursor_ms + length_ms,
            first_step=first,
            last_step=reached,
        )
        cursor_ms += length_ms

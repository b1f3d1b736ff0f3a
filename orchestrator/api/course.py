"""What did one run go through? Walked once, and further on from there: a long journal is never walked again."""

from __future__ import annotations

from typing import Any

from orchestrator.api.sampling import Line, Point
from orchestrator.core import events as e
from orchestrator.core.policy import Rung
from orchestrator.journal import Entry, Journal
from orchestrator.ledger import Account
from orchestrator.timeline import Timeline

ASKED: dict[type, str] = {
    e.StopRequested: "stop",
    e.ResumeRequested: "resume",
    e.PauseRequested: "pause",
    e.RestartRequested: "restart",
}


class Charts:
    """What events tell of a run as lines, by name."""

    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}
        self._read: e.EnergyRead | None = None

    def see(self, event: e.Event) -> None:
        """The next event."""
        match event:
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
        if before is not None and before.since == read.since:
            spent_s = read.until - before.until
            if spent_s < 0.5:
                return
            self._plot("power_w", event.at, event.step, (read.joules - before.joules) / spent_s)
        self._read = read

    def _plot(self, name: str, at: float, step: int | None, value: float | None) -> None:
        if value is not None:
            self.lines.setdefault(name, Line()).add((Point(at, step, value),))


class Course:
    """The walk over one run's journal, standing behind the newest entry that was read."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.read_to = 0
        """id of the newest entry that was read"""
        self.account = Account()
        self.opened_in: dict[str, int] = {}
        """incident to the entry that concluded it, and `closed_in` to the one that closed it"""
        self.closed_in: dict[str, int] = {}
        self.charts = Charts()
        self.marks: list[tuple[float, str, str]] = []
        """(at, kind, who) of what people did, and of supervisors"""
        self.bill: tuple[tuple[int, int], float, dict[str, dict[str, Any]]] | None = None
        """what each incident cost, reckoned when, and of what"""
        self.hosts: dict[str, tuple[int, float, float | None]] = {}
        """machine to (node, when its agent dialled last, when that was found dead)"""
        self.joined: list[tuple[float, int, str]] = []
        """(at, node, machine), each time that another one took a node's place"""

    def catch_up(self, journal: Journal) -> bool:
        """Read what is new; whether anything was."""
        new = journal.entries(self.run, self.read_to, thin=True)
        for entry in new:
            self._see(entry)
        return bool(new)

    def timeline(self) -> Timeline:
        """Attempts, worlds and incidents."""
        return self.account.timeline()

    def power(self) -> float | None:
        """Watts of all GPUs that were read last."""
        line = self.charts.lines.get("power_w")
        return line.points[-1].y if line and line.points else None

    def _see(self, entry: Entry) -> None:
        self.read_to = entry.id
        self.account.see(entry)
        for opened in entry.opened:
            self.opened_in.setdefault(opened.id, entry.id)
        for closed in entry.closed:
            self.closed_in[closed] = entry.id
        self.charts.see(entry.event)
        self._mark(entry.event)

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
                self.marks.append((event.at, "note", event.by))
            case e.AgentJoined():
                if self.hosts.get(event.host, (None, 0.0, None))[0] != event.node:
                    self.joined.append((event.at, event.node, event.host))
                self.hosts[event.host] = (event.node, event.at, None)
            case e.AgentGone():
                for host, (node, at, gone_at) in self.hosts.items():
                    if node == event.node and gone_at is None:
                        self.hosts[host] = (node, at, event.at)
            case _:
                pass


def restarts_since(course: Timeline, at: float) -> int:
    """Worlds that were started for a fault since then."""
    worlds = {case.world for case in course.cases if case.world is not None and case.rung is not Rung.OBSERVE}
    return sum(1 for number in worlds if number in course.worlds and course.worlds[number].ordered_at >= at)

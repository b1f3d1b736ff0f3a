"""Which rank holds up every step?

Steps that became slower raise the question; nobody is told of that alone. The answer comes from each rank's own time:
as ranks report it, as they count their wait for data, or from their flight recorders, which are asked then. Where the
work of the CPU tells nothing (a slow GPU makes all ranks wait alike), a GPU that is held back is named. When nobody is,
the run works so now, and what is usual is learned anew.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median

from monitors.detect.straggler_arrivals import Arrivals, OwnTimes
from monitors.detect.straggler_blame import Named, named, spread, weighed
from monitors.detect.straggler_hardware import Hardware, Hint
from monitors.detect.straggler_own import OwnReports
from monitors.detect.straggler_pace import Pace, PaceConfig
from monitors.detect.straggler_search import Search
from monitors.detect.straggler_waits import DataWaits
from monitors.hardware import GpuLooked, HostLooked
from monitors.incidents import Blame, Incident, Kind, Subject
from monitors.placement import RankOf
from monitors.signals import (
    CollectivesLooked,
    Phase,
    ProcessLooked,
    RankExited,
    RankProgress,
    RanksReported,
    Signal,
    StepReported,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StragglerConfig:
    """How much slower is worth telling."""

    pace: PaceConfig = field(default_factory=PaceConfig)
    share_of_delay: float = 0.5
    """of what the steps became longer by: as much of it the culprit must have more of its own work"""
    least: float = 0.05
    """of a usual step: less is not worth a person's time"""
    static: float = 0.2
    """of a usual step: for a rank that is slower than the others from the start"""
    answers_s: float = 3.0
    """how long flight recorders are waited for: those of a loaded machine answer within two seconds"""
    rounds: int = 4
    """looks for one change, each after twice as many steps as the one before"""


class Straggler:
    """One for a run."""

    def __init__(
        self, config: StragglerConfig | None = None, *, ranks: int, ranks_per_node: int, rank_of: RankOf | None = None
    ) -> None:
        self.config = config or StragglerConfig()
        self._size = ranks
        self._per_node = max(1, ranks_per_node)
        self._pace = Pace(self.config.pace)
        self.hardware = Hardware(ranks_per_node=self._per_node, rank_of=rank_of)
        """the newest looks at GPUs and hosts"""
        self.world_began(0)

    def world_began(self, world: int) -> None:
        """Ranks are new; what a step takes stays known."""
        self._world = world
        self._pace.world_began()
        self._waits = DataWaits()
        self._open: dict[int, dict[int, StepReported]] = {}
        """reports of the steps that not every rank has reported yet"""
        self._reporters: set[int] = set()
        self._ends: deque[tuple[int, float]] = deque(maxlen=256)
        self._own = OwnReports(ranks=self._size)
        self._last: dict[int, tuple[int, float]] = {}
        self._aside: set[int] = set()
        self._search: Search | None = None
        self._asked_for_static = False
        self._clocks: dict[int, float] = {}
        self._calm: OwnTimes = {}
        """clocks of the nodes, and own times of the ranks, from a look when all was well"""
        self._answered_since: int | None = None
        """the change of pace that somebody was named for"""
        self._processes: dict[int, ProcessLooked] = {}
        self._told: set[Subject] = set()
        self._over = False

    @property
    def deadline(self) -> float | None:
        """When the answers of flight recorders are no longer waited for."""
        search = self._search
        return None if search is None or search.asked_at is None else search.asked_at + self.config.answers_s

    @property
    def looks(self) -> tuple[int, ...]:
        """Ranks whose flight recorder, and process, should be looked at."""
        return tuple(sorted(self._search.wanted)) if self._search is not None and not self._over else ()

    @property
    def slowdown(self) -> str:
        """A sentence while steps are slower than usual, whoever may be the cause; empty otherwise."""
        since = self._pace.slow_since
        return "" if since is None else self._slower(since)

    def see(self, signal: Signal) -> list[Incident]:
        """A step ended, a rank moved, or somebody looked."""
        match signal:
            case StepReported():
                return self.reported(signal)
            case RanksReported() if signal.world == self._world:
                return self._told_alone(signal)
            case RankProgress():
                self.progress(signal)
            case CollectivesLooked():
                return self._answered(signal)
            case ProcessLooked():
                self._processes[signal.rank] = signal
            case GpuLooked() | HostLooked():
                self.hardware.looked(signal)
            case RankExited():
                self._over, self._search = True, None
            case _:
                pass
        return []

    def silent(self, now: float) -> list[Incident]:
        """Whoever has not answered by now will not."""
        deadline = self.deadline
        return self._judge(now) if deadline is not None and now >= deadline else []

    def recall(self, rows: list[StepReported]) -> None:
        """Learn step times from stored rows."""
        for row in rows:
            if row.step_s is not None:
                self._pace.took(row.step, row.step_s, row.tokens)
        self._pace.world_began()

    def disturbed(self) -> None:
        """Somebody measures devices of the run: the step that ends next tells nothing of its ranks."""
        self._aside.add(-1)

    def progress(self, signal: RankProgress) -> None:
        """A rank moved."""
        if signal.phase in _ASIDE:
            self._aside.add(signal.rank)
        self._waits.progress(signal)

    def reported(self, signal: StepReported) -> list[Incident]:
        """A rank finished a step."""
        if self._over or signal.world != self._world:
            return []
        self._reporters.add(signal.rank)
        reports = self._open.setdefault(signal.step, {})
        reports[signal.rank] = signal
        found = self._ended(signal.step) if len(reports) == len(self._reporters) else []
        # One rank's report may be late; two steps later it will not come.
        for step in [step for step in self._open if step < signal.step - 1] if self._open else ():
            found += self._ended(step)
        return found

    def _ended(self, step: int) -> list[Incident]:
        reports = self._open.pop(step)
        first = reports[min(reports)]
        took = {rank: took_s for rank, report in reports.items() if (took_s := self._took(report)) is not None}
        if self._ends and step <= self._ends[-1][0]:
            return []
        self._ends.append((step, first.at))
        aside, self._aside = bool(self._aside), set()
        if not took or aside:  # an evaluation or a save lies in it
            return []
        self._own.ended(step, took)
        self._pace.took(step, max(took.values()), first.tokens)
        return self._wonder(first.at)

    def _took(self, report: StepReported) -> float | None:
        """As the rank measured it, else since its report of the step before."""
        before = self._last.get(report.rank)
        self._last[report.rank] = report.step, report.at
        if report.step_s is not None:
            return report.step_s
        return None if before is None or before[0] != report.step - 1 else report.at - before[1]

    def _wonder(self, now: float) -> list[Incident]:
        since, search = self._pace.slow_since, self._search
        if since is None:
            if search is not None and search.since is not None:
                self._search = None
            self._answered_since = None
            if not self._asked_for_static:
                self._check_static(now)
        elif since == self._answered_since:
            return []
        elif search is None or search.since is None:
            self._search = search = Search(since=since, onset_at=self._began(since))
            return self._measured(search, now) or self._ask(search, now)
        search = self._search
        if search is None:
            return []
        if search.asked_at is not None:
            return self.silent(now)
        search.steps_left -= 1
        return (self._measured(search, now) or self._ask(search, now)) if search.steps_left <= 0 else []

    def _check_static(self, now: float) -> None:
        """Once in a world: is a rank slower than the others from the start?"""
        if not self._pace.known or self._search is not None or len(self._own) < 8:
            return
        self._asked_for_static = True
        self._search = Search(since=None, onset_at=now)
        self._ask(self._search, now)

    def _began(self, step: int) -> float:
        """When a step began."""
        return next((at for ended, at in reversed(self._ends) if ended < step), self._ends[0][1])

    def _ask(self, search: Search, now: float) -> list[Incident]:
        search.asked_at, search.wanted = now, set(range(self._size))
        search.answers.clear()
        return []

    def _answered(self, signal: CollectivesLooked) -> list[Incident]:
        search = self._search
        if search is None or search.asked_at is None or signal.world != self._world:
            return []
        search.answers[signal.rank] = signal
        search.wanted.discard(signal.rank)
        return [] if search.wanted else self._judge(signal.at)

    def _measured(self, search: Search, now: float) -> list[Incident]:
        """From what the ranks tell without being asked."""
        if search.since is None:
            return []
        tables = [*((_STEPS, own) for own in self._own.tables()), (_WAITS, self._waits.by_step())]
        for how, own in tables:
            if (found := self._split(own, search)) is not None:
                return self._conclude(search, found, None, now, how=how)
        return []

    def _told_alone(self, signal: RanksReported) -> list[Incident]:
        # Once for a step: a large world has thousands of nodes.
        whole, search = self._own.told(signal), self._search
        return self._measured(search, signal.at) if whole and search is not None else []

    def _split(self, own: OwnTimes, search: Search) -> Named | None:
        """Before and after, and whom that names."""
        since = search.since
        earlier = {step: ranks for step, ranks in own.items() if since is not None and step < since}
        times: dict[int, list[float]] = {}
        for ranks in earlier.values():
            for rank, seconds in ranks.items():
                times.setdefault(rank, []).append(seconds)
        usual = {rank: median(found) for rank, found in times.items() if len(found) >= 2}
        after = {step: ranks for step, ranks in own.items() if step not in earlier}
        return named(
            after,
            usual,
            self._node_of,
            least_s=self._least_s(search, known=bool(usual)),
            least_steps=search.needed,
            spread_s=max(spread(earlier, usual), spread(after, usual)),
        )

    def _least_s(self, search: Search, *, known: bool) -> float:
        usual_s = self._pace.usual_s
        delay_s = self._pace.now_s - usual_s
        if search.since is None:
            return self.config.static * usual_s
        share = self.config.share_of_delay if known else 0.8
        return max(self.config.least * usual_s, share * delay_s)

    def _judge(self, now: float) -> list[Incident]:
        """The flight recorders have answered, or will not."""
        search = self._search
        assert search is not None
        arrivals = Arrivals(search.answers.values())
        offsets = arrivals.clocks(search.onset_at, self._clocks)
        search.own.update(arrivals.own_times(list(self._ends), offsets, self._node_of(min(self._reporters))))
        found = self._split(search.own if arrivals.in_part else {**self._calm, **search.own}, search)
        hint = self.hardware.outstanding(search.onset_at if search.since is not None else None)
        if found is not None and found.rank is None and not self._is_likely(found, hint):
            found = None
        search.asked_at, search.wanted = None, set()
        if found is not None or (hint is not None and search.since is not None):
            return self._conclude(search, found, hint, now, how=_ARRIVALS)
        if search.short < _SHORT and sum(step >= (search.since or 0) for step in search.own) < search.needed:
            search.short += 1
            search.steps_left = 1
            return []
        search.round += 1
        search.steps_left = 3 * 2**search.round
        if search.since is None:
            self._search, self._clocks = None, offsets
            self._calm = {} if arrivals.in_part else search.own
        elif search.round >= self.config.rounds:
            self._pace.accept()
            self._search = None
        return []

    def _is_likely(self, found: Named, hint: Hint | None) -> bool:
        """A node whose ranks have far more to do than the steps grew by needs another witness: it may be its clock."""
        delay_s = self._pace.now_s - self._pace.usual_s
        seconded = bool(self.hardware.of_host(found.node)) or (hint is not None and hint.node == found.node)
        return seconded or found.excess_s <= _MORE_THAN_DELAY * delay_s

    def _conclude(
        self, search: Search, found: Named | None, hint: Hint | None, now: float, *, how: str
    ) -> list[Incident]:
        hint = hint or self.hardware.outstanding(search.onset_at if search.since is not None else None)
        subject, confidence, next_best = weighed(found, hint)
        self._search, self._answered_since = None, search.since
        if subject in self._told:
            return []
        self._told.add(subject)
        evidence = [*self._sentences(search, found, how), *self._reasons(subject, hint)]
        since = search.since
        onset = search.onset_at if since is not None else self._ends[0][1]
        return [
            Incident(
                kind=Kind.STRAGGLER,
                at=now,
                onset=min(onset, now),
                world=self._world,
                subject=subject,
                onset_step=None,
                step=self._ends[-1][0],
                confidence=confidence,
                blame=self._blame(subject, hint, how),
                fingerprint=f"straggler:{subject.node}:{subject.rank}",
                evidence=tuple(evidence),
                senses=(
                    *(("progress", "collectives") if found is not None else ("progress",)),
                    *(("nvml",) if hint else ()),
                ),
                next_best=next_best,
            )
        ]

    def _sentences(self, search: Search, found: Named | None, how: str) -> list[str]:
        said = [] if search.since is None else [self._slower(search.since)]
        if found is None:
            return [*said, "all ranks come to their collectives alike, so it is no CPU that is late"]
        who = f"rank {found.rank} on node {found.node}" if found.rank is not None else f"each rank of node {found.node}"
        than = "than the others" if search.since is None else "than before, beside the others"
        return [
            *said,
            f"{who} {how} {found.excess_s:.3f} s longer {than}, in {found.slow_steps} of {found.steps} steps",
        ]

    def _slower(self, since: int) -> str:
        now_s, usual_s = self._pace.now_s, self._pace.usual_s
        return f"since step {since} a step takes {now_s:.3f} s instead of {usual_s:.3f} s"

    def _reasons(self, subject: Subject, hint: Hint | None) -> list[str]:
        process = self._processes.get(subject.rank) if subject.rank is not None else None
        said = [] if hint is None else list(hint.sentences)
        if process is not None and process.state in _STATES:
            where = f", in {process.stack[-1].strip()}" if process.stack else ""
            said.append(f"the kernel says that rank {subject.rank} {_STATES[process.state]}{where}")
        return [*said, *self.hardware.of_host(subject.node)]

    def _blame(self, subject: Subject, hint: Hint | None, how: str) -> Blame | None:
        if hint is not None and hint.node == subject.node:
            return Blame.HARDWARE
        if how == _WAITS:
            return Blame.DATA
        process = self._processes.get(subject.rank) if subject.rank is not None else None
        if process is not None and process.state == "D":
            return Blame.STORAGE
        return Blame.HOST if self.hardware.of_host(subject.node) else Blame.UNKNOWN

    def _node_of(self, rank: int) -> int:
        return rank // self._per_node


_ASIDE = frozenset({Phase.SAVE, Phase.EVAL})
_SHORT = 6
_MORE_THAN_DELAY = 1.5
_STEPS, _WAITS, _ARRIVALS = "takes", "waits for data", "works between its collectives"
_STATES = {"D": "waits for a disk or a file server", "T": "is stopped"}

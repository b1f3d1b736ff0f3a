"""Where did every second of a run's wall clock go?

From its submission to its end (or to now), each millisecond of a run is in exactly one bucket. The walk over the
journal lays spans end to end; later knowledge moves parts of them to another bucket, and never changes their length:

- what an incident ended is counted `hung` or `detecting` from its onset, not from when it was noticed;
- a step that is rolled back was not productive: the time it had taken is moved to `recomputed` at the moment a world
  begins before it. So `productive` is the time of exactly the steps that are in the weights, and a lost step costs its
  time once, not again when it is trained anew.

A supervisor that is away loses nothing: what went on when it was last heard went on, until an event says otherwise.

Energy is that of the GPUs alone, as their own counters say it. What was not read is unknown, and not zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from monitors.incidents import Kind
from monitors.signals import Phase as RankPhase
from orchestrator import joules, phases, timeline
from orchestrator.core import events as e
from orchestrator.core.actions import EndAttempt, StartWorld, StopAfterStep, StopWorld
from orchestrator.core.policy import Rung
from orchestrator.core.state import Opened, Phase
from orchestrator.journal import Entry


class Bucket(StrEnum):
    """After Google's badput vocabulary (ml-goodput-measurement)."""

    QUEUED = "queued"
    """from asking the scheduler until every agent is there"""
    PREFLIGHT = "preflight"
    """checking nodes before they are given ranks"""
    STARTUP = "startup"
    """from starting a world to every rank in its loop; and ending the processes of a run that is complete"""
    RESTORE = "restore"
    PRODUCTIVE = "productive"
    """training and evaluating steps that are in the weights"""
    CHECKPOINT_STALL = "checkpoint_stall"
    """what steps waited for saves"""
    DATA_STALL = "data_stall"
    """what steps waited for data"""
    RECOMPUTED = "recomputed"
    """training steps that were rolled back later"""
    HUNG = "hung"
    """from the onset of a hang to its detection"""
    DETECTING = "detecting"
    """from the onset of any other fault to its detection"""
    RECOVERING = "recovering"
    """from detection to starting the next world or asking the scheduler again; back-off included"""
    DEGRADED = "degraded"
    """training with fewer ranks than asked for"""
    PAUSED = "paused"
    """paused, or stopped by a person and resumed later"""
    HELD = "held"
    """given up, waiting for a person"""


LIVE = frozenset({Bucket.STARTUP, Bucket.RESTORE, Bucket.PRODUCTIVE, Bucket.CHECKPOINT_STALL, Bucket.DATA_STALL})
"""What turns out to be wasted when the world had already failed."""
WITHOUT_DEVICES = frozenset({Bucket.QUEUED, Bucket.PAUSED, Bucket.HELD})
TRAINING = frozenset({Bucket.PRODUCTIVE, Bucket.CHECKPOINT_STALL, Bucket.DATA_STALL, Bucket.RECOMPUTED})

UNTIL_DETECTED = {
    Kind.HANG: Bucket.HUNG,
    Kind.START_STALLED: Bucket.HUNG,
    Kind.WORKER_KILLED: Bucket.DETECTING,
    Kind.WORKER_EXCEPTION: Bucket.DETECTING,
    Kind.CRASH_LOOP: Bucket.DETECTING,
    Kind.AGENT_LOST: Bucket.DETECTING,
    Kind.NODE_UNSEEN: Bucket.DETECTING,
    Kind.NONFINITE_LOSS: Bucket.DETECTING,
    Kind.LOSS_SPIKE: Bucket.DETECTING,
    Kind.LOSS_DIVERGENCE: Bucket.DETECTING,
    Kind.RECOVERY_WRONG: Bucket.DETECTING,
}
"""Other kinds (a corrupt checkpoint, a failed save, a refused launch) did not stop the world they were found in."""

OF_PHASE = {
    Phase.LAUNCHING: Bucket.QUEUED,
    Phase.STOPPING_WORLD: Bucket.RECOVERING,
    Phase.BACKING_OFF: Bucket.RECOVERING,
    Phase.RELAUNCHING: Bucket.RECOVERING,
    Phase.FINISHING: Bucket.STARTUP,
    Phase.HOLDING: Bucket.HELD,
    Phase.HELD: Bucket.HELD,
    Phase.PAUSED: Bucket.PAUSED,
}
"""In the other phases the world itself says what it does."""
OVER = frozenset({Phase.SUCCEEDED, Phase.STOPPED})
"""The clock stands still, unless the run is resumed: then it was paused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The books of one run."""

    wall_s: float
    buckets: dict[Bucket, float]
    """seconds; they sum to wall_s, to the millisecond"""
    ettr: float | None
    """effective training time ratio: productive over wall clock, queueing and holding included, without paused"""
    goodput: float | None
    """productive over the time in which the run had its devices"""
    mttf_s: float | None
    """training time per incident that needed a recovery"""
    mttr_s: float | None
    """mean seconds from an onset to the first step after it"""
    steps_lost: int
    """finished, rolled back, and to be trained again"""
    gpu_hours: float
    """ranks x hours in which the run had its devices"""
    incidents: int
    """that needed a recovery"""
    energy_j: float | None
    """of the GPUs, as far as they were read; None: none was, here and below"""
    energy_known_share: float | None
    """share of `gpu_hours` that the readings cover; below 1, the true energy is higher"""
    energy_per_step_j: float | None
    """mean over steps that were read as a whole"""
    energy_per_token_j: float | None
    """likewise, of tokens as the reporting rank counts them"""
    energy_lost_j: float | None
    """spent on steps that were rolled back"""


def balance(entries: Sequence[Entry], now: float) -> Ledger:
    """The ledger of one run, its entries oldest first. Pure and total: any order of events balances."""
    spans = spans_of(entries, now)
    millis = dict.fromkeys(Bucket, 0)
    for span in spans:
        millis[span.bucket] += span.end_ms - span.start_ms
    wall = sum(millis.values())
    course = timeline.walk(entries)
    answered = [case for case in course.cases if case.rung is not Rung.OBSERVE]
    totals = [total for case in answered if (total := phases.of(case, course).total) is not None]
    owned = wall - sum(millis[bucket] for bucket in WITHOUT_DEVICES)
    productive = millis[Bucket.PRODUCTIVE]
    gpu_hours = _ranks(entries) * owned / 3_600_000
    lost = [(span.start_ms / 1000, span.end_ms / 1000) for span in spans if span.bucket is Bucket.RECOMPUTED]
    energy = joules.spent(entries, gpu_s=gpu_hours * 3600, lost=lost)
    training_s = sum(millis[bucket] for bucket in TRAINING) / 1000
    return Ledger(
        wall_s=wall / 1000,
        buckets={bucket: ms / 1000 for bucket, ms in millis.items()},
        ettr=_ratio(productive, wall - millis[Bucket.PAUSED]),
        goodput=_ratio(productive, owned),
        mttf_s=_ratio(training_s, len(answered)),
        mttr_s=_ratio(sum(totals), len(totals)),
        steps_lost=course.steps_lost,
        gpu_hours=gpu_hours,
        incidents=len(answered),
        energy_j=energy.joules,
        energy_known_share=energy.known_share,
        energy_per_step_j=energy.per_step_j,
        energy_per_token_j=energy.per_token_j,
        energy_lost_j=energy.lost_j,
    )


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _ranks(entries: Iterable[Entry]) -> int:
    plans = (entry.event.plan for entry in entries if isinstance(entry.event, e.RunSubmitted))
    return next((plan.nodes * plan.ranks_per_node for plan in plans), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of time that went to one bucket."""

    start_ms: int
    end_ms: int
    bucket: Bucket
    world: int
    """0 before the first"""
    first_step: int = 0
    last_step: int = 0
    """steps first_step + 1 .. last_step were trained in it; the last may be unfinished"""

    def split(self, at_ms: int) -> tuple[Span, Span]:
        """The parts before and after, steps shared out by time; a step that was begun belongs to the first."""
        share = (at_ms - self.start_ms) / (self.end_ms - self.start_ms)
        step = self.first_step + math.ceil((self.last_step - self.first_step) * share)
        return replace(self, end_ms=at_ms, last_step=step), replace(self, start_ms=at_ms, first_step=step)

    def split_after(self, step: int) -> tuple[Span, Span]:
        """The parts up to a step inside it, and beyond."""
        share = (step - self.first_step) / (self.last_step - self.first_step)
        at_ms = self.start_ms + round((self.end_ms - self.start_ms) * share)
        return replace(self, end_ms=at_ms, last_step=step), replace(self, start_ms=at_ms, first_step=step)


def spans_of(entries: Iterable[Entry], now: float) -> list[Span]:
    """Where the time went, without gap or overlap, from the first entry to the end of the run or `now`."""
    walk: _Walk | None = None
    for entry in entries:
        walk = walk or _Walk(entry.event.at)
        walk.see(entry)
    if walk is None:
        return []
    if not walk.ended:
        walk.cut(now)
    return walk.spans


class _Walk:
    """Standing somewhere in the journal: all before `_cursor_ms` is in a span, and what goes on since is known."""

    def __init__(self, at: float) -> None:
        self.spans: list[Span] = []
        self.ended = False
        self._cursor_ms = _ms(at)
        self._bucket = Bucket.QUEUED
        self._world = 0
        self._step = 0
        self._spent_s: dict[str, float] = {}
        self._saving = False
        """the world is asked to save and end before the next one, and trains until then"""

    def see(self, entry: Entry) -> None:
        self._happened(entry.event)
        for opened in entry.opened:
            self._detected(opened, entry.event.at)
        self._turn(self._next(entry), entry.event.at)
        over = entry.phase in OVER
        if over and not self.ended:
            self.cut(entry.event.at)
        self.ended = over

    def cut(self, at: float) -> None:
        """Write down what went on until `at`; an event that is older than the last cut takes no time."""
        self._add(_ms(at), self._bucket, self._step + (self._bucket is Bucket.PRODUCTIVE))

    def _add(self, until_ms: int, bucket: Bucket, last_step: int) -> None:
        if until_ms <= self._cursor_ms:
            return
        span = Span(
            start_ms=self._cursor_ms,
            end_ms=until_ms,
            bucket=bucket,
            world=self._world,
            first_step=self._step,
            last_step=last_step,
        )
        self.spans.append(span)
        self._cursor_ms = until_ms

    def _turn(self, bucket: Bucket, at: float) -> None:
        if bucket is not self._bucket:
            self.cut(at)
            self._bucket = bucket

    def _happened(self, event: e.Event) -> None:
        match event:
            case e.WorldEntered() if self._stands_in(event.world, Bucket.STARTUP):
                self._turn(Bucket.RESTORE, event.at)
            case e.WorldRestored() if self._stands_in(event.world, Bucket.STARTUP, Bucket.RESTORE):
                self._turn(Bucket.PRODUCTIVE, event.at)
                self._roll_back(event.step)
            case e.Progressed() if self._stands_in(event.world, Bucket.PRODUCTIVE):
                self._train(event)
            case e.Progressed() if self._stands_in(event.world, Bucket.STARTUP, Bucket.RESTORE):
                self._turn(Bucket.PRODUCTIVE, event.at)
                self._began(event)
            case e.RankFinished() if self._stands_in(event.world, *LIVE):
                self._turn(Bucket.STARTUP, event.at)
            case _:
                pass

    def _stands_in(self, world: int, *buckets: Bucket) -> bool:
        return world == self._world and self._bucket in buckets

    def _began(self, event: e.Progressed) -> None:
        """A world that resumed by its own means: its first step says where; a script without steps does not say."""
        if event.step > 0:
            self._roll_back(event.step - 1)
            self._train(event)

    def _train(self, event: e.Progressed) -> None:
        if event.step <= self._step:
            return  # the time belongs to the step that is under way
        until_ms = max(self._cursor_ms, _ms(event.at))
        spent_s = event.spent_s or {}
        for phase, bucket in ((RankPhase.SAVE, Bucket.CHECKPOINT_STALL), (RankPhase.DATA, Bucket.DATA_STALL)):
            stall_s = spent_s.get(phase, 0.0) - self._spent_s.get(phase, 0.0)
            self._add(min(until_ms, self._cursor_ms + _ms(max(0.0, stall_s))), bucket, self._step)
        self._add(until_ms, Bucket.PRODUCTIVE, event.step)
        self._step, self._spent_s = event.step, spent_s

    def _roll_back(self, step: int) -> None:
        """Steps beyond `step` are not in the weights of this world: their time was not productive after all."""
        for n in reversed(range(len(self.spans))):
            span = self.spans[n]
            if span.bucket is not Bucket.PRODUCTIVE:
                continue
            if span.last_step <= step:
                break
            if span.first_step >= step:
                self.spans[n] = replace(span, bucket=Bucket.RECOMPUTED)
            else:
                kept, lost = span.split_after(step)
                self.spans[n : n + 1] = [kept, replace(lost, bucket=Bucket.RECOMPUTED)]
        self._step = step

    def _detected(self, opened: Opened, at: float) -> None:
        bucket = UNTIL_DETECTED.get(opened.incident.kind)
        if bucket is None or opened.rung is Rung.OBSERVE:
            return
        if self._bucket in LIVE:
            self.cut(at)
        onset_ms = _ms(opened.incident.onset)
        for n in reversed(range(len(self.spans))):
            span = self.spans[n]
            if span.end_ms <= onset_ms:
                break
            if span.world != opened.incident.world or span.bucket not in LIVE:
                continue
            if span.start_ms >= onset_ms:
                self.spans[n] = replace(span, bucket=bucket)
            else:
                before, after = span.split(onset_ms)
                self.spans[n : n + 1] = [before, replace(after, bucket=bucket)]

    def _next(self, entry: Entry) -> Bucket:
        """What goes on after an entry."""
        if entry.phase in OVER:
            return Bucket.PAUSED
        for action in entry.actions:
            if isinstance(action, StartWorld) and action.world > self._world:
                self.cut(entry.event.at)
                self._world, self._spent_s = action.world, {}
                return Bucket.STARTUP
        ended = any(isinstance(a, StopWorld | EndAttempt) for a in entry.actions)
        if entry.phase in (Phase.STOPPING, Phase.PAUSING) and ended:
            return Bucket.STARTUP
        if entry.phase is not Phase.STOPPING_WORLD or ended or isinstance(entry.event, e.NodeStopped):
            self._saving = False
        elif any(isinstance(a, StopAfterStep) for a in entry.actions):
            self._saving = True
        return self._bucket if self._saving else OF_PHASE.get(entry.phase, self._bucket)


def _ms(at: float) -> int:
    return round(at * 1000)

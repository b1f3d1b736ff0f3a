"""Which stretch of a run's wall clock went to which bucket?

The walk over the journal lays spans end to end; later knowledge moves parts of them to another bucket, and never
changes their length:

- what an incident ended is counted `hung` or `detecting` from its onset, not from when it was noticed;
- a step that is rolled back was not productive: the time it had taken is moved to `recomputed` at the moment a world
  begins before it. So `productive` is the time of exactly the steps that are in the weights, and a lost step costs its
  time once, not again when it is trained anew.

A supervisor that is away loses nothing: what went on when it was last heard went on, until an event says otherwise.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from monitors.incidents import Kind
from monitors.signals import Phase as RankPhase
from monitors.values import quick
from orchestrator.core import events as e
from orchestrator.core.actions import EndAttempt, StartWorld, StopAfterStep, StopWorld
from orchestrator.core.policy import Rung
from orchestrator.core.replacing import replace
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


@quick
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
    walk: Walk | None = None
    for entry in entries:
        walk = walk or Walk(entry.event.at)
        walk.see(entry)
    return [] if walk is None else walk.until(now)


STEADY = (Bucket.CHECKPOINT_STALL, Bucket.DATA_STALL, Bucket.PRODUCTIVE)
"""what a report of progress is divided into, in this order"""
MINUTE_MS = 60_000


def settled(spans: Sequence[Span], before_ms: int) -> list[Span]:
    """The same time in the same buckets, with the reports of a minute that was over before then made one."""
    found: list[Span] = []
    for (steady, _, _), group in groupby(spans, lambda span: _minute(span, before_ms)):
        alike = list(group)
        found += _merged(alike) if steady else alike
    return found


def _minute(span: Span, before_ms: int) -> tuple[bool, int, int]:
    steady = span.bucket in STEADY and span.end_ms <= before_ms
    return steady, span.world, span.start_ms // MINUTE_MS if steady else 0


def _merged(group: Sequence[Span]) -> list[Span]:
    at_ms, step, last_step = group[0].start_ms, group[0].first_step, max(span.last_step for span in group)
    found: list[Span] = []
    for bucket in STEADY:
        length_ms = sum(span.end_ms - span.start_ms for span in group if span.bucket is bucket)
        end = last_step if bucket is Bucket.PRODUCTIVE else step
        one = replace(group[0], start_ms=at_ms, end_ms=at_ms + length_ms, bucket=bucket, last_step=end)
        found += [one] if length_ms else []
        at_ms += length_ms
    return found


class Walk:
    """Standing somewhere in the journal: all before `_cursor_ms` is in a span, and what goes on since is known."""

    def __init__(self, at: float) -> None:
        self.spans: list[Span] = []
        self._ended = False
        self._summed = 0
        """spans that `_sums` has in it: as a rule spans are only added"""
        self._sums = dict.fromkeys(Bucket, 0)
        self._settled = 0
        """spans, the oldest, that are settled"""
        self._cursor_ms = _ms(at)
        self._bucket = Bucket.QUEUED
        self._world = 0
        self._step = 0
        self._spent_s: dict[str, float] = {}
        self._saving = False
        """the world is asked to save and end before the next one, and trains until then"""

    def see(self, entry: Entry) -> None:
        """The next entry."""
        self._happened(entry.event)
        for opened in entry.opened:
            self._detected(opened, entry.event.at)
        self._turn(self._next(entry), entry.event.at)
        over = entry.phase in OVER
        if over and not self._ended:
            self._cut(entry.event.at)
        self._ended = over

    def until(self, now: float) -> list[Span]:
        """Every span, what goes on included, which the next entry may still turn into another one."""
        going_on = self._going_on(now)
        return [*self.spans, going_on] if going_on is not None else self.spans

    def _going_on(self, now: float) -> Span | None:
        return None if self._ended else self._span(_ms(now), self._bucket, self._last_step())

    def spent_ms(self, now: float) -> dict[Bucket, int]:
        """Milliseconds in each bucket. What was added up before is not added up again."""
        self._sum_up()
        sums, going_on = dict(self._sums), self._going_on(now)
        if going_on is not None:
            sums[going_on.bucket] += going_on.end_ms - going_on.start_ms
        return sums

    def settle(self, before: float) -> None:
        """What ended before then is not expected to be told apart by reports any more: only by minutes."""
        self._sum_up()
        spans, first, before_ms = self.spans, self._settled, _ms(before)
        while 0 < first < len(spans) and _minute(spans[first - 1], before_ms) == _minute(spans[first], before_ms):
            first -= 1  # the rest of a minute of which the beginning was settled
        spans[first:] = settled(spans[first:], before_ms)
        self._summed, self._settled = len(spans), bisect_right(spans, before_ms, key=lambda span: span.end_ms)

    def _sum_up(self) -> None:
        for span in self.spans[self._summed :]:
            self._sums[span.bucket] += span.end_ms - span.start_ms
        self._summed = len(self.spans)

    def _change(self, n: int, spans: list[Span]) -> None:
        """Put these in the place of a span that was written down."""
        self.spans[n : n + 1] = spans
        self._settled = min(self._settled, n)
        self._summed, self._sums = 0, dict.fromkeys(Bucket, 0)

    def _cut(self, at: float) -> None:
        """Write down what went on until `at`; an event that is older than the last cut takes no time."""
        self._add(_ms(at), self._bucket, self._last_step())

    def _last_step(self) -> int:
        return self._step + (self._bucket is Bucket.PRODUCTIVE)

    def _add(self, until_ms: int, bucket: Bucket, last_step: int) -> None:
        span = self._span(until_ms, bucket, last_step)
        if span is not None:
            self.spans.append(span)
            self._cursor_ms = until_ms

    def _span(self, until_ms: int, bucket: Bucket, last_step: int) -> Span | None:
        if until_ms <= self._cursor_ms:
            return None
        return Span(
            start_ms=self._cursor_ms,
            end_ms=until_ms,
            bucket=bucket,
            world=self._world,
            first_step=self._step,
            last_step=last_step,
        )

    def _turn(self, bucket: Bucket, at: float) -> None:
        if bucket is not self._bucket:
            self._cut(at)
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
                self._change(n, [replace(span, bucket=Bucket.RECOMPUTED)])
            else:
                kept, lost = span.split_after(step)
                self._change(n, [kept, replace(lost, bucket=Bucket.RECOMPUTED)])
        self._step = step

    def _detected(self, opened: Opened, at: float) -> None:
        bucket = UNTIL_DETECTED.get(opened.incident.kind)
        if bucket is None or opened.rung is Rung.OBSERVE:
            return
        if self._bucket in LIVE:
            self._cut(at)
        onset_ms = _ms(opened.incident.onset)
        for n in reversed(range(len(self.spans))):
            span = self.spans[n]
            if span.end_ms <= onset_ms:
                break
            if span.world != opened.incident.world or span.bucket not in LIVE:
                continue
            if span.start_ms >= onset_ms:
                self._change(n, [replace(span, bucket=bucket)])
            else:
                before, after = span.split(onset_ms)
                self._change(n, [before, replace(after, bucket=bucket)])

    def _next(self, entry: Entry) -> Bucket:
        """What goes on after an entry."""
        if entry.phase in OVER:
            return Bucket.PAUSED
        for action in entry.actions:
            if isinstance(action, StartWorld) and action.world > self._world:
                self._cut(entry.event.at)
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

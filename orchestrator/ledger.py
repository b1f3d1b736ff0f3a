"""Where did every second of a run's wall clock go, and what did it cost?

From its submission to its end (or to now), each millisecond of a run is in exactly one bucket (`spans.py` says how).
Energy is that of the GPUs alone, as their own counters say it. What was not read is unknown, and not zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator import joules, phases, timeline
from orchestrator.core import events as e
from orchestrator.core.policy import Rung
from orchestrator.journal import Entry
from orchestrator.spans import TRAINING, WITHOUT_DEVICES, Bucket, Span, Walk

SETTLED_S = 600.0
"""an onset that is found out later than this, or steps rolled back from longer ago, are known to the minute"""
SETTLE_EVERY = 500
"""entries"""


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


class Account:
    """The books of one run, kept as its journal grows: what `balance` makes of all of it, without reading it again.

    Uneventful minutes that are long over are told apart by buckets and steps, no more by reports, so that the books of
    a run of months stay some megabytes.
    """

    def __init__(self) -> None:
        self._course = timeline.Course()
        self._meter = joules.Meter()
        self._walk: Walk | None = None
        self._ranks = 0
        self._seen = 0

    def see(self, entry: Entry) -> None:
        """The next entry."""
        self._walk = self._walk or Walk(entry.event.at)
        if isinstance(entry.event, e.RunSubmitted):
            self._ranks = self._ranks or entry.event.plan.nodes * entry.event.plan.ranks_per_node
        self._course.see(entry)
        self._meter.see(entry)
        self._walk.see(entry)
        self._seen += 1
        if self._seen % SETTLE_EVERY == 0:
            before = entry.event.at - SETTLED_S
            self._walk.settle(before)
            self._meter.settle(before)

    @property
    def ranks(self) -> int:
        """Of a world."""
        return self._ranks

    @property
    def spans_kept(self) -> int:
        """How much is remembered of where the time went."""
        return len(self._walk.spans) if self._walk is not None else 0

    def spans(self, now: float) -> list[Span]:
        """Where the time went until now, without gap or overlap."""
        return self._walk.until(now) if self._walk is not None else []

    def timeline(self) -> timeline.Timeline:
        """Attempts, worlds and incidents until now."""
        return self._course.timeline()

    def ledger(self, now: float) -> Ledger:
        """The ledger, as if the run ended now, unless it has ended."""
        millis = self._walk.spent_ms(now) if self._walk is not None else dict.fromkeys(Bucket, 0)
        wall = sum(millis.values())
        course = self.timeline()
        answered = [case for case in course.cases if case.rung is not Rung.OBSERVE]
        totals = [total for case in answered if (total := phases.of(case, course).total) is not None]
        owned = wall - sum(millis[bucket] for bucket in WITHOUT_DEVICES)
        gpu_hours = self._ranks * owned / 3_600_000
        energy = self._meter.spent(gpu_s=gpu_hours * 3600, lost=self._lost() if millis[Bucket.RECOMPUTED] else ())
        return Ledger(
            wall_s=wall / 1000,
            buckets={bucket: ms / 1000 for bucket, ms in millis.items()},
            ettr=_ratio(millis[Bucket.PRODUCTIVE], wall - millis[Bucket.PAUSED]),
            goodput=_ratio(millis[Bucket.PRODUCTIVE], owned),
            mttf_s=_ratio(sum(millis[bucket] for bucket in TRAINING) / 1000, len(answered)),
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

    def _lost(self) -> list[joules.Range]:
        """When steps were trained that were rolled back; what goes on now never is one."""
        spans = self._walk.spans if self._walk is not None else []
        return [(span.start_ms / 1000, span.end_ms / 1000) for span in spans if span.bucket is Bucket.RECOMPUTED]


def balance(entries: Iterable[Entry], now: float) -> Ledger:
    """The ledger of one run, its entries oldest first. Pure and total: any order of events balances."""
    account = Account()
    for entry in entries:
        account.see(entry)
    return account.ledger(now)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None

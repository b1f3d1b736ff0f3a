"""What did a run cost, as a whole, for each use of its time, and for each incident? Money, kWh and CO2e.

The ledger says where the time went, the prices of the spec what it costs. A GPU costs while the run has it. Energy is
that of the GPUs as they counted it, times the overhead of the spec; where nobody read it, it is unknown, and where some
of it was read, what is told is the least. Without a price, money is unknown.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.core.limits import Prices
from orchestrator.core.policy import Rung
from orchestrator.joules import Curve
from orchestrator.journal import Entry
from orchestrator.spans import WITHOUT_DEVICES, Bucket, Span
from orchestrator.timeline import Case, Timeline

HOUR_S = 3600.0
WASTED = frozenset({Bucket.STARTUP, Bucket.RESTORE, Bucket.HUNG, Bucket.DETECTING, Bucket.RECOVERING, Bucket.PREFLIGHT})
"""between the onset of an incident and the first step after it, this is its doing"""
WHOLE = 0.999
"""of the GPU time: all of it was read, but for what the ends of readings leave"""
NO_PRICE = "no price: set cost.gpu_hour, cost.kwh or both in the spec, and cost.currency"
NO_CARBON = "no carbon intensity: set cost.carbon_g_per_kwh in the spec"
NO_ENERGY = "no GPU's energy was read"
SOME_ENERGY = "the energy of the GPUs was not read all the time: kWh is the least, and so is what is made of it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of some of a run's time."""

    gpu_hours: float
    """ranks x hours in which the run had its devices"""
    money: float | None
    """None: no price; or energy alone has one, and is unknown"""
    kwh: float | None
    """None: not known; what was read of it, times the overhead"""
    kwh_known_share: float | None
    """of the GPU time that was read; below 1, the true energy is higher"""
    co2e_g: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """The bill of one run."""

    currency: str | None
    total: Cost
    buckets: dict[Bucket, Cost]
    """those that took any time"""
    incidents: dict[str, Cost]
    """those that needed a recovery: no second is in two of them"""
    missing: tuple[str, ...]
    """what is not known, and how to have it known"""


class _Bill:
    """Adds up stretches of time."""

    def __init__(self, ranks: int, curve: Curve, prices: Prices) -> None:
        self._ranks = ranks
        self._curve = curve
        self._prices = prices

    def of(self, spans: Iterable[Span]) -> Cost:
        """What they cost together."""
        device_s = joules = read_s = 0.0
        for span in spans:
            start, end = span.start_ms / 1000, span.end_ms / 1000
            if span.bucket not in WITHOUT_DEVICES:
                device_s += end - start
            more_j, more_s = self._curve.between(start, end)
            joules, read_s = joules + more_j, read_s + more_s
        return self._cost(device_s * self._ranks, joules, read_s)

    def _cost(self, gpu_s: float, joules: float, read_s: float) -> Cost:
        unknown = gpu_s > 0 and read_s <= 0
        kwh = None if unknown else self._prices.kwh_of(joules)
        carbon = self._prices.carbon_g_per_kwh
        return Cost(
            gpu_hours=gpu_s / HOUR_S,
            money=self._prices.money(gpu_s / HOUR_S, kwh),
            kwh=kwh,
            kwh_known_share=min(1.0, read_s / gpu_s) if gpu_s else None,
            co2e_g=None if kwh is None or carbon is None else kwh * carbon,
        )


def costs(
    entries: Sequence[Entry], spans: Sequence[Span], course: Timeline, prices: Prices | None, ranks: int
) -> Costs:
    """The bill of a run. `entries` oldest first; `spans` and `course` are those of the same entries."""
    known = prices or Prices()
    bill = _Bill(ranks, Curve(entries), known)
    total = bill.of(spans)
    by_bucket: dict[Bucket, list[Span]] = {bucket: [] for bucket in Bucket}
    for span in spans:
        by_bucket[span.bucket].append(span)
    return Costs(
        currency=known.currency,
        total=total,
        buckets={bucket: bill.of(some) for bucket, some in by_bucket.items() if some},
        incidents={id_: bill.of(some) for id_, some in shares(spans, course).items()},
        missing=_missing(known, total),
    )


def total(entries: Sequence[Entry], spans: Sequence[Span], prices: Prices | None, ranks: int) -> Cost:
    """What some time of a run cost; `entries` are all of them, oldest first."""
    return _Bill(ranks, Curve(entries), prices or Prices()).of(spans)


def _missing(prices: Prices, total: Cost) -> tuple[str, ...]:
    has_price = prices.gpu_hour is not None or prices.kwh is not None
    partly = total.kwh_known_share is not None and total.kwh_known_share < WHOLE
    found = (
        (not has_price, NO_PRICE),
        (total.kwh is None, NO_ENERGY),
        (total.kwh is not None and partly, SOME_ENERGY),
        (prices.carbon_g_per_kwh is None, NO_CARBON),
    )
    return tuple(text for is_so, text in found if is_so)


def shares(spans: Sequence[Span], course: Timeline) -> dict[str, list[Span]]:
    """The time that each incident with a recovery cost: from its onset to the next step, and steps trained again.

    Of incidents that overlap, the earlier one has the time that both could have.
    """
    answered = [case for case in course.cases if case.rung is not Rung.OBSERVE]
    found: dict[str, list[Span]] = {case.id: [] for case in answered}
    starts, claimed_ms = [span.start_ms for span in spans], 0
    for case in answered:
        start_ms = max(claimed_ms, round(case.incident.onset * 1000))
        end_ms = spans[-1].end_ms if case.over_at is None and spans else round((case.over_at or 0.0) * 1000)
        during = spans[max(0, bisect_right(starts, start_ms) - 1) : bisect_left(starts, end_ms)]
        found[case.id] += [cut(span, start_ms, end_ms) for span in during if _is_wasted(span, start_ms, end_ms)]
        claimed_ms = max(claimed_ms, end_ms)
    for span, world in _rolled_back(spans, course):
        if (case_ := _cause(answered, course, world)) is not None:
            found[case_.id].append(span)
    return found


def _is_wasted(span: Span, start_ms: int, end_ms: int) -> bool:
    return span.bucket in WASTED and span.start_ms < end_ms and span.end_ms > start_ms


def cut(span: Span, start_ms: int, end_ms: int) -> Span:
    """The part of a span between two times that it reaches into."""
    if span.start_ms < start_ms:
        span = span.split(start_ms)[1]
    return span.split(end_ms)[0] if span.end_ms > end_ms else span


def _rolled_back(spans: Sequence[Span], course: Timeline) -> list[tuple[Span, int]]:
    """Each span of steps that were trained for nothing, and the world that began before them."""
    lost = [span for span in spans if span.bucket is Bucket.RECOMPUTED]
    found: list[tuple[Span, int]] = []
    for number in sorted(course.worlds):
        world = course.worlds[number]
        base = world.from_step if world.from_step is not None else 0
        began = world.restored_at is not None or world.first_step_at is not None
        mine = [span for span in lost if began and span.world < number and span.last_step > base]
        found += [(span, number) for span in mine]
        lost = [span for span in lost if span not in mine]
    return found


def _cause(answered: Sequence[Case], course: Timeline, world: int) -> Case | None:
    """The incident for which a world rolled back: the first that was not over when it began."""
    known = course.worlds[world]
    at = known.restored_at if known.restored_at is not None else known.first_step_at
    assert at is not None
    open_ = (case for case in answered if case.decided_at <= at and (case.over_at is None or case.over_at >= at))
    return next(open_, None)

"""How did the runs of some days go? Interruptions by cause, how fast they were over, and what all of it cost.

Pure: journals of runs and a stretch of time in, one value out; `lastgood report` and the dashboard tell the same. What
began before the stretch or ends after it counts by the part inside; an interruption counts when it was detected in it.
Drills are faults that somebody asked for: they are counted apart, and in nothing else but time and money.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil

from orchestrator import money, phases, timeline
from orchestrator.core import events as e
from orchestrator.core.limits import Prices
from orchestrator.core.policy import Policy, Rung
from orchestrator.core.state import Phase
from orchestrator.journal import Entry
from orchestrator.spans import TRAINING, WITHOUT_DEVICES, Bucket, Span, spans_of
from orchestrator.timeline import Case, Timeline

DAY_S = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One run, as its journal has it."""

    run: str
    entries: Sequence[Entry]
    """oldest first"""
    ranks: int
    policy: Policy | None = None
    prices: Prices | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Interruptions of one kind."""

    kind: str
    blame: str | None
    """whose fault most of them were"""
    count: int
    drills: int
    """of this kind that were asked for; not in `count`"""
    share: float
    """of all interruptions"""
    lost_s: float
    """from their onset to the next step, all of them, and training again what was lost"""
    mttr_s: float | None
    """mean of those that are over"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What the stretch cost in one currency; None: runs without prices."""

    currency: str | None
    runs: int
    gpu_hours: float
    money: float | None
    kwh: float | None
    kwh_known_share: float | None
    co2e_g: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Of verdicts, by what people said about them."""

    kind: str
    right: int
    wrong: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Some days of some runs."""

    since: float
    until: float
    runs: int
    """that existed in it, and had not ended before"""
    interruptions: tuple[Cause, ...]
    """by cause, the most frequent first; incidents that needed a recovery"""
    per_day: tuple[tuple[float, int], ...]
    """(beginning of each 24 hours, interruptions)"""
    ettr: float | None
    """productive over wall clock of all runs, each weighted by its ranks; without pauses"""
    goodput: float | None
    """likewise over the time with devices"""
    ettr_p50: float | None
    """over runs"""
    ettr_p10: float | None
    """one run in ten is worse"""
    mttf_s: float | None
    """training time per interruption; None without one"""
    mttr_p50_s: float | None
    mttr_p90_s: float | None
    automatic: int
    """interruptions that were over without a person"""
    with_person: int
    """that needed one: the run was held, or somebody stopped or resumed it meanwhile"""
    steps_lost: int
    gpu_hours: float
    bills: tuple[Bill, ...]
    judged: tuple[Precision, ...]
    unjudged: int
    """interruptions about which nobody said whether the verdict was right"""

    @property
    def automatic_share(self) -> float | None:
        """Of the interruptions that are not being recovered from any more, those that needed no person."""
        settled = self.automatic + self.with_person
        return self.automatic / settled if settled else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One run's part in the stretch."""

    history: History
    course: Timeline
    spans: list[Span]
    """inside the stretch"""
    cases: list[Case]
    """interruptions inside it, drills too"""
    lost_s: dict[str, float]
    judged: dict[str, bool]
    """incidents of which somebody said in the stretch whether the verdict was right: the last word"""

    def seconds(self, buckets: Iterable[Bucket]) -> float:
        """Of the stretch."""
        chosen = frozenset(buckets)
        return sum(span.end_ms - span.start_ms for span in self.spans if span.bucket in chosen) / 1000


def report(histories: Iterable[History], since: float, until: float) -> Report:
    """What happened from `since` to `until`; nothing that the journals tell of later is in it."""
    parts = [part for history in histories if (part := _part(history, since, until)) is not None]
    real = [(part, case) for part in parts for case in part.cases if case.drill is None]
    totals = [total for part, case in real if (total := phases.of(case, part.course).total) is not None]
    people = [_needed_person(part, case) for part, case in real]
    ratios = sorted(ratio for part in parts if (ratio := _ettr([part])) is not None)
    training_s = sum(part.seconds(TRAINING) for part in parts)
    return Report(
        since=since,
        until=until,
        runs=len(parts),
        interruptions=_causes(parts),
        per_day=_per_day([case for _, case in real], since, until),
        ettr=_ettr(parts),
        goodput=_goodput(parts),
        ettr_p50=_quantile(ratios, 0.5),
        ettr_p10=_quantile(ratios, 0.1),
        mttf_s=training_s / len(real) if real else None,
        mttr_p50_s=_quantile(totals, 0.5),
        mttr_p90_s=_quantile(totals, 0.9),
        automatic=sum(case.over_at is not None and not is_so for (_, case), is_so in zip(real, people, strict=True)),
        with_person=sum(people),
        steps_lost=sum(case.steps_lost for _, case in real),
        gpu_hours=sum(_owned_s(part) * part.history.ranks for part in parts) / money.HOUR_S,
        bills=_bills(parts),
        judged=_precision(parts),
        unjudged=sum(case.id not in part.judged for part, case in real),
    )


def _part(history: History, since: float, until: float) -> _Part | None:
    entries = [entry for entry in history.entries if entry.event.at <= until]
    spans = spans_of(entries, until)
    start_ms, end_ms = round(since * 1000), round(until * 1000)
    inside = [money.cut(s, start_ms, end_ms) for s in spans if s.start_ms < end_ms and s.end_ms > start_ms]
    if not inside:
        return None
    course = timeline.walk(entries)
    answered = [case for case in course.cases if case.rung is not Rung.OBSERVE]
    costs = money.shares(spans, course)
    said = [entry.event for entry in entries if isinstance(entry.event, e.IncidentJudged)]
    return _Part(
        history=replace(history, entries=entries),
        course=course,
        spans=inside,
        cases=[case for case in answered if since <= case.incident.at <= until],
        lost_s={id_: sum(s.end_ms - s.start_ms for s in some) / 1000 for id_, some in costs.items()},
        judged={event.incident: event.right for event in said if since <= event.at},
    )


def _causes(parts: Sequence[_Part]) -> tuple[Cause, ...]:
    found: dict[str, list[tuple[_Part, Case]]] = defaultdict(list)
    for part in parts:
        for case in part.cases:
            found[str(case.incident.kind)].append((part, case))
    all_ = sum(case.drill is None for cases in found.values() for _, case in cases)
    causes = [_cause(kind, cases, all_) for kind, cases in found.items()]
    return tuple(sorted(causes, key=lambda cause: (-cause.count, -cause.drills, cause.kind)))


def _cause(kind: str, cases: Sequence[tuple[_Part, Case]], all_: int) -> Cause:
    real = [(part, case) for part, case in cases if case.drill is None]
    totals = [total for part, case in real if (total := phases.of(case, part.course).total) is not None]
    blames = Counter(blame for part, case in cases if (blame := _blame(part, case)) is not None)
    return Cause(
        kind=kind,
        blame=blames.most_common(1)[0][0] if blames else None,
        count=len(real),
        drills=len(cases) - len(real),
        share=len(real) / all_ if all_ else 0.0,
        lost_s=sum(part.lost_s.get(case.id, 0.0) for part, case in real),
        mttr_s=sum(totals) / len(totals) if totals else None,
    )


def _blame(part: _Part, case: Case) -> str | None:
    policy = part.history.policy
    blame = case.incident.blame or (policy.responses[case.incident.kind].blame if policy is not None else None)
    return None if blame is None else str(blame)


def _needed_person(part: _Part, case: Case) -> bool:
    """The run was held for it, or somebody asked for something between its onset and its end."""
    entries = part.history.entries
    if case.rung is Rung.HOLD or (case.over_at is None and entries[-1].phase in (Phase.HOLDING, Phase.HELD)):
        return True
    end = case.over_at if case.over_at is not None else case.resolved_at
    people = (e.ResumeRequested, e.StopRequested)
    asked = (entry.event.at for entry in entries if isinstance(entry.event, people))
    return end is not None and any(case.incident.onset <= at <= end for at in asked)


def _owned_s(part: _Part) -> float:
    return part.seconds(bucket for bucket in Bucket if bucket not in WITHOUT_DEVICES)


def _ettr(parts: Sequence[_Part]) -> float | None:
    whole = sum(part.seconds(b for b in Bucket if b is not Bucket.PAUSED) * part.history.ranks for part in parts)
    return _productive(parts) / whole if whole else None


def _goodput(parts: Sequence[_Part]) -> float | None:
    owned = sum(_owned_s(part) * part.history.ranks for part in parts)
    return _productive(parts) / owned if owned else None


def _productive(parts: Sequence[_Part]) -> float:
    return sum(part.seconds((Bucket.PRODUCTIVE,)) * part.history.ranks for part in parts)


def _per_day(cases: Sequence[Case], since: float, until: float) -> tuple[tuple[float, int], ...]:
    days = max(1, ceil((until - since) / DAY_S))
    counts = Counter(min(days - 1, int((case.incident.at - since) // DAY_S)) for case in cases)
    return tuple((since + day * DAY_S, counts[day]) for day in range(days))


def _bills(parts: Sequence[_Part]) -> tuple[Bill, ...]:
    by_currency: dict[str | None, list[money.Cost]] = defaultdict(list)
    for part in parts:
        prices = part.history.prices or Prices()
        by_currency[prices.currency].append(
            money.total(part.history.entries, part.spans, part.history.prices, part.history.ranks)
        )
    return tuple(_bill(currency, some) for currency, some in sorted(by_currency.items(), key=lambda one: one[0] or ""))


def _bill(currency: str | None, some: Sequence[money.Cost]) -> Bill:
    gpu_hours = sum(cost.gpu_hours for cost in some)
    read = sum(cost.gpu_hours * (cost.kwh_known_share or 0.0) for cost in some)
    return Bill(
        currency=currency,
        runs=len(some),
        gpu_hours=gpu_hours,
        money=_sum([cost.money for cost in some]),
        kwh=_sum([cost.kwh for cost in some]),
        kwh_known_share=read / gpu_hours if gpu_hours else None,
        co2e_g=_sum([cost.co2e_g for cost in some]),
    )


def _sum(values: Sequence[float | None]) -> float | None:
    """Of what is known; None: nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _precision(parts: Sequence[_Part]) -> tuple[Precision, ...]:
    right, wrong = Counter[str](), Counter[str]()
    for part in parts:
        kinds = {case.id: str(case.incident.kind) for case in part.course.cases}
        for id_, is_right in part.judged.items():
            (right if is_right else wrong)[kinds.get(id_, "unknown")] += 1
    kinds_ = sorted({*right, *wrong}, key=lambda kind: (-right[kind] - wrong[kind], kind))
    return tuple(Precision(kind=kind, right=right[kind], wrong=wrong[kind]) for kind in kinds_)


def _quantile(values: Sequence[float], share: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None

"""What may other programs rely on about money, budgets, forecast and reports? Parts of the JSON of `contract.py`.

Fields, types and units are in docs/contract.md, as those of the other answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from orchestrator import forecast as forecasts
from orchestrator import money, reports
from orchestrator.core import power, spending, worlds
from orchestrator.core.state import Phase, State
from orchestrator.journal import Entry, Journal
from orchestrator.spans import Span, spans_of
from orchestrator.timeline import Timeline

DAY_S = 86400.0
OVER = frozenset({Phase.SUCCEEDED, Phase.STOPPED})


def of_status(state: State | None, now: float) -> dict[str, Any]:
    """What a status says of the end, and of budgets."""
    found = forecasts.forecast(state, now) if state is not None else forecasts.NO_PACE
    return {
        "target_step": state.target if state is not None else None,
        "budget": [_use(use) for use in spending.uses(state, now)] if state is not None else [],
        "forecast": None if isinstance(found, str) else asdict(found),
        "forecast_why": found if isinstance(found, str) else None,
        "currency": _currency(state),
        "power": _power(state),
    }


def _power(state: State | None) -> dict[str, Any] | None:
    if state is None or state.watts is None:
        return None
    refused = state.capping.refused
    return {
        "watts": state.watts,
        "per_gpu_w": worlds.share_w(state),
        "may_draw_w": power.may_draw_w(state),
        "limited": bool(state.capping.may_draw) and not refused,
        "why": power.why_not(state) or refused or None,
    }


def of_ledger(entries: Sequence[Entry], state: State | None, course: Timeline, now: float) -> dict[str, Any]:
    """What a ledger says of money."""
    bill = costs(entries, spans_of(entries, now), course, state)
    return {
        "currency": bill.currency,
        "cost": asdict(bill.total),
        "bucket_costs": [{"bucket": bucket, **asdict(cost)} for bucket, cost in bill.buckets.items()],
        "unknown": list(bill.missing),
    }


def of_incidents(
    entries: Sequence[Entry], state: State | None, course: Timeline, now: float
) -> dict[str, dict[str, Any]]:
    """What each incident that needed a recovery cost, by its id."""
    bill = costs(entries, spans_of(entries, now), course, state)
    return {id_: {**asdict(cost), "currency": bill.currency} for id_, cost in bill.incidents.items()}


def costs(entries: Sequence[Entry], spans: Sequence[Span], course: Timeline, state: State | None) -> money.Costs:
    """The bill of a run, with the prices that it has now."""
    prices = state.plan.prices if state is not None else None
    return money.costs(entries, spans, course, prices, _ranks(state))


def report(journal: Journal, days: float, now: float) -> dict[str, Any]:
    """The last days of every run."""
    found = reports.report(_histories(journal, now - days * DAY_S), now - days * DAY_S, now)
    told = asdict(found)
    per_day = [{"day": day, "count": count} for day, count in found.per_day]
    return {**told, "days": days, "per_day": per_day, "automatic_share": found.automatic_share}


def _histories(journal: Journal, since: float) -> Iterator[reports.History]:
    """One by one: the journals of a year of runs are not in memory at once."""
    for submission in journal.runs():
        state = journal.state(submission.run)
        if state is None or (state.phase in OVER and state.since < since):
            continue
        yield reports.History(
            run=submission.run,
            entries=journal.entries(submission.run, thin=True),
            ranks=_ranks(state),
            policy=state.policy,
            prices=state.plan.prices,
        )


def _ranks(state: State | None) -> int:
    return state.plan.nodes * state.plan.ranks_per_node if state is not None else 0


def _currency(state: State | None) -> str | None:
    return state.plan.prices.currency if state is not None and state.plan.prices is not None else None


def _use(use: spending.Use) -> dict[str, Any]:
    return {**asdict(use), "share": use.share}

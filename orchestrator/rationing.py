"""How is a run given more or less to spend? The requests of `lastgood budget`, `resume --budget` and `power`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from orchestrator import requests
from orchestrator.core import events, spending
from orchestrator.core import power as draws
from orchestrator.core.limits import Limits
from orchestrator.core.state import Phase, State
from orchestrator.requests import AskError

if TYPE_CHECKING:
    from orchestrator.house import House

NAMES = tuple(field.name for field in fields(Limits))


def budget(house: House, request: requests.Budget) -> dict[str, Any]:
    """Take the new budgets; the answer has all that hold from now on. Raises AskError."""
    known = house.runs.get(request.run)
    state = known.loop.state if known is not None else house.recorded(request.run)
    assert state is not None
    limits = changed(state, request.limits)
    live = known or house.reopened(request.run, state)
    live.loop.take(events.BudgetChanged(at=house.clock.now(), by=request.by, limits=limits))
    house.changed.set()
    return {"limits": asdict(limits)}


def power(house: House, request: requests.Power) -> dict[str, Any]:
    """Take the new power budget. Raises AskError."""
    known = house.runs.get(request.run)
    state = known.loop.state if known is not None else house.recorded(request.run)
    assert state is not None
    if state.phase is Phase.SUCCEEDED:
        raise AskError("usage", f"{state.run} is complete: it draws no power any more")
    if request.watts is not None and not 0 < request.watts < float("inf"):
        raise AskError("usage", f"a power budget must be more than 0 W, or none to lift it: not {request.watts}")
    live = known or house.reopened(request.run, state)
    live.loop.take(events.PowerBudgetChanged(at=house.clock.now(), by=request.by, watts=request.watts))
    house.changed.set()
    return {"watts": request.watts}


def changed(state: State, limits: Mapping[str, float | None]) -> Limits:
    """The budgets of a run with some of them changed; None lifts one. Raises AskError."""
    if state.phase is Phase.SUCCEEDED:
        raise AskError("usage", f"{state.run} is complete: it spends nothing any more")
    for name, value in limits.items():
        if name not in NAMES:
            raise AskError("usage", f"there is no budget of {name}; there is: {', '.join(NAMES)}")
        if value is not None and not 0 < value < float("inf"):
            raise AskError("usage", f"a budget of {name} must be more than 0, or none to lift it: not {value}")
    if limits.get("money") is not None and not _has_price(state):
        raise AskError(
            "usage", f"{state.run} has no price, so nothing of it can be told in money: see `cost` of the spec"
        )
    known = asdict(state.limits) if state.limits is not None else {}
    return Limits(**{**known, **limits})


def _has_price(state: State) -> bool:
    prices = state.plan.prices
    return prices is not None and (prices.gpu_hour is not None or prices.kwh is not None)


def refuse_spent(state: State) -> None:
    """Raises AskError for a run that may not go on because nothing is left of one of its budgets, or of power."""
    if why := draws.why_not(state):
        raise AskError(
            "usage",
            f"{state.run} may not draw what it needs: {why}. Let it draw more: "
            f"lastgood power {state.run} --watts MORE (none lifts the budget)",
        )
    gone = [use for use in spending.uses(state, state.now) if use.is_spent]
    if gone:
        what = gone[0].what
        raise AskError(
            "usage",
            f"a budget of {state.run} is spent: {gone[0]}. Give it more than that: "
            f"lastgood resume {state.run} --budget {what}=MORE ({what}=none lifts it)",
        )


def read(texts: tuple[str, ...]) -> dict[str, float | None]:
    """`money=500`, `kwh=none` as a person writes them. Raises ValueError with what is wrong."""
    found: dict[str, float | None] = {}
    for text in texts:
        name, is_there, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not is_there or name not in NAMES:
            raise ValueError(f"{text!r}: needs the form WHAT=AMOUNT, WHAT being one of {', '.join(NAMES)}")
        try:
            found[name] = None if value.strip() == "none" else float(value)
        except ValueError:
            raise ValueError(f"{text!r}: {value.strip()!r} is neither a number nor none") from None
    return found

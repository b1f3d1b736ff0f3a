"""Does a run keep to its budgets? Its hours are counted anew from the journal, and the moment of its end is judged."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from monitors.hardware import PowerCapped
from orchestrator.core import events as e
from orchestrator.core import power, spending
from orchestrator.core.limits import Limits
from orchestrator.core.replacing import replace
from orchestrator.core.state import Decision, Phase, State
from orchestrator.journal import Entry as Told
from orchestrator.ledger import balance
from tests.simulation.journal import Entry
from tests.simulation.knobs import Knobs
from tests.simulation.truth import Truth, Violation

LATE_S = 1.0
HOUR_S = 3600.0
DRAWS_W, LEAST_W = 700.0, 200.0
"""of a GPU"""


def limits_of(knobs: Knobs) -> Limits | None:
    """A part of what the run needs when nothing fails."""
    hours = knobs.ranks * knobs.steps * knobs.step_s / HOUR_S
    return Limits(gpu_hours=knobs.budget_share * hours) if knobs.budget_share else None


def more(state: State) -> Limits:
    """What a person gives a run whose budget is spent."""
    assert state.limits is not None
    assert state.limits.gpu_hours is not None
    return Limits(gpu_hours=1.7 * state.limits.gpu_hours)


def watts_of(knobs: Knobs, dice: Random) -> float | None:
    """A power budget as a person may set it: none, plenty, less than GPUs draw, less than they may be limited to."""
    each_w = dice.choice((None, 1.1 * DRAWS_W, 0.8 * DRAWS_W, 0.6 * LEAST_W))
    return None if each_w is None else each_w * knobs.ranks


def capped(knobs: Knobs, at: float, node: int, watts: float | None) -> PowerCapped:
    """What a node answers to the order to limit its GPUs."""
    why = ""
    if watts is not None:
        why = "it needs root" if not knobs.power_right else "" if watts >= LEAST_W else "that is below the least"
    each_w = DRAWS_W if why or watts is None else min(DRAWS_W, watts)
    drawn_w = each_w * knobs.ranks_per_node
    return PowerCapped(at=at, node=node, watts=watts, may_draw_w=drawn_w, least_w=LEAST_W, why=why)


class Purse:
    """Looks at every decision as it is made."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._back_at = float("-inf")
        self.spent = 0

    def decided(self, before: State | None, event: e.Event, decision: Decision) -> None:
        """Raise Violation when a run is ended too late for its budget, or too soon."""
        if decision.state.phase is Phase.TRAINING and (why := power.why_not(decision.state)):
            raise Violation(f"it trains on beyond its power budget: {why}")
        if isinstance(event, e.SupervisorStarted):
            self._back_at = event.at
        if before is None or not decision.state.out_of or before.out_of:
            return
        self.spent += 1
        self._truth.faults[before.world].append("budget")  # what else befell this world may never be told
        use = next(use for use in spending.uses(before, event.at) if use.what == decision.state.out_of)
        over_s = (use.spent - use.limit) * HOUR_S / (before.plan.nodes * before.plan.ranks_per_node)
        if over_s < -LATE_S:
            raise Violation(f"ended for a budget of which {-over_s:.0f} s are left: {use}")
        was_away = event.at - over_s <= self._back_at and event.at - self._back_at <= LATE_S
        if over_s > LATE_S and not was_away:
            raise Violation(f"ended {over_s:.0f} s after the last of its budget was spent: {use}")


def _as_decided(entry: Entry) -> e.Event:
    """The event, at the core's time: nearly always its own."""
    now = entry.decision.state.now
    return entry.event if entry.event.at == now else replace(entry.event, at=now)


def balanced(entries: Sequence[Entry], state: State) -> None:
    """Raise Violation when the core, over all its crashes, counted other hours than the ledger does.

    News that come late are decided about when they come, so that is when they end what went on: the ledger has that
    since they happened, which may be hours before, and is asked with the core's times.
    """
    told = [
        Told(
            id=n,
            event=_as_decided(entry),
            phase=entry.decision.state.phase,
            actions=entry.decision.actions,
            opened=entry.decision.opened,
            closed=entry.decision.closed,
        )
        for n, entry in enumerate(entries)
    ]
    books = balance(told, state.now)
    for use in spending.uses(state, state.now):
        if abs(use.spent - books.gpu_hours) > LATE_S / HOUR_S:
            raise Violation(f"the core counts {use}, the ledger {books.gpu_hours:.4f} GPU hours")

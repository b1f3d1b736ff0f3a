"""How much of its budgets did a run spend, who is told, and what is done when nothing is left?

Told at half and at four fifths, paged when nearly spent; then the run saves, ends, and is held for a person, who may
give it more (`lastgood resume RUN --budget money=500`). A mark is looked for when progress is heard, and when the time
comes at which seconds alone reach it (`due`), so a run overshoots by what its last save takes, and by the time that no
supervisor was there. Energy that nobody read is not in it: a budget that counts energy says so instead of pretending.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from monitors.values import quick
from orchestrator.core import events as e
from orchestrator.core import meter, worlds
from orchestrator.core.actions import Action, Alert, StopAfterStep
from orchestrator.core.limits import Limits, Prices
from orchestrator.core.policy import Severity
from orchestrator.core.replacing import replace
from orchestrator.core.state import Decision, Phase, State

MARKS = {0.5: Severity.INFO, 0.8: Severity.WARNING, 0.95: Severity.CRITICAL}
"""share of a budget, and how loudly people are told of it; the last one pages"""
HOUR_S = 3600.0
ROUNDING = 1e-9
LATE_S = 0.001
"""a mark is looked for when it is reached for certain: times are rounded"""
ENDING = frozenset({Phase.STOPPING, Phase.PAUSING, Phase.FINISHING, Phase.HOLDING})
KNOWN_SHARE = 0.9
"""a budget of energy that was read for less of the GPU time cannot be held to"""
BLIND_AFTER_S = 600.0
"""with devices, before that is said: readings come late, and begin after the first world"""
BLIND = "blind"
UNPRICED = Prices()


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One budget."""

    what: str
    """a field of `Limits`"""
    spent: float
    limit: float
    unit: str
    known_share: float = 1.0
    """of the GPU time that its energy was read for; 1 where no energy is in it"""

    @property
    def share(self) -> float:
        """Of the limit."""
        return self.spent / self.limit

    @property
    def is_spent(self) -> bool:
        """Nothing is left."""
        return self.share >= 1.0 - ROUNDING

    def __str__(self) -> str:
        least = "at least " if self.known_share < KNOWN_SHARE else ""
        return f"{least}{self.spent:.4g} of {self.limit:.6g} {self.unit}"


def uses(state: State, at: float) -> tuple[Use, ...]:
    """Every budget of the run, as it stands at `at`."""
    limits = state.limits
    if limits is None:
        return ()
    wall_s, device_s = meter.seconds(state.meter, state.phase, at)
    gpu_s, prices = state.plan.nodes * state.plan.ranks_per_node * device_s, state.plan.prices or UNPRICED
    found: list[Use] = []
    if limits.money is not None:
        money = prices.money(gpu_s / HOUR_S, prices.kwh_of(state.meter.joules))
        share, unit = (_read(state, gpu_s) if prices.kwh else 1.0), prices.currency or ""
        if money is not None:
            found.append(Use(what="money", spent=money, limit=limits.money, unit=unit, known_share=share))
    if limits.gpu_hours is not None:
        found.append(Use(what="gpu_hours", spent=gpu_s / HOUR_S, limit=limits.gpu_hours, unit="GPU hours"))
    if limits.kwh is not None:
        kwh, share = prices.kwh_of(state.meter.joules), _read(state, gpu_s)
        found.append(Use(what="kwh", spent=kwh, limit=limits.kwh, unit="kWh", known_share=share))
    if limits.wall_hours is not None:
        found.append(Use(what="wall_hours", spent=wall_s / HOUR_S, limit=limits.wall_hours, unit="hours"))
    return tuple(found)


def _read(state: State, gpu_s: float) -> float:
    """Share of the GPU-seconds that energy was read for."""
    return min(1.0, state.meter.read_gpu_s / gpu_s) if gpu_s else 1.0


def spent_out(state: State, at: float) -> str:
    """Why the run may not go on; empty when it may."""
    gone = [use for use in uses(state, at) if use.is_spent]
    return f"its budget is spent: {gone[0]}" if gone else ""


def due(state: State) -> float | None:
    """When the next mark of a budget is reached if nothing but time passes; None: never, as far as is known."""
    if state.limits is None or state.phase in ENDING or not meter.counts(state.phase):
        return None
    ranks = state.plan.nodes * state.plan.ranks_per_node if meter.has_devices(state.phase) else 0
    price = (state.plan.prices or UNPRICED).gpu_hour or 0.0
    an_hour = {"wall_hours": 1.0, "gpu_hours": float(ranks), "money": ranks * price}
    waits = [
        state.now + max(0.0, mark * use.limit - use.spent) / pace * HOUR_S + LATE_S
        for use in uses(state, state.now)
        if (pace := an_hour.get(use.what, 0.0)) > 0 and (mark := _next_mark(state, use)) is not None
    ]
    return min(waits, default=None)


def _next_mark(state: State, use: Use) -> float | None:
    return next((mark for mark in (*MARKS, 1.0) if _name(use, mark) not in state.told), None)


def _name(use: Use, mark: float) -> str:
    return f"{use.what} {mark}"


def watched(decision: Decision, at: float) -> Decision:
    """The decision, and what the budgets of the run add to it."""
    state = decision.state
    if state.limits is None or state.phase in ENDING or not meter.counts(state.phase):
        return decision
    known = uses(state, at)
    gone = [use for use in known if use.is_spent]
    if gone:
        return _ended(decision, gone[0], at)
    told = tuple(_told(state, known, at))
    if not told:
        return decision
    names, alerts = zip(*told, strict=True)
    state = replace(state, told=(*state.told, *(name for some in names for name in some)))
    reason = "; ".join(filter(None, (decision.reason, *(alert.text for alert in alerts))))
    return replace(decision, state=state, actions=(*decision.actions, *alerts), reason=reason)


def _told(state: State, known: tuple[Use, ...], at: float) -> Iterator[tuple[tuple[str, ...], Alert]]:
    """What people have to be told of now: the names of the marks, and the highest one's words."""
    for use in known:
        reached = [mark for mark in MARKS if use.share >= mark - ROUNDING]
        new = tuple(_name(use, mark) for mark in reached if _name(use, mark) not in state.told)
        if new:
            severity = MARKS[reached[-1]]
            text = f"{reached[-1]:.0%} of a budget is spent: {use}"
            page = severity is Severity.CRITICAL
            what = "is nearly spent" if page else f"is spent to {reached[-1]:.0%}"
            yield new, Alert(severity=severity, title=f"{state.run}: a budget {what}", text=text, page=page)
        if (name := f"{use.what} {BLIND}") not in state.told and _is_blind(state, use, at):
            text = (
                f"the budget of {use.limit:.6g} {use.unit} cannot be held to: the energy of the GPUs was read for "
                f"{use.known_share:.0%} of their time, so {use.spent:.4g} {use.unit} is the least that was spent"
            )
            yield (name,), Alert(severity=Severity.WARNING, title=f"{state.run}: a budget is blind", text=text)


def _is_blind(state: State, use: Use, at: float) -> bool:
    device_s = meter.seconds(state.meter, state.phase, at)[1]
    return use.known_share < KNOWN_SHARE and device_s > BLIND_AFTER_S


def _ended(decision: Decision, use: Use, at: float) -> Decision:
    """Save and end; then the run is held."""
    before = decision.state
    reason = f"budget spent: {use}"
    names = tuple(name for mark in (*MARKS, 1.0) if (name := _name(use, mark)) not in before.told)
    state = replace(before, out_of=use.what, hold_kind=None, told=(*before.told, *names))
    if state.phase is Phase.TRAINING and state.entered and state.stopped != worlds.all_nodes(state):
        state = worlds.enter(state, Phase.STOPPING, at, reason)
        orders: tuple[Action, ...] = (StopAfterStep(attempt=state.attempt, world=state.world),)
    else:
        state, orders = worlds.end_attempt(state, at, Phase.HOLDING, reason)
    page = Alert(
        severity=Severity.CRITICAL,
        title=f"{state.run}: a budget is spent, the run is held",
        text=f"{reason}; it goes on with lastgood resume {state.run} --budget {use.what}=MORE",
        page=True,
    )
    told = "; ".join(filter(None, (decision.reason, reason)))
    return replace(decision, state=state, actions=(*decision.actions, *orders, page), reason=told)


def changed(state: State, event: e.BudgetChanged) -> Decision:
    """A person set the budgets anew: what is not reached any more will be told again."""
    state = replace(state, limits=event.limits)
    reached = {_name(use, mark) for use in uses(state, event.at) for mark in (*MARKS, 1.0) if use.share >= mark}
    kept = tuple(name for name in state.told if name in reached or name.endswith(BLIND))
    late = "; it is being ended for the one before: resume it then" if state.out_of and state.phase in ENDING else ""
    return Decision(state=replace(state, told=kept), reason=f"{event.by} set the budget: {words(event.limits)}{late}")


def words(limits: Limits) -> str:
    """`money 500, kwh 20`."""
    given = ((name, getattr(limits, name)) for name in ("money", "gpu_hours", "kwh", "wall_hours"))
    return ", ".join(f"{name} {value:.6g}" for name, value in given if value is not None) or "none"

"""When will a run be complete, and what will it have cost by then? With the spread that its own record leaves.

Three hundred courses of the rest of the run are drawn, from a seed that the state alone decides: the same state has the
same forecast, for a millisecond or two. What is drawn:

- the pace: the mean of the run so far, off by what its blocks of steps scatter, those that were and those to come;
- how many interruptions are still to come: a Poisson number, of a rate by seconds trained that is a mixture of Gamma
  distributions. The prior of each counts for one interruption, at the rates published (`core.interval` names the
  sources) or some decades off (`DECADES`): most runs are as published, but a run that is being debugged fails each
  minute, and has to be believed soon;
- what each of them costs: one of those that the run had (a bootstrap), or the prior, which is one more of them: as long
  as the first world took to start, and half the steps between two saves.

A person who pauses, holds or stops a run is nobody's forecast: time spent waiting for one is not in it, and there is
none for a run that waits for a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, log1p, sqrt
from random import Random

from orchestrator.core import interval, spending
from orchestrator.core.history import Setback
from orchestrator.core.limits import Prices
from orchestrator.core.meter import seconds
from orchestrator.core.state import ENDED, Phase, State

DRAWS = 300
DOWN = frozenset({Phase.STOPPING_WORLD, Phase.BACKING_OFF, Phase.RELAUNCHING, Phase.STARTING, Phase.LAUNCHING})
"""phases from which the run first has to come back"""
SHORT_S = 60.0
"""what a first world is taken to need to start while none has"""
DECADES = {0.1: 0.2, 1.0: 0.6, 10.0: 0.15, 100.0: 0.04, 1000.0: 0.008, 10_000.0: 0.002}
"""times as often as published, and how much a run is believed to be so before it showed anything. Fleets of one company
differ by 2.8 (RSC-1 and RSC-2, arXiv 2410.21680), small runs by far more; the far end is a guess, and only has to be
more than nothing for ten failures in ten minutes to be believed"""
EXACT_MAX = 200
"""interruptions drawn one by one; of more, their sum is as good as normal"""
HOUR_S = 3600.0

NO_TARGET = "nobody says how many steps the run has: run.steps(until=...) of the SDK does, or target_steps in the spec"
NO_PACE = "too few steps to know its pace"
NOT_GOING = "it does not go on: nothing to forecast"
DONE = "it has ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One number that is not known yet: one in ten lies below p10, one in ten above p90."""

    p10: float
    p50: float
    p90: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The end of a run."""

    target_step: int
    finish: Spread
    """seconds since the epoch"""
    gpu_hours: Spread
    """of the whole run, as the next ones; None where what was spent so far is not known"""
    money: Spread | None
    kwh: Spread | None
    interruptions: float
    """still to come, on average"""
    short: tuple[str, ...]
    """budgets (fields of `Limits`) that more than half of the courses exceed before the end"""


def forecast(state: State, now: float) -> Forecast | str:
    """The end of a run that goes on at `now`; or why it cannot be told."""
    if why := _unknown(state):
        return why
    assert state.target is not None
    dice = Random(f"{state.run} {state.world} {state.step} {len(state.history.setbacks)}")
    since = state.heard if state.phase is Phase.TRAINING else now  # the step under way is counted as a whole
    courses = _Courses(state, now)
    ends = [courses.draw(dice) for _ in range(DRAWS)]
    return _told(state, since, ends, courses.expected)


def _unknown(state: State) -> str:
    if state.phase in ENDED:
        return NOT_GOING if state.phase is Phase.HELD else DONE
    if state.phase in (Phase.STOPPING, Phase.HOLDING):
        return NOT_GOING
    if state.target is None:
        return NO_TARGET
    return "" if state.history.steps or state.step_s else NO_PACE


class _Courses:
    """What the rest of a run is drawn from."""

    def __init__(self, state: State, now: float) -> None:
        history = state.history
        assert state.target is not None
        self._steps_left = max(0, state.target - (state.step or state.best_step))
        self._blocks = list(zip(history.steps, history.seconds, strict=True)) or [(1, state.step_s or 0.0)]
        self._trained_s = max(state.trained_s, sum(history.seconds))
        self._prior = _prior(state)
        self._costs = (*history.setbacks, self._prior)
        ranks = state.plan.nodes * state.plan.ranks_per_node
        published_s = 1.0 / (ranks / interval.GPU_S + 1.0 / interval.OWN_S)
        self._count = history.interruptions
        self._exposed_s = [published_s / often + self._trained_s for often in DECADES]
        self._weights = _weights(published_s, self._trained_s, self._count)
        since = state.since if history.lost_at is None else history.lost_at
        self._down_s = now - since if state.phase in DOWN else None
        pace_s = sum(s for _, s in self._blocks) / sum(n for n, _ in self._blocks)
        self._pace_s = pace_s
        ahead = self._steps_left / (sum(n for n, _ in self._blocks) / len(self._blocks))
        self._off_s = _scatter(self._blocks, pace_s) * sqrt(1.0 / len(self._blocks) + 1.0 / max(1.0, ahead))
        rates = [(1 + self._count) / exposed_s for exposed_s in self._exposed_s]
        rate = sum(weight * rate for weight, rate in zip(self._weights, rates, strict=True)) / sum(self._weights)
        self.expected = rate * self._steps_left * pace_s

    def draw(self, dice: Random) -> float:
        """Seconds that the rest takes in one course, all of them with devices: nobody foresees a queue."""
        pace_s = self._pace(dice)
        train_s = self._steps_left * pace_s
        exposed_s = dice.choices(self._exposed_s, self._weights)[0]
        rate = dice.gammavariate(1 + self._count, 1.0 / exposed_s)
        number = _poisson(dice, rate * train_s)
        down_s, steps = self._setbacks(dice, number)
        train_s += steps * pace_s
        if self._down_s is not None:
            down_s += max(0.0, dice.choice(self._costs).down_s - self._down_s)
        return train_s + down_s

    def _pace(self, dice: Random) -> float:
        """Seconds of a step, mean of those still to be done."""
        free = max(2, len(self._blocks) - 1)  # of few blocks the scatter itself is not known well: Student's t
        off_s = self._off_s * dice.gauss(0.0, 1.0) / sqrt(dice.gammavariate(free / 2, 2.0 / free))
        return max(self._pace_s / 10, self._pace_s + off_s)

    def _setbacks(self, dice: Random, number: int) -> tuple[float, float]:
        """Seconds and steps that so many interruptions cost."""
        if number <= EXACT_MAX:
            drawn = dice.choices(self._costs, k=number)
            return sum(cost.down_s for cost in drawn), sum(cost.steps for cost in drawn)
        down = [cost.down_s for cost in self._costs]
        steps = [float(cost.steps) for cost in self._costs]
        return tuple(  # type: ignore[return-value]
            max(0.0, number * _mean(some) + sqrt(number) * _deviation(some) * dice.gauss(0.0, 1.0))
            for some in (down, steps)
        )


def _weights(published_s: float, trained_s: float, count: int) -> list[float]:
    """How much each decade is to be believed: the prior, times how likely it makes `count` in the time trained."""
    prior = [(published_s / often, share) for often, share in DECADES.items()]
    logs = [log(mean_s / (mean_s + trained_s)) - count * log1p(mean_s / max(trained_s, 1.0)) for mean_s, _ in prior]
    top = max(logs)
    return [share * exp(value - top) for (_, share), value in zip(prior, logs, strict=True)]


def _prior(state: State) -> Setback:
    start_s = state.history.start_s
    saved = min(state.save_every, state.best_step) // 2 if not state.plan.copies else 0
    return Setback(down_s=SHORT_S if start_s is None else start_s, steps=saved)


def _scatter(blocks: Sequence[tuple[int, float]], pace_s: float) -> float:
    """Standard deviation of the pace from block to block; with too few of them, a tenth of the pace."""
    if len(blocks) < 3:
        return pace_s / 10
    spread = sum(n * (s / n - pace_s) ** 2 for n, s in blocks) / sum(n for n, _ in blocks)
    return sqrt(spread * len(blocks) / (len(blocks) - 1))


def _poisson(dice: Random, mean: float) -> int:
    if mean > EXACT_MAX:
        return max(0, round(dice.gauss(mean, sqrt(mean))))
    number, at = 0, dice.expovariate(1.0)
    while at < mean:
        number, at = number + 1, at + dice.expovariate(1.0)
    return number


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _deviation(values: Sequence[float]) -> float:
    mean = _mean(values)
    return sqrt(sum((value - mean) ** 2 for value in values) / len(values))


def _told(state: State, since: float, ends: Sequence[float], expected: float) -> Forecast:
    """The forecast, of courses that begin at `since`."""
    assert state.target is not None
    prices = state.plan.prices or Prices()
    ranks = state.plan.nodes * state.plan.ranks_per_node
    wall_s, device_s = seconds(state.meter, state.phase, since)
    hours = [ranks * (device_s + left_s) / HOUR_S for left_s in ends]
    meter = state.meter
    watts = meter.joules / meter.read_gpu_s if meter.read_gpu_s > 0 else None
    kwh = None if watts is None else [prices.kwh_of(watts * gpu_hours * HOUR_S) for gpu_hours in hours]
    money = [prices.money(gpu_hours, None if kwh is None else kwh[n]) for n, gpu_hours in enumerate(hours)]
    totals = {
        "money": _known(money) if prices.kwh is None or kwh is not None else None,
        "gpu_hours": hours,
        "kwh": kwh,
        "wall_hours": [(wall_s + left_s) / HOUR_S for left_s in ends],
    }
    limits = {use.what: use.limit for use in spending.uses(state, since)}
    over = {what: some for what, some in totals.items() if some is not None and what in limits}
    return Forecast(
        target_step=state.target,
        finish=_spread([since + left_s for left_s in ends]),
        gpu_hours=_spread(hours),
        money=None if totals["money"] is None else _spread(totals["money"]),
        kwh=None if kwh is None else _spread(kwh),
        interruptions=expected,
        short=tuple(what for what, some in over.items() if sum(v > limits[what] for v in some) > len(some) / 2),
    )


def _known(values: Sequence[float | None]) -> list[float] | None:
    found = [value for value in values if value is not None]
    return found if len(found) == len(values) else None


def _spread(values: Sequence[float]) -> Spread:
    ordered = sorted(values)
    last = len(ordered) - 1
    return Spread(p10=ordered[round(last * 0.1)], p50=ordered[round(last * 0.5)], p90=ordered[round(last * 0.9)])

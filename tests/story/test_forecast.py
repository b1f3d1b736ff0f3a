"""Is the end of a run forecast from its own record, and does it come when the forecast says, as surely as it says?"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from monitors.incidents import Kind
from orchestrator.core import events as e
from orchestrator.core.limits import Limits, Prices
from orchestrator.core.policy import Policy, Rung
from orchestrator.core.state import Phase, State
from orchestrator.forecast import NO_PACE, NO_TARGET, NOT_GOING, Forecast, forecast
from tests.story.scripted import PLAN, POLICY, T0, Script

STEPS = 2000
HOUR_S, DAY_S = 3600.0, 86400.0


def told(state: State, now: float) -> Forecast:
    found = forecast(state, now)
    assert isinstance(found, Forecast), found
    return found


def submitted(until: int | None = STEPS, **plan: object) -> Script:
    script = Script(plan=replace(PLAN, **plan))  # type: ignore[arg-type]
    script.join()
    script.take(e.WorldEntered(at=script.wait(20.0).now, world=1, until=until))
    script.take(e.WorldRestored(at=script.wait(1.0).now, world=1, checkpoint=None, step=0))
    return script


def test_without_a_target_a_pace_or_a_run_that_goes_on_there_is_none_and_it_says_why() -> None:
    assert forecast(submitted(None).train(10).state, T0) == NO_TARGET
    assert forecast(submitted().state, T0) == NO_PACE
    held = submitted().train(10).fail(Kind.CRASH_LOOP)
    assert forecast(held.state, held.now) == NOT_GOING


def test_the_spec_says_the_target_where_the_script_does_not_and_the_script_knows_better() -> None:
    assert submitted(None, target_step=77).state.target == 77
    assert submitted(99, target_step=77).state.target == 99


def test_a_steady_run_ends_when_its_pace_says() -> None:
    script = submitted()
    for _ in range(100):
        script.train(5, 1.0)
    found = told(script.state, script.now)
    assert found.finish.p50 == pytest.approx(script.now + 1500.0, rel=0.001)
    assert found.finish.p10 <= found.finish.p50 <= found.finish.p90 < script.now + 1700.0
    assert found.target_step == STEPS


def test_the_same_state_has_the_same_forecast() -> None:
    script = submitted().train(50, 1.0).train(50, 2.0)
    assert forecast(script.state, script.now) == forecast(script.state, script.now)


def test_interruptions_of_the_past_are_expected_to_go_on() -> None:
    quiet, rough = submitted(), submitted()
    for _ in range(10):
        quiet.train(50, 1.0)
        rough.train(45, 1.0).save().train(5, 1.0)
        rough.fail(Kind.WORKER_KILLED).stop(100.0).begin(rough.state.checkpoints[-1].step, start_s=200.0)
        rough.train(1, 1.0)
    calm, wild = told(quiet.state, quiet.now), told(rough.state, rough.now)
    assert rough.state.history.interruptions == 10
    assert rough.state.history.setbacks[0].steps == 5
    assert rough.state.history.setbacks[0].down_s == pytest.approx(301.75, abs=0.1)
    assert wild.interruptions > 15
    assert calm.interruptions < 1
    lost_s = wild.finish.p50 - rough.now - (STEPS - rough.state.step)
    assert lost_s == pytest.approx(wild.interruptions * 310.0, rel=0.3)
    assert wild.finish.p90 - wild.finish.p10 > 10 * (calm.finish.p90 - calm.finish.p10)


def test_a_run_that_is_down_has_to_come_back_first() -> None:
    script = submitted().train(10, 1.0).save()
    for _ in range(5):
        step = script.state.step
        script.train(5, 1.0).fail(Kind.WORKER_KILLED).stop(1.0).begin(step, start_s=500.0).train(50, 1.0).save()
    up = told(script.state, script.now)
    down = script.fail(Kind.WORKER_KILLED, detect_s=0.1).state
    assert told(down, script.now).finish.p50 > up.finish.p50 + 300.0


def test_the_cost_is_what_was_spent_and_what_is_to_come() -> None:
    prices = Prices(currency="EUR", gpu_hour=2.0, kwh=0.5)
    script = submitted(prices=prices, limits=Limits(money=2.0, gpu_hours=50.0))
    for _ in range(20):
        script.wait(50.0)
        spent_s = script.now - T0
        script.train(50, 0.0, energy=e.EnergyRead(since=T0, until=script.now, joules=600 * spent_s, gpu_s=2 * spent_s))
    found = told(script.state, script.now)
    hours = 2 * (script.now - T0 - 2.0 + 1000.0) / HOUR_S
    assert found.gpu_hours.p50 == pytest.approx(hours, rel=0.02)
    assert found.kwh is not None
    assert found.kwh.p50 == pytest.approx(0.3 * hours, rel=0.02)
    assert found.money is not None
    assert found.money.p50 == pytest.approx(2.0 * hours + 0.5 * 0.3 * hours, rel=0.02)
    assert found.short == ("money",)


def test_without_prices_or_readings_money_and_energy_are_unknown() -> None:
    script = submitted(prices=Prices(currency="EUR", kwh=0.5)).train(50, 1.0).train(50, 1.0)
    found = told(script.state, script.now)
    assert (found.money, found.kwh) == (None, None)


RESTART = replace(POLICY.responses[Kind.WORKER_KILLED], ladder=(Rung.RESTART,))
PATIENT = Policy(version="patient", responses=POLICY.responses | {Kind.WORKER_KILLED: RESTART})


# Calibration: the truth is drawn, a state is what the core would remember of it, and the end must lie where it says.


def lived(dice: Random) -> tuple[list[tuple[State, float]], float]:
    """One run of a made-up world: what its state was at a few moments, and when it ended."""
    pace_s, scatter = 10 ** dice.uniform(0.0, 2.5), dice.choice((0.02, 0.1, 0.3))
    rate = min(10 ** dice.gauss(0.0, 0.7) / DAY_S, 20.0 / (STEPS * pace_s))
    start_s = pace_s * dice.uniform(1.0, 60.0)
    script = submitted(save_every=50)
    script.take(e.PolicyChanged(at=script.now, policy=PATIENT))
    marks = sorted(dice.sample(range(150, STEPS - 200), 3))
    seen: list[tuple[State, float]] = []
    fails_at, saved = script.now + dice.expovariate(rate), 0
    while script.state.step < STEPS:
        steps = min(10, STEPS - script.state.step)
        script.train(steps, max(0.2, dice.gauss(1.0, scatter)) * pace_s)
        if script.state.step >= saved + 50:
            script.save()
            saved = script.state.step
        if marks and script.state.step >= marks[0]:
            seen.append((script.state, script.now))
            marks.pop(0)
        if script.now >= fails_at and script.state.step < STEPS:
            down_s = start_s * dice.lognormvariate(0.0, 0.5)
            script.fail(Kind.WORKER_KILLED, detect_s=1.0).stop(1.0)
            while script.state.phase is Phase.BACKING_OFF:
                assert script.state.deadline is not None
                script.now = max(script.now, script.state.deadline)
                script.take(e.TimePassed(at=script.now))
            script.begin(saved, start_s=down_s)
            fails_at = script.now + dice.expovariate(rate)
    return seen, script.now


def test_the_true_end_lies_between_p10_and_p90_about_four_times_in_five() -> None:
    dice = Random("calibration")
    below = above = total = 0
    for _ in range(60):
        seen, end = lived(dice)
        for state, now in seen:
            finish = told(state, now).finish
            below, above, total = below + (end < finish.p10), above + (end > finish.p90), total + 1
    inside = 1.0 - (below + above) / total
    assert 0.70 <= inside <= 0.92, (below, above, total)
    assert below / total <= 0.20
    assert above / total <= 0.20

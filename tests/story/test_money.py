"""Is what a run cost told for each use of its time and each incident, no second twice and no price made up?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from monitors.incidents import Kind
from orchestrator import money, timeline
from orchestrator.core import events as e
from orchestrator.core.limits import Prices
from orchestrator.ledger import balance
from orchestrator.spans import Bucket, spans_of
from tests.story.scripted import T0, Script

PRICES = Prices(currency="EUR", gpu_hour=3.6, kwh=0.5, carbon_g_per_kwh=400.0, overhead=1.5)
WATTS = 720.0
"""of both GPUs together: 0.0002 kWh a second, 0.0003 with the overhead"""


def bill(script: Script, prices: Prices | None = PRICES) -> money.Costs:
    spans, course = spans_of(script.entries, script.now), timeline.walk(script.entries)
    return money.costs(script.entries, spans, course, prices, ranks=2)


def energy(script: Script) -> e.EnergyRead:
    spent_s = script.now - T0
    return e.EnergyRead(since=T0, until=script.now, joules=WATTS * spent_s, gpu_s=2 * spent_s)


def train(script: Script, steps: int) -> Script:
    script.wait(steps * 0.1)
    return script.train(steps, 0.0, energy=energy(script))


def killed() -> Script:
    """Ten steps, a save, ten more that are lost; dead for 0.25 s, ended in 0.5 s, started in 3.5 s; a step."""
    script = train(train(Script().join(0.0).begin(0), 10).save(), 10)
    return train(script.fail(Kind.WORKER_KILLED, detect_s=0.25).stop(0.5).begin(10), 1)


def test_the_bill_is_gpu_hours_and_kwh_times_their_prices() -> None:
    script = train(Script().join(10.0).begin(0), 100)
    found = bill(script).total
    owned_s = script.now - T0 - 10.0
    assert found.gpu_hours == pytest.approx(2 * owned_s / 3600)
    assert found.kwh == pytest.approx(1.5 * WATTS * (script.now - T0) / 3.6e6)
    assert found.money == pytest.approx(3.6 * found.gpu_hours + 0.5 * found.kwh)
    assert found.co2e_g == pytest.approx(400.0 * found.kwh)
    assert found.kwh_known_share == 1.0
    assert bill(script).missing == ()


def test_the_buckets_add_up_to_the_bill() -> None:
    found = bill(killed())
    for name in ("gpu_hours", "money", "kwh", "co2e_g"):
        parts = [getattr(cost, name) for cost in found.buckets.values()]
        assert sum(part for part in parts if part is not None) == pytest.approx(getattr(found.total, name))
    assert found.buckets[Bucket.RECOMPUTED].gpu_hours == pytest.approx(2 * 1.0 / 3600)
    assert found.total.gpu_hours == pytest.approx(balance(killed().entries, killed().now).gpu_hours)


def test_an_incident_costs_its_recovery_and_the_steps_trained_again() -> None:
    cost = bill(killed()).incidents["i1"]
    assert cost.gpu_hours == pytest.approx(2 * (0.25 + 0.5 + 3.5 + 1.0) / 3600)
    assert cost.kwh == pytest.approx(1.5 * WATTS * 5.25 / 3.6e6, rel=1e-3)
    assert cost.money is not None


def test_no_second_is_in_two_incidents() -> None:
    """The second world dies before its first step: its incident has what comes after the first one's claim."""
    script = train(train(Script().join(0.0).begin(0), 10).save(), 10)
    script.fail(Kind.WORKER_KILLED).stop().begin(10)
    script.fail(Kind.WORKER_EXCEPTION, fingerprint="x").stop().begin(10)
    train(script, 5)
    found = bill(script)
    waste = {Bucket.RECOMPUTED, Bucket.DETECTING, Bucket.RECOVERING, Bucket.HUNG, Bucket.STARTUP, Bucket.RESTORE}
    wasted = sum(cost.gpu_hours for bucket, cost in found.buckets.items() if bucket in waste)
    start = 2 * 3.5 / 3600  # of the first world, which nothing is to blame for
    assert sum(cost.gpu_hours for cost in found.incidents.values()) == pytest.approx(wasted - start)


def test_what_is_only_observed_costs_nothing_and_is_not_in_the_bill() -> None:
    script = train(Script().join(0.0).begin(0), 10)
    script.fail(Kind.SUPERVISOR_RESTARTED)
    assert bill(train(script, 10)).incidents == {}


@pytest.mark.parametrize(
    ("prices", "expected", "says"),
    [
        (None, None, money.NO_PRICE),
        (Prices(), None, money.NO_PRICE),
        (Prices(currency="EUR", kwh=0.3), None, money.NO_ENERGY),
        (Prices(currency="EUR", gpu_hour=2.0), 2.0, money.NO_CARBON),
    ],
)
def test_what_is_not_known_is_not_zero_and_says_how_to_set_it(
    prices: Prices | None, expected: float | None, says: str
) -> None:
    script = Script().join(0.0).begin(0).train(10)
    found = bill(script, prices)
    assert found.total.kwh is None
    assert found.total.co2e_g is None
    assert says in found.missing
    gpu_hours = found.total.gpu_hours
    assert found.total.money == (None if expected is None else pytest.approx(expected * gpu_hours))


def test_energy_that_was_read_in_part_is_the_least_and_says_so() -> None:
    script = Script().join(0.0).begin(0)
    known: dict[str, Any] = {"gpu_s": 0.5 * (script.now + 10.0 - T0)}
    script.wait(10.0)
    script.train(100, 0.0, energy=replace(energy(script), **known))
    found = bill(script)
    assert found.total.kwh_known_share == pytest.approx(0.25)
    assert money.SOME_ENERGY in found.missing
    stopped = script.wait(100.0).train(1, 0.0)
    unread = bill(stopped).buckets[Bucket.PRODUCTIVE]
    assert unread.kwh_known_share is not None
    assert unread.kwh_known_share < 0.1


def test_nothing_is_spent_while_a_run_waits_for_a_person() -> None:
    script = train(Script().join(0.0).begin(0), 10)
    script.fail(Kind.CRASH_LOOP)
    script.take(e.AttemptEnded(at=script.wait(1.0).now, attempt=1))
    before = bill(script).total
    after = bill(script.wait(1e6)).total
    assert after.gpu_hours == before.gpu_hours
    assert bill(script).buckets[Bucket.HELD].gpu_hours == 0.0

"""Is a budget counted once, told of in time, and never overshot by more than the last save takes?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from monitors.incidents import Kind
from orchestrator.core import actions as a
from orchestrator.core import events as e
from orchestrator.core import meter, spending
from orchestrator.core.limits import Limits, Prices
from orchestrator.core.policy import Severity
from orchestrator.core.state import Decision, Phase, State
from orchestrator.journal import Entry
from orchestrator.ledger import balance
from tests.core.script import PLAN, Script, at_phase, kinds

HOUR_S = 3600.0
PRICES = Prices(currency="EUR", gpu_hour=2.0)


def run_of(prices: Prices | None = PRICES, **limits: Any) -> Script:
    """A run of two ranks with budgets, that trains."""
    return Script(plan=replace(PLAN, limits=Limits(**limits), prices=prices)).train()


def until(run: Script, mark: float, step: int) -> Decision:
    """Train until the first budget reaches this share, by what is heard of each hundredth of it."""
    use = spending.uses(run.state, run.state.now)[0]
    while True:
        decision = run.progress(step)
        step += 1
        now = spending.uses(run.state, run.state.now)[0]
        if now.share >= mark or run.state.phase is not Phase.TRAINING:
            return decision
        run.at += use.limit / now.spent * (run.state.now - 1000.0) / 100 if now.spent else 1.0


def alerts(run: Script) -> list[a.Alert]:
    return [action for _, decision in run.decisions for action in decision.actions if isinstance(action, a.Alert)]


def entries(run: Script) -> list[Entry]:
    """As the journal would have them."""
    return [
        Entry(
            id=n,
            event=event,
            phase=made.state.phase,
            reason=made.reason,
            actions=made.actions,
            opened=made.opened,
            closed=made.closed,
        )
        for n, (event, made) in enumerate(run.decisions, 1)
    ]


GOES_ON = [phase for phase in Phase if meter.counts(phase) and phase not in spending.ENDING]


def test_people_are_told_at_each_mark_once_and_paged_when_it_is_nearly_spent() -> None:
    run = run_of(gpu_hours=1.0)
    until(run, 0.99, 2)
    assert [(alert.severity, alert.page) for alert in alerts(run)] == [
        (Severity.INFO, False),
        (Severity.WARNING, False),
        (Severity.CRITICAL, True),
    ]
    assert "50% of a budget is spent: 0.5" in alerts(run)[0].text
    assert run.state.phase is Phase.TRAINING


def test_a_mark_is_reached_without_a_word_of_the_ranks() -> None:
    run = run_of(wall_hours=1.0)
    due = spending.due(run.state)
    assert due == pytest.approx(run.state.meter.since + 1800.0 - run.state.meter.wall_s, abs=0.01)
    run.at = due
    assert kinds(run.see(e.TimePassed(at=due))) == ["Alert"]
    later = spending.due(run.state)
    assert later is not None
    assert later - due == pytest.approx(0.3 * HOUR_S, abs=0.01)


def test_at_the_end_the_run_saves_and_is_held_and_can_go_on_with_more() -> None:
    run = run_of(money=2.0)
    spent = until(run, 1.0, 2)
    assert kinds(spent) == ["StopAfterStep", "Alert"]
    assert spent.actions[-1].page  # type: ignore[union-attr]
    assert (run.state.phase, run.state.out_of) == (Phase.STOPPING, "money")
    save = run.save(run.state.step)
    run.stopped()
    run.ended()
    assert (run.state.phase, run.state.hold_kind) == (Phase.HELD, None)
    assert run.state.reason.startswith("budget spent: 2")
    refused = run.see(e.ResumeRequested(at=run.tick(), by="ada"))
    assert (run.state.phase, "its budget is spent" in refused.reason) == (Phase.HELD, True)
    run.see(e.BudgetChanged(at=run.tick(), by="ada", limits=Limits(money=4.0)))
    run.see(e.ResumeRequested(at=run.tick(9000.0), by="ada"))
    assert (run.state.phase, run.state.out_of) == (Phase.LAUNCHING, "")
    used = spending.uses(run.state, run.state.now)[0]
    assert used.spent == pytest.approx(2.0, rel=0.03), "nothing is spent while it is held, nor forgotten"
    run.join()
    assert run.checkpoint(save)


@pytest.mark.parametrize("phase", GOES_ON)
def test_nothing_left_ends_a_run_in_every_phase(phase: Phase) -> None:
    run = at_phase(phase)
    run.see(e.BudgetChanged(at=run.tick(), by="ada", limits=Limits(wall_hours=1e-6)))
    assert spending.due(run.state) is not None
    run.see(e.TimePassed(at=run.tick()))
    assert run.state.phase in (Phase.STOPPING, Phase.HOLDING)
    for _ in range(5):
        run.wait()
    run.ended()
    assert (run.state.phase, run.state.out_of) == (Phase.HELD, "wall_hours")
    assert any(alert.page for alert in alerts(run))


def test_a_person_who_stops_the_run_meanwhile_has_it_stopped() -> None:
    run = run_of(gpu_hours=0.5)
    until(run, 1.0, 2)
    run.see(e.StopRequested(at=run.tick(), by="ada", now=True))
    run.ended()
    assert run.state.phase is Phase.STOPPED


def test_raising_a_budget_while_the_run_goes_on_keeps_it_going_and_tells_anew() -> None:
    run = run_of(gpu_hours=1.0)
    until(run, 0.97, 2)
    run.see(e.BudgetChanged(at=run.tick(), by="ada", limits=Limits(gpu_hours=10.0)))
    assert run.state.told == ()
    until(run, 0.6, run.state.step + 1)
    assert run.state.phase is Phase.TRAINING
    assert len(alerts(run)) == 4


def test_a_budget_counts_over_attempts_and_supervisors_once() -> None:
    """And what the core counts is what the ledger tells."""
    run = run_of(gpu_hours=100.0, wall_hours=100.0)
    for _ in range(3):
        run.progress(run.state.step + 5)
        run.see(e.SupervisorStarted(at=run.tick(600.0), pid=2, last_alive=run.at - 500))
        run.progress(run.state.step + 1)
        run.incident(Kind.AGENT_LOST)
        run.tick(50.0)
        run.ended()
        run.back_off()
        run.join()
        run.enter()
        run.progress(run.state.step + 1)
    run.see(e.StopRequested(at=run.tick(), by="ada", now=True))
    run.ended()
    run.see(e.ResumeRequested(at=run.tick(5000.0), by="ada"))
    run.tick(70.0)
    run.join()
    run.progress(run.state.best_step + 1)
    books = balance(entries(run), run.state.now)
    used = {use.what: use.spent for use in spending.uses(run.state, run.state.now)}
    assert used["gpu_hours"] == pytest.approx(books.gpu_hours, abs=1e-9)
    away_s = sum(books.buckets[bucket] for bucket in ("paused", "held"))  # type: ignore[index]
    assert used["wall_hours"] * HOUR_S == pytest.approx(books.wall_s - away_s, abs=1e-6)


def read(run: Script, since: float, joules: float, gpu_s: float) -> e.EnergyRead:
    return e.EnergyRead(since=since, until=run.at, joules=joules, gpu_s=gpu_s)


def heard(run: Script, step: int, energy: e.EnergyRead) -> Decision:
    return run.see(e.Progressed(at=run.tick(), world=run.state.world, step=step, energy=energy))


def test_energy_is_counted_over_supervisors_once_and_old_news_add_nothing() -> None:
    run = run_of(prices=Prices(overhead=1.5), kwh=10.0)
    heard(run, 2, read(run, 1000.0, 3.6e6, 20.0))
    heard(run, 3, read(run, 1000.0, 3.6e6, 20.0))
    heard(run, 4, read(run, 2000.0, 1.8e6, 10.0))
    heard(run, 5, read(run, 1000.0, 9.9e9, 99.0))
    assert run.state.meter.joules == pytest.approx(5.4e6)
    assert run.state.meter.read_gpu_s == pytest.approx(30.0)
    assert spending.uses(run.state, run.at)[0].spent == pytest.approx(1.5 * 1.5)


def test_a_budget_of_energy_that_nobody_reads_says_so_and_does_not_pretend() -> None:
    run = run_of(prices=Prices(), kwh=1.0)
    run.tick(700.0)
    blind = run.progress(2)
    assert kinds(blind) == ["Alert"]
    assert "was read for 0% of their time" in blind.actions[0].text  # type: ignore[union-attr]
    assert kinds(run.progress(3)) == [], "said once"
    assert run.state.phase is Phase.TRAINING
    used = spending.uses(run.state, run.at)[0]
    assert (used.known_share, str(used)) == (0.0, "at least 0 of 1 kWh")


def test_a_run_without_budgets_has_no_marks() -> None:
    run = Script().train()
    assert spending.due(run.state) is None
    assert spending.uses(run.state, run.at) == ()


def test_an_older_state_begins_to_count_at_its_next_phase() -> None:
    run = Script().train()
    old: State = replace(run.state, meter=meter.Meter())
    assert meter.seconds(old.meter, old.phase, run.at + 1e6) == (0.0, 0.0)
    turned = meter.turned(old.meter, old.phase, run.at)
    assert (turned.since, turned.wall_s) == (run.at, 0.0)

"""Does a run keep to its power budget, by limits where nodes may set them and by pausing where they may not?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator import rationing
from orchestrator.core import actions as a
from orchestrator.core import events as e
from orchestrator.core import power, worlds
from orchestrator.core.asked import POWER_BUDGET
from orchestrator.core.state import Decision, Phase
from orchestrator.requests import AskError
from tests.core.script import PLAN, Script, kinds

NO_RIGHT = "it needs root"
DRAWS_W = 700.0
"""the GPU of each of the two nodes"""


def run_of(watts: float | None = 1000.0, **plan: Any) -> Script:
    return Script(plan=replace(PLAN, watts=watts, **plan)).train(10)


def answer(run: Script, node: int, watts: float | None, *, why: str = "", may_draw_w: float | None = None) -> Decision:
    drawn_w = may_draw_w if may_draw_w is not None else DRAWS_W if why or watts is None else min(DRAWS_W, watts)
    event = e.PowerCapped(at=run.tick(), node=node, watts=watts, may_draw_w=drawn_w, least_w=200.0, why=why)
    return run.see(event)


def change(run: Script, watts: float | None) -> Decision:
    return run.see(e.PowerBudgetChanged(at=run.tick(), by="ada", watts=watts))


def rest(run: Script) -> None:
    run.stopped()
    run.ended()


def caps(decision: Decision) -> list[float | None]:
    return [action.watts for action in decision.actions if isinstance(action, a.CapPower)]


def test_each_gpu_gets_an_equal_share_with_every_world() -> None:
    run = Script(plan=replace(PLAN, watts=1000.0))
    run.submit()
    assert caps(run.join()) == [500.0]
    assert run.state.plan.nodes == 2
    for node in (0, 1):
        answer(run, node, 500.0)
    run.enter()
    run.progress(5)
    assert power.may_draw_w(run.state) == 1000.0
    assert power.why_not(run.state) == ""
    assert caps(change(run, 800.0)) == [400.0]
    assert caps(change(run, None)) == [None]


def test_an_agent_that_dials_again_is_told_again() -> None:
    run = run_of()
    assert [type(action).__name__ for action in worlds.outstanding(run.state)][-1] == "CapPower"
    change(run, None)
    assert a.CapPower(attempt=1, watts=None) not in worlds.outstanding(run.state)


def test_without_the_right_it_is_paused_after_a_save_and_goes_on_when_the_power_is_back() -> None:
    run = run_of()
    told = answer(run, 0, 500.0, why=NO_RIGHT)
    assert kinds(told) == ["CapPower", "Alert"], "what one node may draw is not known yet"
    assert caps(told) == [None], "limits on half of the nodes would only make stragglers"
    paused = answer(run, 1, 500.0, why=NO_RIGHT)
    assert kinds(paused) == ["StopAfterStep", "Alert"]
    assert "1400 W of 1000 W" in paused.reason
    rest(run)
    assert (run.state.phase, run.state.paused_by) == (Phase.PAUSED, POWER_BUDGET)
    assert kinds(change(run, 1200.0)) == []
    assert run.state.phase is Phase.PAUSED
    assert kinds(change(run, 1500.0)) == ["Launch"]
    run.join()
    run.enter(10)
    run.progress(11)
    assert answer(run, 0, 750.0, why=NO_RIGHT).actions == ()
    assert run.state.phase is Phase.TRAINING


def test_without_the_right_it_trains_on_while_its_gpus_cannot_draw_more_anyway() -> None:
    run = run_of(1500.0)
    for node in (0, 1):
        answer(run, node, 750.0, why=NO_RIGHT)
    assert run.state.phase is Phase.TRAINING
    assert kinds(change(run, 1300.0)) == ["StopAfterStep", "Alert"]


def test_a_share_below_the_least_pauses_and_lifting_the_budget_ends_the_pause() -> None:
    run = run_of(1000.0, watts_least=450.0)
    assert kinds(change(run, 800.0)) == ["StopAfterStep", "Alert"]
    rest(run)
    assert "450 W is the least" in run.state.reason
    assert kinds(change(run, None)) == ["Launch"]


def test_the_driver_knows_the_least_better() -> None:
    run = run_of(1000.0)
    for node in (0, 1):
        answer(run, node, 500.0)
    assert kinds(change(run, 300.0)) == ["StopAfterStep", "Alert"], "200 W is the least of a GPU"


def test_where_nobody_can_read_what_gpus_may_draw_a_person_is_told_and_nothing_is_done() -> None:
    run = run_of()
    event = e.PowerCapped(at=run.tick(), node=0, watts=500.0, why="NVML is not there")
    assert kinds(run.see(event)) == ["CapPower", "Alert"]
    assert kinds(run.see(replace(event, at=run.tick(), node=1))) == []
    assert run.state.phase is Phase.TRAINING


def test_what_a_person_paused_only_a_person_resumes() -> None:
    run = run_of()
    run.see(e.PauseRequested(at=run.tick(), by="ada"))
    rest(run)
    assert kinds(change(run, None)) == []
    assert run.state.phase is Phase.PAUSED


@pytest.mark.parametrize("watts", [None, 100.0, 5000.0])
def test_a_run_that_has_ended_only_notes_it(watts: float | None) -> None:
    run = run_of()
    run.see(e.StopRequested(at=run.tick(), by="ada", now=True))
    run.ended()
    assert kinds(change(run, watts)) == []
    assert (run.state.phase, run.state.watts) == (Phase.STOPPED, watts)


def test_a_person_who_resumes_it_without_the_power_has_it_paused_at_its_first_step_whatever_orders_were_lost() -> None:
    run = run_of(1000.0, watts_least=450.0)
    change(run, 800.0)
    rest(run)
    run.see(e.ResumeRequested(at=run.tick(), by="ada"))
    run.join()
    run.enter(10)
    assert kinds(run.progress(11))[-2:] == ["StopAfterStep", "Alert"]
    with pytest.raises(AskError, match="lastgood power r --watts MORE"):
        rationing.refuse_spent(run.state)

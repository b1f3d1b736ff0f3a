"""Is the interval between durable saves the one that costs least, and is it told only when that is worth it?"""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitors.incidents import Kind
from orchestrator.core import actions as a
from orchestrator.core import events as e
from orchestrator.core import interval
from orchestrator.core.state import Phase
from tests.core.script import PLAN, Script, kinds, started

CHOOSING = replace(PLAN, chooses_interval=True)
COPYING = replace(CHOOSING, copies=True)
HOUR_S, DAY_S = 3600.0, 86400.0


@pytest.mark.parametrize(
    ("cost_s", "failure_s", "written_s", "seconds"),
    [
        (0.05, 10 * HOUR_S, 0.0, 60.0),  # sqrt(2 * 0.05 * 36000) = sqrt(3600)
        (0.5, HOUR_S, 0.0, 60.0),
        (2.0, HOUR_S, 0.0, 120.0),
        (0.02, DAY_S, 0.0, 58.79),  # sqrt(3456)
        (0.05, 10 * HOUR_S, 29.0, 60.0),
        (0.05, 10 * HOUR_S, 45.0, 90.0),  # twice the time that a save takes to be written
        (0.05, 10_000 * HOUR_S, 0.0, 1800.0),  # Young says 1897 s
        (90.0, 2_000 * HOUR_S, 0.0, 18_000.0),  # half an hour would cost 5 %: half a percent, where Young says 10 h
        (90.0, 50 * HOUR_S, 0.0, 5692.1),  # Young's own is shorter
        (0.0, DAY_S, 0.0, 13.15),  # nothing is free: a millisecond
        (0.05, 10_000 * HOUR_S, 3600.0, 7200.0),  # a save that is not written yet is worse than an old one
    ],
)
def test_the_optimum(cost_s: float, failure_s: float, written_s: float, seconds: float) -> None:
    assert interval.optimum_s(cost_s, failure_s, written_s) == pytest.approx(seconds, rel=1e-3)


costs = st.floats(0.0, 3600.0)
failures = st.floats(1.0, 1e9)


@given(st.tuples(costs, costs), st.tuples(failures, failures), st.tuples(costs, costs))
def test_the_optimum_grows_with_each_of_its_reasons_and_stays_above_its_floor(
    cost_s: tuple[float, float], failure_s: tuple[float, float], written_s: tuple[float, float]
) -> None:
    least = interval.optimum_s(min(cost_s), min(failure_s), min(written_s))
    assert least >= 2 * min(written_s)
    assert least > 0
    assert interval.optimum_s(max(cost_s), min(failure_s), min(written_s)) >= least
    assert interval.optimum_s(min(cost_s), max(failure_s), min(written_s)) >= least
    assert interval.optimum_s(min(cost_s), min(failure_s), max(written_s)) >= least


@pytest.mark.parametrize(
    ("ranks", "copies", "hours"),
    [
        (16_384, False, 2.74),  # Llama 3: one in 3.1 h by machines, and one a day of its own
        (16_384, True, 4.03),  # three quarters of those by machines, and one a week
        (8, False, 23.9),
        (8, True, 164.7),
    ],
)
def test_before_anything_failed_the_published_rates_count(ranks: int, copies: bool, hours: float) -> None:
    plan = e.Plan(nodes=ranks // 8, ranks_per_node=8, copies=copies)
    assert interval.failure_every_s(plan, 0.0, 0) / HOUR_S == pytest.approx(hours, rel=0.01)


def test_the_runs_own_record_takes_over() -> None:
    plan = e.Plan(ranks_per_node=2)
    often = [interval.failure_every_s(plan, hours * HOUR_S, hours) / HOUR_S for hours in (0, 1, 10, 100)]
    assert often == pytest.approx([24.0, 12.5, 3.1, 1.23], rel=0.01)
    assert interval.failure_every_s(plan, 1000 * HOUR_S, 0) / HOUR_S == pytest.approx(1024, rel=0.01)


def save(run: Script, step: int, *, stall_s: float = 0.05, write_s: float | None = 1.0) -> tuple[a.Action, ...]:
    """A save of the newest world is heard of."""
    name, now = f"step-{step:08d}.a1w{run.state.world}", run.tick()
    return run.see(
        e.CheckpointCommitted(
            at=now, checkpoint=name, step=step, world=run.state.world, saved_at=now - 1, bytes=1, path=name,
            stall_s=stall_s, write_s=write_s,
        )
    ).actions  # fmt: skip


def step(run: Script, step: int, step_s: float = 0.5) -> None:
    """The newest world finished steps."""
    run.see(e.Progressed(at=run.tick(), world=run.state.world, step=step, step_s=step_s))


def training(plan: e.Plan = CHOOSING) -> Script:
    """A world that trained for ten steps."""
    run = Script(plan=plan).train()
    step(run, 10)
    return run


def orders(actions: tuple[a.Action, ...]) -> list[int]:
    """The intervals that are told."""
    return [action.steps for action in actions if isinstance(action, a.SaveEvery)]


def test_the_first_save_comes_soon_and_its_cost_decides_on_the_next() -> None:
    run = Script(plan=CHOOSING)
    run.submit()
    order = started(run.join())
    assert (order.save_every, order.save_why) == (10, "soon, to measure what a save costs")
    run.enter()
    step(run, 11)
    assert orders(save(run, 10)) == [186]  # sqrt(2 * 0.05 s * 86396 s) = 92.9 s of steps of half a second
    assert run.decisions[-1][1].reason == (
        "a save every 186 steps from now on: a save costs 0.05 s, a failure is expected every 24 h"
    )


def test_a_step_time_that_nobody_knows_decides_nothing() -> None:
    run = Script(plan=CHOOSING).train(10)
    assert orders(save(run, 10)) == []
    assert run.state.save_every == 10


def test_an_interval_that_the_spec_fixes_stays() -> None:
    run = training(replace(PLAN, save_every=7))
    assert orders(save(run, 7)) == []
    run.verify(run.state.checkpoints[0].name)
    assert (run.state.save_every, run.state.save_why) == (7, "the spec fixes it")
    run.incident(Kind.WORKER_KILLED)
    assert started(run.stopped()).save_every == 7


def test_a_run_of_an_older_journal_is_told_nothing() -> None:
    run = training(PLAN)
    assert orders(save(run, 10)) == []
    assert run.state.save_every == 0


def test_what_differs_by_little_is_not_told_and_what_lies_between_two_numbers_does_not_go_to_and_fro() -> None:
    run = training()
    save(run, 10)
    for number, stall_s in enumerate((0.06, 0.07, 0.04, 0.06, 0.05, 0.07) * 3, start=1):
        assert orders(save(run, 10 + number, stall_s=stall_s)) == []
    told = [orders(save(run, 100 + number, stall_s=0.2)) for number in range(6)]
    assert [one for one in told if one] == [[372]]  # the cost is four times what it was
    run = training()
    step(run, 11, step_s=28.0)
    told = [orders(save(run, 100 + number, stall_s=0.05 if number % 2 else 0.04)) for number in range(8)]
    assert [one for one in told if one] == [[3]]


def test_the_first_save_makes_its_buffers_and_is_not_typical() -> None:
    run = training()
    assert orders(save(run, 10, stall_s=0.8)) == [744]
    assert orders(save(run, 20, stall_s=0.05)) == [186]


def test_a_save_that_takes_long_to_be_written_is_waited_for_twice() -> None:
    run = training()
    assert orders(save(run, 10, write_s=300.0)) == [1200]
    assert run.state.save_why == (
        "a save costs 0.05 s, a failure is expected every 24 h; one takes 5 min to be written"
    )


def test_half_an_hour_is_the_longest() -> None:
    run = training(COPYING)
    assert orders(save(run, 10, stall_s=4.0)) == [3600]
    assert run.state.save_why == (
        "a save costs 4 s, a failure that memory does not answer is expected every 7 days; 30 min of training at most"
    )


def test_a_save_that_is_heard_of_twice_is_measured_once() -> None:
    run = training()
    event = e.CheckpointCommitted(
        at=run.tick(), checkpoint="c", step=10, world=1, saved_at=run.at, bytes=1, path="c", stall_s=0.05
    )
    run.see(event)
    run.see(replace(event, at=run.tick()))
    assert run.state.stalls_s == (0.05,)


@pytest.mark.parametrize(
    ("plan", "kind", "durable"),
    [
        (CHOOSING, Kind.WORKER_KILLED, 1),
        (COPYING, Kind.WORKER_KILLED, 0),
        (COPYING, Kind.HANG, 0),
        (COPYING, Kind.WORKER_EXCEPTION, 0),
        (COPYING, Kind.NONFINITE_LOSS, 1),
        (COPYING, Kind.GPU_MEMORY, 1),
        (COPYING, Kind.STRAGGLER, 0),
    ],
)
def test_a_failure_counts_when_it_goes_back_to_a_durable_save(plan: e.Plan, kind: Kind, durable: int) -> None:
    run = training(plan)
    save(run, 10)
    run.verify(run.state.checkpoints[0].name)
    step(run, 40)
    run.incident(kind, onset_step=35)
    if run.state.phase is Phase.STOPPING_WORLD:
        run.stopped()
        run.back_off()
    assert run.state.durable_restarts == durable


def test_a_new_attempt_leaves_no_copies_and_a_person_is_no_failure() -> None:
    run = training(COPYING)
    save(run, 10)
    run.verify(run.state.checkpoints[0].name)
    run.see(e.AgentGone(at=run.tick(), attempt=1, node=0, witnesses=("one", "two")))
    run.ended()
    run.back_off()
    run.join()
    assert (run.state.phase, run.state.durable_restarts) == (Phase.STARTING, 1)
    run.enter(10)
    step(run, 11)
    run.see(e.StopRequested(at=run.tick(), by="p", now=True))
    run.ended()
    run.see(e.ResumeRequested(at=run.tick(), by="p"))
    run.join()
    assert (run.state.phase, run.state.durable_restarts) == (Phase.STARTING, 1)


def test_after_failures_the_next_world_saves_more_often() -> None:
    run = training()
    save(run, 10)
    run.verify(run.state.checkpoints[0].name)
    assert run.state.save_every == 186
    run.incident(Kind.WORKER_KILLED)
    order = started(run.stopped())
    assert order.save_every == 132  # half as long until the next failure: 131.4 steps
    assert order.save_why == "a save costs 0.05 s, a failure is expected every 12 h"


def test_time_counts_while_a_world_trains_and_not_while_it_starts() -> None:
    run = Script(plan=CHOOSING)
    run.submit()
    run.tick(1000)
    run.join()
    run.enter()
    step(run, 1)
    assert run.state.trained_s == 0
    run.tick(99)
    step(run, 100)
    assert run.state.trained_s == 100
    run.incident(Kind.WORKER_KILLED)
    run.tick(1000)
    run.restart()
    assert run.state.trained_s == 100


def test_a_world_that_is_being_started_hears_nothing_new() -> None:
    run = training()
    save(run, 10)
    run.verify(run.state.checkpoints[0].name)
    run.incident(Kind.WORKER_KILLED)
    order = started(run.stopped())
    late = e.CheckpointCommitted(
        at=run.tick(), checkpoint="step-00000011.a1w1", step=11, world=1, saved_at=run.at, bytes=1, path="x",
        stall_s=50.0,
    )  # fmt: skip
    assert orders(run.see(late).actions) == []
    again = run.see(e.SupervisorStarted(at=run.tick(), pid=2, last_alive=run.at - 1))
    assert started(again) == order, "a node that is told late is told the same"


def test_a_new_supervisor_tells_a_world_that_trains_again() -> None:
    run = training()
    save(run, 10)
    again = run.see(e.SupervisorStarted(at=run.tick(), pid=2, last_alive=run.at - 1))
    assert orders(again.actions) == [186]
    assert kinds(again) == ["SaveEvery"]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.0, 1e4), st.floats(1e-4, 1e4), st.floats(0.0, 1e4) | st.none()), max_size=30),
    st.booleans(),
)
def test_whatever_is_measured_the_interval_is_a_number_above_its_floor(
    measured: list[tuple[float, float, float | None]], copies: bool
) -> None:
    run = training(COPYING if copies else CHOOSING)
    for number, (stall_s, step_s, write_s) in enumerate(measured, start=11):
        before = run.state.save_every
        step(run, number, step_s)
        (every,) = orders(save(run, number, stall_s=stall_s, write_s=write_s)) or [before]
        assert 1 <= every < inf
        assert every == run.state.save_every
        written_s = interval._typical(run.state.writes_s)
        assert every == before or every * step_s >= 2 * written_s * (1 - 1e-9)

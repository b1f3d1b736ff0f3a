"""What may a person ask, and what if the supervisor itself goes away meanwhile?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitors.incidents import Kind
from orchestrator import refusals
from orchestrator.core import actions as a
from orchestrator.core import decide
from orchestrator.core import events as e
from orchestrator.core.state import ENDED, CheckpointState, Phase, State
from orchestrator.drills import DRILLS
from orchestrator.requests import AskError
from tests.core.script import Script, at_phase, kinds, started

P = Phase


@pytest.mark.parametrize("now", [False, True])
@pytest.mark.parametrize("phase", [p for p in Phase if p not in (P.SUCCEEDED, P.FINISHING)])
def test_a_run_can_be_stopped_in_every_phase(phase: Phase, now: bool) -> None:
    run = at_phase(phase)
    run.see(e.StopRequested(at=run.tick(), by="ada", now=now))
    for _ in range(4):
        if run.state.phase is not P.STOPPED:
            run.wait()
    if run.state.phase is not P.STOPPED:
        run.ended()
    assert run.state.phase is P.STOPPED
    assert run.state.reason.startswith("stopped by")


def test_a_stop_lets_the_ranks_save_then_ends_them_then_the_attempt() -> None:
    run = Script().train(10)
    assert kinds(run.see(e.StopRequested(at=run.tick(), by="ada"))) == ["StopAfterStep"]
    assert [kinds(run.wait()) for _ in range(3)] == [["StopWorld"], ["EndAttempt"], ["EndAttempt"]]


@pytest.mark.parametrize("now", [False, True])
def test_a_stop_that_is_not_obeyed_wakes_a_person_once(now: bool) -> None:
    run = Script().train(10)
    run.see(e.StopRequested(at=run.tick(), by="ada", now=now))
    asked_at = run.at
    pages = [run.at - asked_at for _ in range(10) for action in run.wait().actions if isinstance(action, a.Alert)]
    assert len(pages) == 1
    assert 60.0 < pages[0] < 300.0
    assert run.state.phase is P.STOPPING


def test_a_stop_that_is_obeyed_ends_the_attempt_next() -> None:
    run = Script().train(10)
    run.see(e.StopRequested(at=run.tick(), by="ada"))
    assert kinds(run.stopped()) == ["EndAttempt"]
    assert run.ended().state.phase is P.STOPPED


def test_a_stopped_run_resumes_from_its_newest_save() -> None:
    run = Script().train(40)
    name = run.save(40)
    run.see(e.StopRequested(at=run.tick(), by="ada", now=True))
    run.ended()
    assert run.see(e.ResumeRequested(at=run.tick(), by="ada")).actions == (a.Launch(attempt=2),)
    order = started(run.join())
    assert (order.attempt, order.world, order.candidates) == (2, 2, (name,))


def test_a_held_run_goes_on_with_its_ladders_begun_anew() -> None:
    run = at_phase(P.HELD)
    assert run.state.open
    decision = run.see(e.ResumeRequested(at=run.tick(), by="ada"))
    assert decision.closed
    assert (run.state.strikes, run.state.open, run.state.hold_kind) == ((), (), None)


def test_resuming_from_a_step_gives_up_what_came_after_for_good() -> None:
    run = Script().train(1)
    for step in (20, 40, 60):
        run.progress(step)
        run.save(step)
    run.see(e.StopRequested(at=run.tick(), by="ada", now=True))
    run.ended()
    run.see(e.ResumeRequested(at=run.tick(), by="ada", from_step=40))
    assert started(run.join()).candidates[0] == "step-00000040.a1w1"
    run.enter(40)
    run.progress(41)
    run.incident(Kind.WORKER_KILLED)  # and not back to what the person did not want
    assert started(run.stopped()).candidates[0] == "step-00000040.a1w1"
    assert run.states()[60] is CheckpointState.TAINTED


def test_a_step_that_no_save_reaches_back_to_gives_up_nothing() -> None:
    run = Script().train(40)
    run.save(40)
    run.see(e.StopRequested(at=run.tick(), by="ada", now=True))
    run.ended()
    before = run.state
    decision = run.see(e.ResumeRequested(at=run.tick(), by="ada", from_step=4))
    assert (decision.actions, decision.state.phase) == ((), P.STOPPED)
    assert decision.state.checkpoints == before.checkpoints
    with pytest.raises(AskError, match="no verified checkpoint of step 4 or older; there is: 40 "):
        refusals.refuse_step(run.state, 4)
    for allowed in (None, 0, 40, 41):
        refusals.refuse_step(run.state, allowed)
    assert run.see(e.ResumeRequested(at=run.tick(), by="ada", from_step=0)).actions == (a.Launch(attempt=2),)


def test_a_rank_that_is_not_there_cannot_be_drilled() -> None:
    run = Script().train(10)
    decision = run.see(e.DrillRequested(at=run.tick(), by="ada", drill="kill", rank=2, number=1))
    assert decision.actions == ()
    for rank in (2, -1):
        with pytest.raises(AskError, match="there are 0 to 1"):
            refusals.refuse_rank(run.state, rank)
    refusals.refuse_rank(run.state, 1)


@pytest.mark.parametrize("phase", [p for p in Phase if p not in (P.STARTING, P.TRAINING)])
def test_where_no_rank_is_nothing_can_be_drilled(phase: Phase) -> None:
    state = at_phase(phase).state
    for drill in ("kill", "exception", "xid79"):
        with pytest.raises(AskError, match=r"has no rank that could fail now .*once it is RUNNING"):
            refusals.refuse_drill(state, drill, 0)
    refusals.refuse_drill(state, "supervisor", None)


def test_what_the_sdk_does_needs_the_sdk_and_a_step() -> None:
    state = Script().train(10).state
    alone = replace(state, entered=False)
    begun = replace(state, phase=P.STARTING)
    for drill in (one.name for one in DRILLS.values() if one.inside):
        refusals.refuse_drill(state, drill, 0)
        with pytest.raises(AskError, match=r"its ranks do not use it\. Without it: kill, stop, xid79"):
            refusals.refuse_drill(alone, drill, 0)
        with pytest.raises(AskError, match="no step was taken yet: ask again once it is RUNNING"):
            refusals.refuse_drill(begun, drill, 0)


def test_a_signal_needs_no_more_than_a_rank_that_is_there() -> None:
    state = replace(Script().train(10).state, entered=False)
    begun = replace(state, phase=P.STARTING)
    for drill in ("kill", "stop", "oom"):
        refusals.refuse_drill(state, drill, 1)
        refusals.refuse_drill(begun, drill, 1, {0, 1}.__contains__)
        with pytest.raises(AskError, match=r"rank 1 of .* is not there yet") as caught:
            refusals.refuse_drill(begun, drill, 1, {0}.__contains__)
        assert caught.value.code == "not_yet"


@pytest.mark.parametrize("phase", [p for p in Phase if p not in ENDED])
def test_a_new_supervisor_orders_again_what_is_under_way_and_begins_every_wait_anew(phase: Phase) -> None:
    run = at_phase(phase)
    before = run.state
    run.at = (before.deadline or run.at) + 5000.0  # silence, because nobody listened
    decision = run.see(e.SupervisorStarted(at=run.tick(), pid=2, last_alive=before.since))
    ordered = {
        P.LAUNCHING: [a.Launch(attempt=before.attempt)],
        P.STARTING: [
            a.StartWorld(
                attempt=before.attempt,
                world=before.world,
                candidates=before.candidates,
                skips=before.skips,
                memory_since=before.memory_since,
            )
        ],
        P.STOPPING_WORLD: [a.StopWorld(attempt=before.attempt, world=before.world)],
        P.STOPPING: [a.StopAfterStep(attempt=before.attempt, world=before.world)],
        P.PAUSING: [a.StopAfterStep(attempt=before.attempt, world=before.world)],
        P.TRAINING: [],
        P.BACKING_OFF: [],
    }.get(phase, [a.EndAttempt(attempt=before.attempt, why=before.reason, relaunch=phase is P.RELAUNCHING)])
    assert list(decision.actions) == ordered
    assert run.state.phase is phase
    assert [o.incident.kind for o in decision.opened] == [Kind.SUPERVISOR_RESTARTED]
    assert run.state.deadline is not None
    if phase is not P.BACKING_OFF:
        assert run.state.deadline > run.at


@pytest.mark.parametrize("phase", [p for p in Phase if p not in ENDED])
def test_a_supervisor_that_a_person_ended_is_no_incident(phase: Phase) -> None:
    run = at_phase(phase)
    before = run.state
    event = e.SupervisorStarted(at=run.tick(5000.0), pid=2, last_alive=before.now, left=True)
    decision = run.see(event)
    assert (decision.opened, decision.state.incidents) == ((), before.incidents)
    assert phase is P.BACKING_OFF or (run.state.deadline or 0.0) > run.at, "its waits begin anew all the same"


@pytest.mark.parametrize("phase", [p for p in Phase if p not in ENDED])
def test_a_clock_that_was_set_back_puts_no_deadline_off(phase: Phase) -> None:
    run = at_phase(phase)
    run.at -= 1e6  # the host came up with a wrong clock, and was set right while no supervisor ran
    run.see(e.SupervisorStarted(at=run.tick(), pid=2, last_alive=run.at))
    assert run.at <= (run.state.deadline or 0.0) <= run.at + run.plan.unheard_s
    assert run.state.now == run.at
    assert all(strike.at <= run.at for strike in run.state.strikes), "their windows would not end"
    assert run.wait().state.now == run.at


def test_old_news_begins_what_it_leads_to_now() -> None:
    """The end of a world, told by an agent that nobody listened to for an hour, starts the next world's limits now."""
    run = Script().train(10)
    run.incident(Kind.HANG)
    ended_at = run.tick()
    run.see(e.SupervisorStarted(at=run.tick(3600.0), pid=2, last_alive=ended_at))
    decisions = [run.see(e.NodeStopped(at=ended_at, world=1, node=node)) for node in (0, 1)]
    started(decisions[-1])
    assert run.state.since == run.at
    assert run.state.deadline == run.at + run.plan.start_timeout_s


def test_old_progress_does_not_bring_the_page_for_silence_forward() -> None:
    run = Script().train(10)
    deadline = run.state.deadline
    run.see(e.Progressed(at=run.at - 500.0, world=1, step=11))
    assert run.state.deadline == deadline


def test_a_journal_decided_again_gives_the_same_state_and_orders() -> None:
    for phase in Phase:
        run = at_phase(phase)
        state: State | None = None
        for event, decision in run.decisions:
            if state is None:
                assert isinstance(event, e.RunSubmitted)
                again = decide.begin(event)
            else:
                again = decide.decide(state, event)
            assert again == decision
            state = again.state

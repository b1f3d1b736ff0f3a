"""What becomes of a pause, a restart, a cordon and a pin, in whatever phase somebody asks for it?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitors.incidents import Kind
from orchestrator import refusals
from orchestrator.core import actions as a
from orchestrator.core import events as e
from orchestrator.core.asked import POWER_BUDGET
from orchestrator.core.policy import Rung
from orchestrator.core.state import ENDED, CheckpointState, Decision, Phase, State
from orchestrator.requests import AskError
from tests.core.script import PLAN, Script, at_phase, kinds, started

P = Phase
ENDS = (P.FINISHING, P.HOLDING, P.STOPPING, P.SUCCEEDED, P.STOPPED, P.HELD)
"""phases in which nothing is there to pause"""


def pause(run: Script, by: str = "ada", why: str = "") -> Decision:
    return run.see(e.PauseRequested(at=run.tick(), by=by, why=why))


def resume(run: Script, by: str = "ada", from_step: int | None = None) -> Decision:
    return run.see(e.ResumeRequested(at=run.tick(), by=by, from_step=from_step))


def restart(run: Script, without: int | None = None) -> Decision:
    return run.see(e.RestartRequested(at=run.tick(), by="ada", without=without))


def rest(run: Script) -> None:
    """Whatever was asked for comes to its end, nobody obeying before it is ended."""
    for _ in range(4):
        if run.state.phase not in ENDED:
            run.wait()
    if run.state.phase not in ENDED:
        run.ended()


# Pause


@pytest.mark.parametrize("phase", [p for p in Phase if p not in (*ENDS, P.PAUSING, P.PAUSED)])
def test_a_run_can_be_paused_in_every_phase_and_goes_on_from_there(phase: Phase) -> None:
    run = at_phase(phase)
    before = run.state
    decision = pause(run, why="the hall is hot")
    assert (run.state.phase, run.state.paused_by, run.state.paused_why) == (P.PAUSING, "ada", "the hall is hot")
    assert kinds(decision) == (["StopAfterStep"] if phase is P.TRAINING else ["EndAttempt"])
    assert decision.reason.startswith("paused by ada: the hall is hot")
    rest(run)
    assert (run.state.phase, run.state.reason) == (P.PAUSED, "paused by ada: the hall is hot")
    assert resume(run).actions == (a.Launch(attempt=before.attempt + 1),)
    assert (run.state.paused_by, run.state.paused_why) == ("", "")
    assert run.state.strikes == before.strikes, "a pause forgives nothing"
    order = started(run.join())
    assert order.world == before.world + 1
    assert order.candidates == tuple(c.name for c in before.checkpoints if c.state is not CheckpointState.COMMITTED)


@pytest.mark.parametrize("phase", ENDS)
def test_where_nothing_trains_nothing_is_paused(phase: Phase) -> None:
    run = at_phase(phase)
    before = run.state
    decision = pause(run)
    assert (decision.actions, run.state) == ((), replace(before, now=run.at))
    assert f"a run that is {phase}" in decision.reason
    with pytest.raises(AskError, match=phase):
        refusals.refuse_pause(before, "ada")


def test_a_pause_saves_first_and_goes_on_from_that_save() -> None:
    run = Script().train(10)
    assert pause(run).reason == "paused by ada, saving first"
    name = run.save(12)
    assert kinds(run.stopped()) == ["EndAttempt"]
    assert run.ended().state.phase is P.PAUSED
    resume(run)
    assert started(run.join()).candidates == (name,)
    run.enter(12, name)
    run.progress(13)
    assert (run.state.phase, run.state.restarts) == (P.TRAINING, 0)


def test_a_save_that_is_still_being_read_back_when_the_run_goes_on_is_waited_for() -> None:
    run = Script().train(10)
    run.save(5)
    pause(run)
    name = run.save(12, verify=False)
    run.stopped()
    run.ended()
    resume(run)
    assert kinds(run.join()) == []
    assert started(run.verify(name)).candidates[0] == name


def test_a_pause_that_is_not_obeyed_ends_the_ranks_and_then_wakes_a_person_once() -> None:
    run = Script().train(10)
    pause(run)
    assert [kinds(run.wait()) for _ in range(3)] == [["StopWorld"], ["EndAttempt"], ["EndAttempt"]]
    pages = [action for _ in range(6) for action in run.wait().actions if isinstance(action, a.Alert)]
    assert len(pages) == 1
    assert run.state.phase is P.PAUSING


def test_what_a_recovery_had_to_do_is_done_after_the_pause() -> None:
    """A NaN, and somebody pauses before the world is gone: what follows still goes back to before it."""
    run = Script().train()
    for step in (20, 40, 60):
        run.progress(step)
        run.save(step)
    run.progress(61)
    run.incident(Kind.NONFINITE_LOSS, onset_step=55)
    assert run.state.recovery is not None
    assert run.state.recovery.good_only
    pause(run)
    rest(run)
    resume(run)
    order = started(run.join())
    assert order.candidates == ("step-00000040.a1w1", "step-00000020.a1w1")
    assert order.memory_since == order.world
    assert run.state.restarts == 1


def test_a_pause_in_a_crash_keeps_what_is_in_memory_for_a_short_one() -> None:
    run = Script(plan=replace(PLAN, copies=True)).train(10)
    run.incident(Kind.WORKER_KILLED)
    (order,) = [action for action in pause(run).actions if isinstance(action, a.EndAttempt)]
    assert order.relaunch
    rest(run)
    resume(run)
    again = started(run.join())
    assert again.memory_since == 1


def test_a_fault_while_it_pauses_is_only_noted() -> None:
    run = Script().train(10)
    pause(run)
    decision = run.incident(Kind.WORKER_KILLED)
    assert [opened.rung for opened in decision.opened] == [Rung.OBSERVE]
    assert run.state.phase is P.PAUSING


def test_what_was_open_stays_so_over_a_pause_but_for_what_was_of_the_attempt() -> None:
    run = Script().train(10)
    run.incident(Kind.SAVE_FAILED)
    run.incident(Kind.NODE_UNSEEN)
    pause(run)
    rest(run)
    assert [opened.incident.kind for opened in run.state.open] == [Kind.SAVE_FAILED]
    assert run.decisions[-1][1].closed == ("i2",)
    resume(run)
    assert [opened.id for opened in run.state.open] == ["i1"]


def paused(by: str) -> Script:
    run = Script().train(10)
    pause(run, by)
    run.stopped()
    run.ended()
    assert run.state.phase is P.PAUSED
    return run


@pytest.mark.parametrize(
    ("paused_by", "resumed_by", "goes_on"),
    [
        ("ada", "eve", True),
        ("ada", POWER_BUDGET, False),
        (POWER_BUDGET, POWER_BUDGET, True),
        (POWER_BUDGET, "ada", True),
    ],
)
def test_a_budget_ends_its_own_pauses_and_a_person_any(paused_by: str, resumed_by: str, goes_on: bool) -> None:
    run = paused(paused_by)
    before = run.state
    resume(run, resumed_by)
    assert (run.state.phase is P.LAUNCHING) is goes_on
    if not goes_on:
        assert run.state == replace(before, now=run.at)
        with pytest.raises(AskError, match="only a person"):
            refusals.refuse_resume(before, resumed_by)


@pytest.mark.parametrize("phase", [P.HELD, P.STOPPED])
def test_a_budget_lets_nothing_go_on_that_a_person_has_to_look_at(phase: Phase) -> None:
    run = at_phase(phase)
    assert resume(run, POWER_BUDGET).actions == ()
    assert run.state.phase is phase


def test_a_person_takes_over_a_pause_of_a_budget_and_not_the_other_way_round() -> None:
    run = paused(POWER_BUDGET)
    pause(run, "ada", "and I look at the fans")
    assert (run.state.phase, run.state.paused_by) == (P.PAUSED, "ada")
    assert pause(run, POWER_BUDGET).reason == f"{POWER_BUDGET} asked to pause: paused already, by ada"
    resume(run, POWER_BUDGET)
    assert run.state.phase is P.PAUSED


def test_a_run_that_is_pausing_cannot_be_resumed_yet_and_can_be_stopped() -> None:
    run = Script().train(10)
    pause(run)
    assert resume(run).reason == "ada asked to resume a run that is pausing"
    deadline = run.state.deadline
    decision = run.see(e.StopRequested(at=run.tick(), by="eve"))
    assert (decision.actions, run.state.phase, run.state.deadline) == ((), P.STOPPING, deadline)
    rest(run)
    assert (run.state.phase, run.state.reason, run.state.paused_by) == (P.STOPPED, "stopped by eve", "")


def test_a_paused_run_can_be_stopped_and_its_incidents_are_over_then() -> None:
    run = Script().train(10)
    run.incident(Kind.SAVE_FAILED)
    pause(run)
    rest(run)
    decision = run.see(e.StopRequested(at=run.tick(), by="eve"))
    assert (decision.state.phase, decision.closed) == (P.STOPPED, ("i1",))
    assert decision.reason == "stopped by eve while paused"


def test_resuming_a_paused_run_from_a_step_gives_up_what_came_after() -> None:
    run = Script().train(1)
    for step in (20, 40):
        run.progress(step)
        run.save(step)
    pause(run)
    rest(run)
    resume(run, from_step=20)
    assert started(run.join()).candidates == ("step-00000020.a1w1",)
    assert run.states()[40] is CheckpointState.TAINTED


# Restart


@pytest.mark.parametrize("phase", [p for p in Phase if p not in (*ENDS, P.PAUSING, P.PAUSED)])
@pytest.mark.parametrize("without", [None, 1])
def test_a_run_can_be_restarted_in_every_phase(phase: Phase, without: int | None) -> None:
    run = at_phase(phase)
    before = run.state
    restart(run, without)
    if without is not None and cordoned_in_vain(before):
        assert run.state == replace(before, now=run.at)
        return
    for _ in range(12):  # nobody obeys until everything was ordered more strongly
        if run.state.world > before.world:
            break
        if run.state.phase is P.LAUNCHING and run.state.attempt > before.attempt:
            excluded = () if without is None else ("h1",)
            assert run.decisions[-1][1].actions == (a.Launch(attempt=before.attempt + 1, exclude=excluded),)
            for node, host in ((0, "h0"), (1, "h2")):
                run.see(e.AgentJoined(at=run.tick(), attempt=run.state.attempt, node=node, host=host))
        elif run.state.phase in (P.RELAUNCHING,):
            run.ended()
        elif run.state.phase is P.STOPPING_WORLD:
            run.stopped()
        else:
            run.wait()
    assert (run.state.world, run.state.phase) == (before.world + 1, P.STARTING)
    assert (run.state.attempt > before.attempt) or without is None
    assert run.state.candidates == tuple(c.name for c in before.checkpoints)


def cordoned_in_vain(state: State) -> bool:
    """The host of node 1 is not known yet."""
    return 1 not in dict(state.hosts)


@pytest.mark.parametrize("phase", [*ENDS, P.PAUSING, P.PAUSED])
def test_what_ends_or_has_ended_is_not_restarted(phase: Phase) -> None:
    run = at_phase(phase)
    before = run.state
    decision = restart(run, 1)
    assert (decision.actions, run.state) == ((), replace(before, now=run.at))
    assert decision.reason == f"ada asked to restart a run that is {phase}"
    if phase not in ENDED:
        with pytest.raises(AskError, match="it ends already"):
            refusals.refuse_restart(before, None)


def test_a_restart_saves_first_and_begins_from_that_save_in_new_processes() -> None:
    run = Script(plan=replace(PLAN, copies=True, in_process=True)).train(10)
    run.save(5)
    decision = restart(run)
    assert kinds(decision) == ["StopAfterStep"]
    assert decision.reason == "restarted by ada, saving first"
    assert run.state.deadline == run.at + PLAN.stop_grace_s
    name = run.save(12, verify=False)
    assert kinds(run.stopped()) == [], "the save is being read back"
    order = started(run.verify(name))
    assert (order.attempt, order.candidates[0], order.memory_since) == (1, name, order.world)
    assert not order.in_process
    run.enter(12, name)
    run.progress(13)
    assert (run.state.restarts, run.state.strikes, run.state.recovery) == (0, (), None)


def test_ranks_that_do_not_save_for_a_restart_are_ended_and_then_the_attempt() -> None:
    run = Script().train(10)
    restart(run)
    decision = run.wait()
    assert (kinds(decision), decision.reason) == (["StopWorld"], "the ranks did not save and end in time: ending them")
    assert [kinds(run.wait()) for _ in range(3)] == [["StopWorld"], ["StopWorld"], ["EndAttempt"]]
    assert run.state.phase is P.RELAUNCHING


def test_a_supervisor_that_comes_back_asks_again_for_the_save() -> None:
    run = Script().train(10)
    restart(run)
    decision = run.see(e.SupervisorStarted(at=run.tick(5000.0), pid=2, left=True, last_alive=run.at))
    assert kinds(decision) == ["StopAfterStep"]
    assert run.state.deadline == run.at + PLAN.stop_grace_s


def test_a_restart_without_a_node_leaves_its_host_out_until_it_is_let_in_again() -> None:
    run = Script().train(10)
    restart(run, 1)
    run.save(12)
    assert kinds(run.stopped()) == ["EndAttempt"]
    assert run.ended().actions == (a.Launch(attempt=2, exclude=("h1",)),)
    for node, host in ((0, "h0"), (1, "h2")):
        last = run.see(e.AgentJoined(at=run.tick(), attempt=2, node=node, host=host))
    assert started(last).world == 2
    run.enter(12)
    run.progress(13)
    run.see(e.HostCordoned(at=run.tick(), by="ada", host="h1", cordoned=False))
    run.see(_gone(run))
    assert run.ended().actions == (a.Launch(attempt=3),)


def _gone(run: Script) -> e.AgentGone:
    return e.AgentGone(at=run.tick(), attempt=run.state.attempt, node=1, witnesses=("link closed", "no such pid"))


def test_where_there_is_no_other_host_nothing_is_left_out_and_it_is_said_what_is_possible() -> None:
    run = Script(plan=replace(PLAN, excludes=False)).train(10)
    before = run.state
    decision = restart(run, 1)
    assert (decision.actions, run.state.cordons, run.state.phase) == ((), (), P.TRAINING)
    with pytest.raises(AskError, match=r"has no other host to give.*lastgood restart r \(a new world here\)"):
        refusals.refuse_restart(before, 1)
    with pytest.raises(AskError, match="has no node 2; there are 0 to 1"):
        refusals.refuse_restart(before, 2)
    with pytest.raises(AskError, match=r"no other host to give.*lastgood pause r"):
        refusals.refuse_cordon(before, "h1", True)


def test_a_restart_in_the_back_off_waits_no_longer() -> None:
    run = at_phase(P.BACKING_OFF)
    order = started(restart(run))
    assert order.world == run.state.world
    assert run.decisions[-1][1].reason == "restarted by ada"

"""Is a save that is still being read back waited for when it is worth it, and only then?"""

from __future__ import annotations

from dataclasses import replace

from monitors.incidents import Kind
from orchestrator.core import events as e
from orchestrator.core.state import Phase
from tests.core.script import PLAN, Script, started


def stopped(run: Script) -> Script:
    """A person stops the run."""
    run.see(e.StopRequested(at=run.tick(), by="ada", now=True))
    run.ended()
    return run


def test_a_crash_just_after_the_only_save_waits_for_it_instead_of_a_person() -> None:
    run = Script().train(PLAN.fresh_steps_max + 100)
    name = run.save(600, verify=False)
    run.incident(Kind.WORKER_KILLED)
    assert run.stopped().actions == ()
    assert run.state.phase is Phase.BACKING_OFF
    assert started(run.verify(name)).candidates == (name,)


def test_what_is_learned_of_another_save_meanwhile_ends_no_wait() -> None:
    run = Script().train(PLAN.fresh_steps_max + 100)
    older, newest = run.save(500, verify=False), run.save(600, verify=False)
    run.incident(Kind.WORKER_KILLED)
    run.stopped()
    run.see(e.CheckpointRefused(at=run.tick(), checkpoint=older, why="digest"))
    assert run.state.phase is Phase.BACKING_OFF
    assert started(run.verify(newest)).candidates == (newest,)


def test_a_wait_before_the_next_try_is_not_cut_short_by_a_save_that_is_read_back() -> None:
    run = Script().train(40)
    run.save(20)
    for _ in range(9):
        run.incident(Kind.WORKER_KILLED)
        run.stopped()
        if run.state.phase is Phase.BACKING_OFF:
            break
        run.enter()
    newest = run.save(20, verify=False)
    assert run.state.phase is Phase.BACKING_OFF
    assert run.verify(newest).actions == ()
    assert run.state.phase is Phase.BACKING_OFF


def test_what_is_never_read_back_holds_the_run_in_the_end() -> None:
    run = Script().train(PLAN.fresh_steps_max + 100)
    run.save(600, verify=False)
    run.incident(Kind.WORKER_KILLED)
    run.stopped()
    since = run.at
    while run.state.phase is Phase.BACKING_OFF:
        run.wait()
    assert run.state.phase is Phase.HOLDING
    assert PLAN.unheard_s <= run.at - since < PLAN.unheard_s + 10


def test_what_turns_out_to_be_damaged_is_waited_for_no_longer() -> None:
    run = Script().train(PLAN.fresh_steps_max + 100)
    name = run.save(600, verify=False)
    run.incident(Kind.WORKER_KILLED)
    run.stopped()
    run.see(e.CheckpointRefused(at=run.tick(), checkpoint=name, why="digest"))
    assert run.state.phase is Phase.HOLDING


def test_a_crash_goes_back_to_an_older_save_at_once() -> None:
    run = Script().train(40)
    older = run.save(20)
    run.save(40, verify=False)
    run.incident(Kind.WORKER_KILLED)
    assert started(run.stopped()).candidates == (older,)


def test_a_person_who_lets_the_run_go_on_gets_the_save_that_the_stop_made() -> None:
    run = Script().train(40)
    older = run.save(20)
    newest = run.save(40, verify=False)
    stopped(run).see(e.ResumeRequested(at=run.tick(), by="ada"))
    assert run.join().actions == ()
    assert started(run.see(e.CheckpointVerified(at=run.tick(), checkpoint=newest))).candidates == (newest, older)
    assert run.state.restarts == 0, "nothing failed"


def test_but_not_for_ever() -> None:
    run = Script().train(40)
    older = run.save(20)
    run.save(40, verify=False)
    stopped(run).see(e.ResumeRequested(at=run.tick(), by="ada"))
    run.join()
    since = run.state.since
    while run.state.phase is Phase.LAUNCHING:
        run.wait()
    assert started(run.decisions[-1][1]).candidates == (older,)
    assert 60 <= run.at - since < 130


def test_nor_for_one_that_the_person_does_not_want() -> None:
    run = Script().train(40)
    older = run.save(20)
    run.save(40, verify=False)
    stopped(run).see(e.ResumeRequested(at=run.tick(), by="ada", from_step=30))
    assert started(run.join()).candidates == (older,)


def test_doubt_about_the_numbers_waits_for_nothing_that_can_only_be_verified() -> None:
    run = Script(plan=replace(PLAN, fresh_steps_max=0)).train(40)
    run.save(20, verify=False)
    run.incident(Kind.LOSS_SPIKE, onset_step=35)
    assert run.state.phase is Phase.HOLDING

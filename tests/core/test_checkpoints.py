"""Which checkpoint may be trusted, which is given up, which data is never fed again?"""

from __future__ import annotations

import pytest

from lastgood.skips import Skips
from monitors.incidents import Kind
from orchestrator.core import actions as a
from orchestrator.core import events as e
from orchestrator.core.state import CheckpointState, Phase
from tests.core.script import PLAN, Script, kinds, started, with_response

GOOD, VERIFIED, TAINTED = CheckpointState.GOOD, CheckpointState.VERIFIED, CheckpointState.TAINTED
COMMITTED, CORRUPT = CheckpointState.COMMITTED, CheckpointState.CORRUPT


def spiked(run: Script, onset: int, step: int, **facts: object) -> None:
    """The loss jumped."""
    run.incident(Kind.LOSS_SPIKE, onset_step=onset, step=step, **facts)


def trained(*saves: int, until: int) -> Script:
    """A run with verified saves at these steps."""
    run = Script().train()
    for step in saves:
        run.progress(step)
        run.save(step)
    run.progress(until)
    return run


# States


def test_a_save_is_good_once_its_probation_is_passed() -> None:
    run = trained(20, until=39)
    assert run.states() == {20: VERIFIED}
    run.progress(40)
    assert run.states() == {20: GOOD}


def test_a_save_is_not_good_while_the_loss_is_suspect_since_before_it() -> None:
    run = trained(20, until=30)
    run.progress(45, suspect_since=20)
    assert run.states() == {20: VERIFIED}
    run.progress(46, suspect_since=21)
    assert run.states() == {20: GOOD}


def test_a_save_that_was_left_aside_is_not_made_good_by_another_line() -> None:
    """It was not read back yet when its world died, and the next one went back behind it."""
    run = trained(20, until=42)
    aside = run.save(40, verify=False)
    run.incident(Kind.WORKER_KILLED)
    run.restart(20, "step-00000020.a1w1")
    run.verify(aside)
    run.progress(30)
    ours = run.save(30)
    run.progress(70)
    assert run.states() == {20: GOOD, 30: GOOD, 40: VERIFIED}
    run.incident(Kind.WORKER_KILLED)
    run.restart(40, aside)  # now it is continued, and what came between on the other line is not
    run.progress(60)
    assert run.checkpoint(aside).state is GOOD
    assert run.state.parents == ((2, 1, 20), (3, 1, 40))
    assert run.checkpoint(ours).state is GOOD


def test_the_line_of_worlds_is_remembered_only_as_far_as_saves_are_left() -> None:
    run = trained(20, until=42)
    for _ in range(10):
        run.incident(Kind.WORKER_KILLED)
        run.restart(20, "step-00000020.a1w1")
        run.progress(run.state.best_step + 1)
    assert run.state.parents == ((11, 1, 20),)


def test_only_what_was_read_back_becomes_good() -> None:
    run = Script().train(20)
    name = run.save(20, verify=False)
    run.progress(90)
    assert run.states() == {20: COMMITTED}
    run.verify(name)
    run.progress(91)
    assert run.states() == {20: GOOD}


def test_a_corrupt_save_stays_corrupt() -> None:
    run = trained(20, until=45)
    name = run.state.checkpoints[0].name
    run.see(e.CheckpointRefused(at=run.tick(), checkpoint=name, why="a digest differs"))
    run.verify(name)
    run.progress(90)
    assert run.states() == {20: CORRUPT}


# Taint: a save is judged by when it was made, whatever is learned of it when


def test_a_rewind_taints_every_save_that_never_passed_its_probation() -> None:
    """Those from the onset on, and those before it: the numbers may have gone wrong before the loss showed it."""
    run = trained(40, 50, 60, 61, until=71)
    spiked(run, onset=60, step=71)
    assert run.states() == {40: GOOD, 50: GOOD, 60: TAINTED, 61: TAINTED}
    run = trained(40, 59, until=70)
    spiked(run, onset=60, step=70)
    assert run.states() == {40: GOOD, 59: TAINTED}


def test_a_good_save_is_tainted_all_the_same() -> None:
    run = trained(40, until=70)
    assert run.states() == {40: GOOD}
    spiked(run, onset=35, step=70)
    assert run.states() == {40: TAINTED}


def test_a_save_committed_after_the_detection_is_tainted() -> None:
    run = trained(40, until=70)
    spiked(run, onset=60, step=70)
    name = run.save(65)
    assert run.checkpoint(name).state is TAINTED
    run.restart(step=40)
    name = run.save(66, world=1)  # from a writer that outlived its world
    assert run.checkpoint(name).state is TAINTED


def test_a_save_verified_after_the_detection_is_tainted() -> None:
    run = trained(40, until=70)
    name = run.save(65, verify=False)
    spiked(run, onset=60, step=70)
    run.verify(name)
    assert run.checkpoint(name).state is TAINTED
    assert started(run.stopped()).candidates == ("step-00000040.a1w1",)


def test_saves_of_older_worlds_are_tainted_too() -> None:
    run = trained(40, 65, until=70)
    run.incident(Kind.WORKER_KILLED)
    run.restart(step=65)
    spiked(run, onset=60, step=80)
    assert run.states() == {40: GOOD, 65: TAINTED}


def test_the_same_step_saved_by_a_newer_world_is_clean() -> None:
    run = trained(40, 65, until=70)
    spiked(run, onset=60, step=70)
    run.restart(step=40)
    run.progress(65)
    name = run.save(65)
    assert run.checkpoint(name).state is VERIFIED


def test_an_onset_in_time_taints_by_when_the_state_was_copied() -> None:
    run = Script(policy=with_response(Kind.WORKER_KILLED, taints=True)).train(30)
    before = run.save(20, at=2000.0)
    after = run.save(30, at=2001.0)
    run.at = 2100.0
    run.incident(Kind.WORKER_KILLED, onset=2000.5)
    assert run.checkpoint(before).state is VERIFIED
    assert run.checkpoint(after).state is TAINTED


@pytest.mark.parametrize("first", [Kind.WORKER_KILLED, Kind.AGENT_LOST])
def test_a_victim_taints_what_its_culprit_does_not(first: Kind) -> None:
    """A crash is being answered when it becomes clear that the loss had gone bad before."""
    run = trained(30, 50, 60, until=71)
    if first is Kind.AGENT_LOST:
        run.see(e.AgentGone(at=run.tick(), attempt=1, node=0, witnesses=("a", "b")))
    else:
        run.incident(first)
    spiked(run, onset=55, step=71)
    assert run.states()[60] is TAINTED
    if first is Kind.AGENT_LOST:
        run.ended()
        decision = run.join()
    else:
        decision = run.stopped()
    order = started(decision)
    assert order.candidates == ("step-00000050.a1w1", "step-00000030.a1w1")
    assert order.skips == ((54, 79),)


def test_a_second_doubt_taints_further_back() -> None:
    run = trained(30, 50, 60, until=81)
    run.incident(Kind.NONFINITE_LOSS, onset_step=55, step=81)
    assert run.states()[50] is GOOD
    spiked(run, onset=45, step=81)
    assert run.states() == {30: GOOD, 50: TAINTED, 60: TAINTED}


# What the next world may restore


def test_a_crash_resumes_from_the_newest_save_that_was_read_back() -> None:
    run = trained(20, 40, until=45)
    run.save(44, verify=False)
    run.incident(Kind.WORKER_KILLED)
    assert started(run.stopped()).candidates == ("step-00000040.a1w1", "step-00000020.a1w1")


def test_a_doubt_about_the_numbers_resumes_from_a_good_save_before_the_onset() -> None:
    run = trained(20, 40, 55, 60, until=65)
    assert run.states() == {20: GOOD, 40: GOOD, 55: VERIFIED, 60: VERIFIED}
    spiked(run, onset=58, step=65)
    assert started(run.stopped()).candidates == ("step-00000040.a1w1", "step-00000020.a1w1")


def test_a_world_that_dies_before_its_first_step_leaves_the_rewind_to_be_done() -> None:
    run = trained(40, 55, until=65)
    spiked(run, onset=58, step=65)
    first = started(run.stopped())
    assert first.candidates == ("step-00000040.a1w1",)
    run.incident(Kind.WORKER_KILLED)
    assert started(run.stopped()).candidates == first.candidates


def test_a_repeated_order_is_the_same_whatever_became_known_since() -> None:
    run = trained(20, 40, until=45)
    late = run.save(44, verify=False)
    run.incident(Kind.WORKER_KILLED)
    order = started(run.stopped())
    run.verify(late)
    run.see(e.CheckpointRefused(at=run.tick(), checkpoint=order.candidates[0], why="a digest differs"))
    again = run.see(e.SupervisorStarted(at=run.tick(), pid=1, last_alive=run.at - 1))
    assert started(again) == order


def test_what_came_back_twice_goes_further_back_and_skips_more() -> None:
    run = trained(20, 40, 60, until=81)
    spiked(run, onset=62, step=74)
    order = started(run.stopped())
    assert order.candidates == ("step-00000060.a1w1", "step-00000040.a1w1", "step-00000020.a1w1")
    assert order.skips == ((61, 82),)
    run.enter(60)
    run.progress(62)
    fed = Skips(order.skips).data_index
    spiked(run, onset=62, step=74)
    again = started(run.stopped())
    margin = 2 * PLAN.skip_margin_steps
    assert again.skips == (order.skips[0], (fed(62), fed(74 + margin) + 1))
    assert again.candidates == order.candidates[1:]
    run.enter(40)
    run.progress(62)
    spiked(run, onset=62, step=74)
    assert run.state.phase is Phase.HOLDING


def test_a_skip_leaves_the_data_before_the_onset_as_it_was() -> None:
    run = trained(40, until=74)
    spiked(run, onset=62, step=70)
    skips = Skips(started(run.stopped()).skips)
    assert [skips.data_index(step) for step in range(1, 62)] == list(range(61))
    assert skips.data_index(62) == 61 + (70 - 62 + 1) + PLAN.skip_margin_steps


def test_a_nan_is_tried_once_with_the_same_data() -> None:
    run = trained(40, until=74)
    run.incident(Kind.NONFINITE_LOSS, onset_step=62, step=74)
    assert started(run.stopped()).skips == ()


def test_no_usable_save_holds_a_run_that_would_lose_much_and_starts_a_young_one_anew() -> None:
    run = Script().train(PLAN.fresh_steps_max)
    run.incident(Kind.WORKER_KILLED)
    assert started(run.stopped()).candidates == ()
    run.enter()
    run.progress(PLAN.fresh_steps_max + 1)
    run.incident(Kind.WORKER_KILLED)
    assert run.state.phase is Phase.HOLDING
    assert "starting from scratch would throw 501 steps away (allowed: 500)" in run.state.reason


def test_a_lost_node_does_not_throw_the_run_away_either() -> None:
    run = Script().train(900)
    run.see(e.AgentGone(at=run.tick(), attempt=1, node=0, witnesses=("a", "b")))
    assert run.state.phase is Phase.HOLDING


def test_the_last_usable_save_may_turn_out_corrupt_on_the_way() -> None:
    run = trained(880, until=890)
    run.incident(Kind.WORKER_KILLED)
    name = run.state.checkpoints[0].name
    run.see(e.CheckpointRefused(at=run.tick(), checkpoint=name, why="a digest differs"))
    assert kinds(run.stopped()) == ["EndAttempt", "Alert"]
    assert run.state.phase is Phase.HOLDING


# Retention


def deletions(run: Script, until: int) -> set[int]:
    """Steps of the saves that are given up while the run goes on."""
    gone: set[str] = set()
    for step in range(run.state.step, until + 1):
        gone |= {x.checkpoint for x in run.progress(step).actions if isinstance(x, a.DeleteCheckpoint)}
    return {c.step for c in run.state.checkpoints if c.name in gone}


def test_the_newest_good_saves_are_kept() -> None:
    run = trained(10, 20, 30, 40, until=49)
    assert deletions(run, 60) == {10, 20}


def test_while_nothing_is_good_nothing_is_given_up() -> None:
    run = trained(10, 11, 12, 13, 14, 15, until=29)
    assert deletions(run, 29) == set()


def test_a_suspect_save_is_given_up_only_when_a_newer_one_is_good() -> None:
    run = trained(20, 40, 60, until=74)
    spiked(run, onset=58, step=74)
    run.restart(step=40)
    run.progress(55)
    run.save(55)
    assert deletions(run, 79) == {20}
    run.progress(80)
    run.save(80)
    assert 60 in deletions(run, 101)


def test_a_save_heard_of_again_after_its_end_is_not_taken_for_a_new_one() -> None:
    run = trained(10, 20, 30, until=60)
    old = run.state.checkpoints[0]
    run.see(e.CheckpointDeleted(at=run.tick(), checkpoint=old.name))
    decision = run.see(
        e.CheckpointCommitted(
            at=run.tick(), checkpoint=old.name, step=old.step, world=1, saved_at=old.saved_at, bytes=1, path=old.path
        )
    )
    assert decision.actions == (a.DeleteCheckpoint(checkpoint=old.name),)


def test_a_save_is_not_given_up_while_it_is_read_back() -> None:
    run = trained(10, until=12)
    name = run.save(12, verify=False)
    for step in (20, 30):
        run.progress(step)
        run.save(step)
    assert deletions(run, 60) == {10}
    run.verify(name)
    assert deletions(run, 61) == {10, 12}


def test_a_save_heard_of_twice_is_read_back_once() -> None:
    run = trained(10, until=12)
    save = run.state.checkpoints[0]
    again = e.CheckpointCommitted(
        at=run.tick(), checkpoint=save.name, step=save.step, world=1, saved_at=save.saved_at, bytes=1, path=save.path
    )
    before = run.state.checkpoints
    assert not run.see(again).actions
    assert run.state.checkpoints == before

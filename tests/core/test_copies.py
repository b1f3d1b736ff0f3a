"""Which copies in memory may a world take, and when does a run that has no checkpoint go on from them?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitors.incidents import Kind
from orchestrator.core import actions as a
from orchestrator.core import events as e
from orchestrator.core import worlds
from orchestrator.core.state import CheckpointState, Phase
from tests.core.script import PLAN, Script, started

COPYING = replace(PLAN, copies=True, fresh_steps_max=10)


def after(kind: Kind, *, plan: e.Plan = COPYING, save: bool = True) -> Script:
    """A run that trained to step 60, and whose world ends for this."""
    run = Script(plan=plan).train(60)
    if save:
        run.save(20)
        run.progress(61)
    run.incident(kind)
    return run


def test_a_crash_goes_on_from_copies_of_any_world_that_nobody_doubts() -> None:
    run = after(Kind.WORKER_KILLED)
    order = started(run.stopped())
    assert (order.world, order.memory_since) == (2, 1)
    run.see(e.WorldEntered(at=run.tick(), world=2))
    restored = run.see(e.WorldRestored(at=run.tick(), world=2, checkpoint=None, step=61, copied_in=1))
    assert restored.reason == "restored step 61 from the copies that world 1 left in memory"
    run.progress(62)
    assert run.state.step == 62


@pytest.mark.parametrize("kind", [Kind.NONFINITE_LOSS, Kind.LOSS_SPIKE, Kind.GPU_MEMORY, Kind.HOST_FAULT])
def test_what_may_hold_wrong_numbers_is_never_taken_again(kind: Kind) -> None:
    run = after(kind)
    run.stopped()
    run.back_off()
    if run.state.phase is Phase.STARTING:
        assert run.state.memory_since == 2
        run.enter(20)
        run.progress(21)
        run.incident(Kind.WORKER_KILLED)
        order = started(run.stopped())
        assert (order.world, order.memory_since) == (3, 2)
    else:
        assert run.state.phase in (Phase.RELAUNCHING, Phase.HOLDING)


def test_a_save_on_the_line_of_a_copy_becomes_good_and_one_beside_it_does_not() -> None:
    run = after(Kind.WORKER_KILLED)
    run.stopped()
    run.see(e.WorldEntered(at=run.tick(), world=2))
    run.see(e.WorldRestored(at=run.tick(), world=2, checkpoint=None, step=61, copied_in=1))
    run.save(58, world=1)
    run.save(63, world=1)
    run.progress(100)
    assert run.states() == {20: CheckpointState.GOOD, 58: CheckpointState.GOOD, 63: CheckpointState.VERIFIED}


def test_without_any_checkpoint_copies_are_tried_once_and_never_the_beginning() -> None:
    run = after(Kind.WORKER_KILLED, save=False)
    order = started(run.stopped())
    assert (order.candidates, order.memory_since, order.fresh) == ((), 1, False)
    run.incident(Kind.WORKER_EXCEPTION, world=2)
    assert run.state.phase is Phase.HOLDING, "the ranks found nothing, and 60 steps are too many to throw away"


def test_without_copies_nothing_is_tried() -> None:
    assert after(Kind.WORKER_KILLED, plan=replace(COPYING, copies=False), save=False).state.phase is Phase.HOLDING


def test_copies_are_not_waited_for_while_a_save_is_read_back() -> None:
    run = Script(plan=COPYING).train(60)
    run.save(40, verify=False)
    run.progress(61)
    run.incident(Kind.HANG)
    assert started(run.stopped()).memory_since == 1


def relaunched(run: Script) -> a.StartWorld:
    """A node is lost, and the next attempt begins."""
    gone = e.AgentGone(at=run.tick(), attempt=run.state.attempt, node=1, witnesses=("link closed", "no such pid"))
    (order,) = [one for one in run.see(gone).actions if isinstance(one, a.EndAttempt)]
    assert order.relaunch, "copies stay"
    run.ended()
    run.back_off()
    return started(run.join())


def test_a_lost_node_leaves_the_copies_of_the_others() -> None:
    run = Script(plan=COPYING).train(60)
    order = relaunched(run)
    assert (order.attempt, order.world, order.candidates, order.memory_since, order.fresh) == (2, 2, (), 1, False)
    run.see(e.WorldEntered(at=run.tick(), world=2))
    told = run.see(e.WorldRestored(at=run.tick(), world=2, checkpoint=None, step=60, copied_in=1, from_peer=1))
    assert told.reason.endswith("left in memory, of 1 ranks on another node")
    run.progress(61)
    assert run.state.step == 61


def test_an_agent_that_is_lost_once_more_says_nothing_of_the_copies() -> None:
    run = Script(plan=COPYING).train(60)
    relaunched(run)
    assert relaunched(run).memory_since == 1
    run.incident(Kind.WORKER_EXCEPTION, world=3)
    assert run.state.phase is Phase.HOLDING, "the ranks found nothing, and 60 steps are too many to throw away"


def test_copies_may_be_lost_with_a_node_so_a_save_is_waited_for() -> None:
    run = Script(plan=COPYING).train(60)
    name = run.save(40, verify=False)
    run.progress(61)
    run.see(e.AgentGone(at=run.tick(), attempt=1, node=1, witnesses=("link closed", "no such pid")))
    run.ended()
    run.back_off()
    run.join()
    assert run.state.phase is Phase.LAUNCHING
    order = started(run.verify(name))
    assert (order.candidates, order.memory_since) == ((name,), 1)


@pytest.mark.parametrize("kind", [Kind.GPU_MEMORY, Kind.HOST_FAULT, Kind.NONFINITE_LOSS])
def test_what_may_hold_wrong_numbers_is_not_taken_by_another_attempt_either(kind: Kind) -> None:
    run = after(kind)
    if run.state.phase is not Phase.RELAUNCHING:
        run.see(e.AgentGone(at=run.tick(), attempt=1, node=1, witnesses=("link closed", "no such pid")))
    assert run.state.phase is Phase.RELAUNCHING
    run.ended()
    run.back_off()
    assert started(run.join()).memory_since == 2


def test_a_person_who_lets_a_run_go_on_gets_what_is_on_the_disk() -> None:
    """Also when the attempt that was launched for it is lost before its first world."""
    run = Script(plan=COPYING).train(60)
    run.save(40)
    run.incident(Kind.CRASH_LOOP)
    (order,) = worlds.outstanding(run.state)
    assert order == a.EndAttempt(attempt=1, why=run.state.reason), "nothing stays"
    run.ended()
    run.see(e.ResumeRequested(at=run.tick(), by="p"))
    run.see(e.AgentJoined(at=run.tick(), attempt=2, node=1, host="h"))
    assert relaunched(run).memory_since == 2

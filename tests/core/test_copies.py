"""Which copies in memory may a world take, and when does a run that has no checkpoint go on from them?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitors.incidents import Kind
from orchestrator.core import events as e
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

"""A run that begins from another run's checkpoint: never before it was read back, never from anything less."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from monitors.incidents import Kind
from orchestrator.core import actions as a
from orchestrator.core import events as e
from orchestrator.core import origin
from orchestrator.core.state import CheckpointState, Phase
from tests.core.script import PLAN, POLICY, Script, kinds, started

NAME = "/elsewhere/step-00000040.a3w7"
SAVE = e.CheckpointCommitted(at=900.0, checkpoint=NAME, step=40, world=origin.WORLD, saved_at=800.0, bytes=1, path=NAME)


def submitted() -> Script:
    """A run whose first world may only begin from a checkpoint of another one."""
    run = Script(plan=replace(PLAN, keep=1))
    decision = run.see(e.RunSubmitted(at=run.tick(), run="r", plan=run.plan, policy=POLICY, origin=SAVE))
    assert decision.actions == (a.VerifyCheckpoint(checkpoint=NAME), a.Launch(attempt=1))
    return run


def trained() -> Script:
    """The same, five steps later."""
    run = submitted()
    run.verify(NAME)
    run.join()
    run.enter(40, NAME)
    run.progress(45)
    return run


def test_the_first_world_waits_until_it_is_read_back() -> None:
    run = submitted()
    assert run.join().actions == ()
    assert run.state.phase is Phase.LAUNCHING
    run.wait()
    assert (run.state.phase, run.state.incidents) == (Phase.LAUNCHING, 0)
    decision = run.see(e.CheckpointVerified(at=run.tick(), checkpoint=NAME))
    assert started(decision).candidates == (NAME,)


def test_read_back_before_the_agents_come_it_is_begun_from_at_once() -> None:
    run = submitted()
    run.verify(NAME)
    assert started(run.join()).candidates == (NAME,)


def test_a_person_is_told_when_reading_back_does_not_end() -> None:
    run = submitted()
    run.join()
    pages: list[float] = []
    while len(pages) < 3:
        pages += [run.at for action in run.wait().actions if isinstance(action, a.Alert) and action.page]
    assert pages[0] - run.state.since >= PLAN.unheard_s
    assert min(later - earlier for earlier, later in pairwise(pages)) >= PLAN.unheard_s, "no storm of pages"


@pytest.mark.parametrize("agents_first", [True, False])
def test_damaged_it_holds_the_run_instead_of_starting_from_scratch(agents_first: bool) -> None:
    run = submitted()
    if agents_first:
        run.join()
    decision = run.see(e.CheckpointRefused(at=run.tick(), checkpoint=NAME, why="its bytes changed"))
    if not agents_first:
        decision = run.join()
    assert kinds(decision) == ["EndAttempt", "Alert"]
    run.ended()
    assert (run.state.phase, run.state.hold_kind) == (Phase.HELD, Kind.CHECKPOINT_CORRUPT)
    assert NAME in run.state.reason


def test_an_agent_that_is_lost_meanwhile_costs_an_attempt_and_no_more() -> None:
    run = submitted()
    run.join()
    run.see(e.AgentGone(at=run.tick(), attempt=1, node=0, witnesses=("one", "two")))
    run.ended()
    while run.state.phase is Phase.BACKING_OFF:
        run.wait()
    assert run.join().actions == ()
    assert started(run.see(e.CheckpointVerified(at=run.tick(), checkpoint=NAME))).candidates == (NAME,)


def test_it_is_good_enough_to_rewind_to() -> None:
    run = trained()
    run.incident(Kind.LOSS_SPIKE, onset_step=43, step=45)
    assert started(run.stopped()).candidates == (NAME,)


def test_nothing_is_started_when_even_it_is_not_trusted() -> None:
    run = trained()
    run.see(e.StopRequested(at=run.tick(), by="ada", now=True))
    run.ended()
    run.see(e.ResumeRequested(at=run.tick(), by="ada", from_step=0))
    run.join()
    assert run.state.phase is Phase.HOLDING
    assert "did not begin from scratch" in run.state.reason


def test_retention_never_takes_it() -> None:
    run = trained()
    for step in range(50, 200, 10):
        decision = run.progress(step)
        assert a.DeleteCheckpoint(checkpoint=NAME) not in decision.actions
        for action in decision.actions:
            if isinstance(action, a.DeleteCheckpoint):
                run.see(e.CheckpointDeleted(at=run.tick(), checkpoint=action.checkpoint))
        run.save(step)
    assert run.states()[40] is CheckpointState.GOOD
    assert len(run.state.checkpoints) < 6

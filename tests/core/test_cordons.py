"""Which hosts get no ranks, and which checkpoints stay, because a person said so?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitors.incidents import Kind
from orchestrator import refusals
from orchestrator.core import actions as a
from orchestrator.core import decide
from orchestrator.core import events as e
from orchestrator.core.invariants import InvariantBroken, check
from orchestrator.core.state import ENDED, Cordon, Decision, Phase
from orchestrator.requests import AskError
from tests.core.script import Script, at_phase, kinds, started

P = Phase


def cordon(run: Script, host: str, cordoned: bool = True) -> Decision:
    return run.see(e.HostCordoned(at=run.tick(), by="ada", host=host, cordoned=cordoned, why="it smells"))


def gone(run: Script) -> e.AgentGone:
    return e.AgentGone(at=run.tick(), attempt=run.state.attempt, node=1, witnesses=("link closed", "no such pid"))


# Cordons


def test_a_scheduler_that_gives_a_cordoned_host_all_the_same_has_failed() -> None:
    run = Script().train(10)
    cordon(run, "h1")
    assert run.state.phase is P.TRAINING, "the world there trains on"
    run.see(gone(run))
    run.ended()
    decision = run.join()
    assert [opened.incident.kind for opened in decision.opened] == [Kind.LAUNCH_FAILED]
    assert decision.opened[0].incident.evidence == ("the scheduler gave the attempt h1, which ada cordoned",)
    assert kinds(decision) == ["EndAttempt"]
    for _ in range(20):
        if run.state.phase in ENDED:
            break
        run.ended()
        run.back_off()
        if run.state.phase is P.LAUNCHING:
            run.join()
    assert run.state.phase is P.HELD, "it is not tried for ever"


def test_a_host_that_is_cordoned_while_the_agents_come_gets_no_ranks() -> None:
    run = Script()
    run.submit()
    run.see(e.AgentJoined(at=run.tick(), attempt=1, node=0, host="h0"))
    assert kinds(cordon(run, "h0")) == ["EndAttempt"]
    assert run.state.phase is P.RELAUNCHING


def test_a_new_world_after_a_cordon_begins_in_a_new_attempt() -> None:
    run = Script().train(10)
    run.save(10)
    cordon(run, "h0")
    run.incident(Kind.WORKER_KILLED)
    decision = run.stopped()
    assert (kinds(decision), run.state.phase) == (["EndAttempt"], P.RELAUNCHING)
    assert run.state.reason.endswith("a new attempt, without h0")
    assert run.ended().actions == (a.Launch(attempt=2, exclude=("h0",)),)


def test_cordoning_twice_and_letting_in_what_is_in_change_nothing() -> None:
    run = Script().train(10)
    cordon(run, "h1")
    first = run.state.cordons
    assert "already" in cordon(run, "h1").reason
    assert run.state.cordons == first
    cordon(run, "h1", False)
    assert run.state.cordons == ()
    assert "already" in cordon(run, "h1", False).reason


def test_ranks_on_a_cordoned_host_break_an_invariant() -> None:
    run = at_phase(P.STOPPING_WORLD)
    before, world = run.state, run.state.world
    middle = decide.decide(before, e.NodeStopped(at=run.tick(), world=world, node=0)).state
    last = e.NodeStopped(at=run.tick(), world=world, node=1)
    decision = decide.decide(middle, last)
    started(decision)
    kept_out = (Cordon(host="h1", at=0.0, by="ada"),)
    bad = replace(decision, state=replace(decision.state, cordons=kept_out))
    with pytest.raises(InvariantBroken, match="4: ranks on a cordoned host"):
        check(middle, last, bad)
    launch = Decision(state=replace(before, cordons=kept_out), actions=(a.Launch(attempt=before.attempt),))
    with pytest.raises(InvariantBroken, match="4: a cordon kept from the scheduler"):
        check(before, last, launch)


# Pins


def test_retention_leaves_a_pinned_checkpoint_alone_until_it_is_unpinned() -> None:
    run = Script().train(1)
    run.progress(10)
    first = run.save(10)
    run.see(e.CheckpointPinned(at=run.tick(), by="ada", checkpoint=first))
    for step in range(20, 100, 10):
        run.progress(step)
        run.save(step)
    gone = {x.checkpoint for _, d in run.decisions for x in d.actions if isinstance(x, a.DeleteCheckpoint)}
    assert gone
    assert first not in gone
    run.see(e.CheckpointPinned(at=run.tick(), by="ada", checkpoint=first, pinned=False))
    orders = run.progress(100).actions
    assert a.DeleteCheckpoint(checkpoint=first) in orders


def test_what_is_being_deleted_cannot_be_kept_any_more() -> None:
    run = Script().train(1)
    for step in range(10, 100, 10):
        run.progress(step)
        run.save(step)
    lost = next(x.checkpoint for _, d in run.decisions for x in d.actions if isinstance(x, a.DeleteCheckpoint))
    decision = run.see(e.CheckpointPinned(at=run.tick(), by="ada", checkpoint=lost))
    assert "its deletion was ordered already" in decision.reason
    assert not run.checkpoint(lost).pinned
    with pytest.raises(AskError, match="retention has ordered its deletion already"):
        refusals.refuse_pin(run.state, lost, True)
    with pytest.raises(AskError, match="has no checkpoint nowhere; there is: step-"):
        refusals.refuse_pin(run.state, "nowhere", True)


def test_deleting_a_pinned_checkpoint_breaks_an_invariant() -> None:
    run = Script().train(1)
    run.progress(10)
    first = run.save(10)
    run.see(e.CheckpointPinned(at=run.tick(), by="ada", checkpoint=first))
    event = e.TimePassed(at=run.tick())
    bad = Decision(state=run.state, actions=(a.DeleteCheckpoint(checkpoint=first),))
    with pytest.raises(InvariantBroken, match="a pinned checkpoint would be deleted"):
        check(run.state, event, bad)

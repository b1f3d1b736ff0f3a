"""Given where a run stands and what happens: where does it go, and what is ordered?"""

from __future__ import annotations

import pytest

from monitors.incidents import Incident, Kind
from orchestrator.core import actions as a
from orchestrator.core import events as e
from orchestrator.core.limits import Limits
from orchestrator.core.state import ENDED, Phase
from tests.core.script import POLICY, Script, at_phase, kinds, started

P = Phase


def event_of(name: str, run: Script) -> e.Event:
    """One of each kind, about the newest world and attempt."""
    at, state = run.tick(), run.state
    world, attempt = state.world, state.attempt
    save = state.checkpoints[-1].name if state.checkpoints else "step-00000001.a1w1"
    crash = Incident(kind=Kind.WORKER_KILLED, at=at, onset=at, world=world, step=30, evidence=("signal 9",))
    spike = Incident(kind=Kind.LOSS_SPIKE, at=at, onset=at, world=world, step=30, onset_step=25, evidence=("up",))
    found: dict[str, e.Event] = {
        "submitted": e.RunSubmitted(at=at, run="r", plan=run.plan, policy=POLICY),
        "policy": e.PolicyChanged(at=at, policy=POLICY),
        "supervisor": e.SupervisorStarted(at=at, pid=1, last_alive=at - 5),
        "first supervisor": e.SupervisorStarted(at=at, pid=1),
        "launched": e.Launched(at=at, attempt=attempt, handle="h"),
        "launch failed": e.LaunchFailed(at=at, attempt=attempt, why="no"),
        "joined": e.AgentJoined(at=at, attempt=attempt, node=0, host="h"),
        "gone": e.AgentGone(at=at, attempt=attempt, node=0, witnesses=("link", "pid")),
        "gone, one witness": e.AgentGone(at=at, attempt=attempt, node=0, witnesses=("link",)),
        "ended": e.AttemptEnded(at=at, attempt=attempt),
        "entered": e.WorldEntered(at=at, world=world),
        "restored": e.WorldRestored(at=at, world=world, checkpoint=save, step=20),
        "progressed": e.Progressed(at=at, world=world, step=31),
        "finished": e.RankFinished(at=at, world=world, rank=0),
        "node stopped": e.NodeStopped(at=at, world=world, node=0),
        "committed": e.CheckpointCommitted(
            at=at, checkpoint="new", step=31, world=world, saved_at=at, bytes=1, path="p"
        ),
        "verified": e.CheckpointVerified(at=at, checkpoint=save),
        "refused": e.CheckpointRefused(at=at, checkpoint=save, why="digest"),
        "deleted": e.CheckpointDeleted(at=at, checkpoint=save),
        "crash": e.IncidentDetected(at=at, incident=crash),
        "spike": e.IncidentDetected(at=at, incident=spike),
        "stop": e.StopRequested(at=at, by="p"),
        "stop now": e.StopRequested(at=at, by="p", now=True),
        "resume": e.ResumeRequested(at=at, by="p"),
        "resume from": e.ResumeRequested(at=at, by="p", from_step=10),
        "drill": e.DrillRequested(at=at, by="p", drill="kill", rank=0, number=1),
        "drilled": e.DrillDone(at=at, world=world, drill="kill", rank=0),
        "probed": e.DeviceProbed(at=at, world=world, sentence="as fast as its peers"),
        "proved": e.RecoveryProved(at=at, world=world, sentence="world 2 proved itself"),
        "budget": e.BudgetChanged(at=at, by="p", limits=Limits(wall_hours=1e-6)),
        "power": e.PowerBudgetChanged(at=at, by="p", watts=100.0),
        "capped": e.PowerCapped(at=at, node=0, watts=50.0, may_draw_w=700.0, why="it needs root"),
        "time": e.TimePassed(at=at),
    }
    return found[name]


NAMES = tuple(
    "submitted, policy, supervisor, first supervisor, launched, launch failed, joined, gone, gone/ one witness, ended, "
    "entered, restored, progressed, finished, node stopped, committed, verified, refused, deleted, crash, spike, stop, "
    "stop now, resume, resume from, drill, drilled, probed, proved, budget, power, capped, time".replace(
        "/", "\0"
    ).split(", ")
)
NAMES = tuple(name.replace("\0", ",") for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("phase", list(Phase))
def test_every_event_is_decided_in_every_phase(phase: Phase, name: str) -> None:
    run = at_phase(phase)
    before = run.state
    decision = run.see(event_of(name, run))  # the script checks the invariants
    if phase in ENDED and not name.startswith(("stop", "resume")):
        assert decision.state.phase is phase
        assert not [x for x in decision.actions if not isinstance(x, a.VerifyCheckpoint | a.DeleteCheckpoint)]
    assert decision.state.world - before.world in (0, 1)
    assert decision.state.attempt - before.attempt in (0, 1)


MOVES = [
    # phase, event, next phase, actions
    (P.LAUNCHING, "launched", P.LAUNCHING, []),
    (P.LAUNCHING, "launch failed", P.RELAUNCHING, ["EndAttempt"]),
    (P.LAUNCHING, "joined", P.LAUNCHING, []),
    (P.LAUNCHING, "gone", P.RELAUNCHING, ["EndAttempt"]),
    (P.LAUNCHING, "ended", P.RELAUNCHING, ["EndAttempt"]),
    (P.LAUNCHING, "crash", P.LAUNCHING, []),
    (P.LAUNCHING, "stop", P.STOPPING, ["EndAttempt"]),
    (P.LAUNCHING, "supervisor", P.LAUNCHING, ["Launch"]),
    (P.STARTING, "progressed", P.TRAINING, []),
    (P.STARTING, "crash", P.STOPPING_WORLD, ["StopWorld"]),
    (P.STARTING, "supervisor", P.STARTING, ["StartWorld"]),
    (P.STARTING, "gone", P.RELAUNCHING, ["EndAttempt"]),
    (P.STARTING, "launch failed", P.RELAUNCHING, ["EndAttempt"]),
    (P.STARTING, "drill", P.STARTING, ["InjectFault"]),
    (P.TRAINING, "progressed", P.TRAINING, []),
    (P.TRAINING, "committed", P.TRAINING, ["VerifyCheckpoint"]),
    (P.TRAINING, "crash", P.STOPPING_WORLD, ["StopWorld"]),
    (P.TRAINING, "gone", P.RELAUNCHING, ["EndAttempt"]),
    (P.TRAINING, "gone, one witness", P.TRAINING, []),
    (P.TRAINING, "ended", P.RELAUNCHING, ["EndAttempt"]),
    (P.TRAINING, "launch failed", P.TRAINING, []),
    (P.TRAINING, "stop", P.STOPPING, ["StopAfterStep"]),
    (P.TRAINING, "stop now", P.STOPPING, ["EndAttempt"]),
    (P.TRAINING, "supervisor", P.TRAINING, []),
    (P.TRAINING, "drill", P.TRAINING, ["InjectFault"]),
    (P.TRAINING, "resume", P.TRAINING, []),
    (P.STOPPING_WORLD, "crash", P.STOPPING_WORLD, []),
    (P.STOPPING_WORLD, "node stopped", P.STOPPING_WORLD, []),
    (P.STOPPING_WORLD, "supervisor", P.STOPPING_WORLD, ["StopWorld"]),
    (P.STOPPING_WORLD, "gone", P.RELAUNCHING, ["EndAttempt"]),
    (P.STOPPING_WORLD, "stop", P.STOPPING, ["EndAttempt"]),
    (P.BACKING_OFF, "crash", P.BACKING_OFF, []),
    (P.BACKING_OFF, "time", P.BACKING_OFF, []),
    (P.BACKING_OFF, "ended", P.RELAUNCHING, ["EndAttempt"]),
    (P.BACKING_OFF, "stop", P.STOPPING, ["EndAttempt"]),
    (P.RELAUNCHING, "ended", P.LAUNCHING, ["Launch"]),
    (P.RELAUNCHING, "gone", P.RELAUNCHING, []),
    (P.RELAUNCHING, "crash", P.RELAUNCHING, []),
    (P.RELAUNCHING, "supervisor", P.RELAUNCHING, ["EndAttempt"]),
    (P.FINISHING, "ended", P.SUCCEEDED, []),
    (P.FINISHING, "crash", P.FINISHING, []),
    (P.FINISHING, "stop", P.FINISHING, []),
    (P.STOPPING, "ended", P.STOPPED, []),
    (P.STOPPING, "crash", P.STOPPING, []),
    (P.STOPPING, "supervisor", P.STOPPING, ["StopAfterStep"]),
    (P.STOPPING, "stop now", P.STOPPING, ["EndAttempt"]),
    (P.HOLDING, "ended", P.HELD, []),
    (P.HOLDING, "crash", P.HOLDING, []),
    (P.HOLDING, "stop", P.STOPPING, ["EndAttempt"]),
    (P.HELD, "stop", P.STOPPED, []),
    (P.HELD, "resume", P.LAUNCHING, ["Launch"]),
    (P.HELD, "spike", P.HELD, []),
    (P.STOPPED, "resume", P.LAUNCHING, ["Launch"]),
    (P.STOPPED, "supervisor", P.STOPPED, []),
    (P.SUCCEEDED, "resume", P.SUCCEEDED, []),
    (P.SUCCEEDED, "stop", P.SUCCEEDED, []),
]


@pytest.mark.parametrize(("phase", "name", "following", "ordered"), MOVES)
def test_moves(phase: Phase, name: str, following: Phase, ordered: list[str]) -> None:
    run = at_phase(phase)
    decision = run.see(event_of(name, run))
    assert decision.state.phase is following
    assert kinds(decision) == ordered


@pytest.mark.parametrize("phase", [p for p in Phase if p not in ENDED])
def test_news_of_an_older_attempt_or_world_changes_nothing(phase: Phase) -> None:
    run = at_phase(phase)
    state, at = run.state, run.tick()
    for event in (
        e.AttemptEnded(at=at, attempt=state.attempt - 1),
        e.AgentJoined(at=at, attempt=state.attempt - 1, node=0, host="h"),
        e.AgentGone(at=at, attempt=state.attempt - 1, node=0, witnesses=("a", "b")),
        e.NodeStopped(at=at, world=state.world - 1, node=0),
        e.Progressed(at=at, world=state.world - 1, step=999),
        e.RankFinished(at=at, world=state.world - 1, rank=0),
    ):
        decision = run.see(event)
        assert not decision.actions
        assert (decision.state.phase, decision.state.best_step) == (state.phase, state.best_step)


def test_a_run_goes_from_submission_to_success() -> None:
    run = Script()
    assert run.submit().actions == (a.Launch(attempt=1),)
    start = started(run.join())
    assert (start.world, start.candidates, start.skips) == (1, (), ())
    run.enter()
    run.progress(1)
    run.progress(100)
    for rank in (0, 1):
        run.see(e.RankFinished(at=run.tick(), world=1, rank=rank))
    assert kinds(run.stopped()) == ["EndAttempt"]
    decision = run.ended()
    assert decision.state.phase is P.SUCCEEDED
    assert decision.reason == "complete at step 100"
    assert decision.state.deadline is None


def test_the_end_of_an_attempt_said_twice_is_not_a_second_loss() -> None:
    run = Script().train()
    for _ in range(2):  # the second loss without progress waits before the next attempt
        run.see(e.AgentGone(at=run.tick(), attempt=run.state.attempt, node=0, witnesses=("a", "b")))
        run.ended()
        if run.state.phase is P.LAUNCHING:
            run.join()
            run.enter()
    assert run.state.phase is P.BACKING_OFF
    before = run.state
    for late in (
        e.AttemptEnded(at=run.tick(), attempt=before.attempt),
        e.AgentJoined(at=run.tick(), attempt=before.attempt, node=0, host="h"),
        e.AgentGone(at=run.tick(), attempt=before.attempt, node=1, witnesses=("a", "b")),
    ):
        assert not run.see(late).actions
    assert (run.state.phase, run.state.strikes) == (P.BACKING_OFF, before.strikes)
    assert kinds(run.wait()) == ["Launch"]


def test_a_world_that_ends_without_a_word_is_an_exception_of_unknown_origin() -> None:
    run = Script().train(5)
    run.stopped()
    assert run.state.phase is P.TRAINING
    run.progress(6)  # old news must not put the question off for the length of a silence
    decision = run.wait()
    assert decision.opened[0].incident.kind is Kind.WORKER_EXCEPTION
    assert run.at - 1000 < 30
    assert decision.opened[0].incident.evidence == ("every worker is gone and none said why",)

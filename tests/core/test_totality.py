"""Does any order of events, sensible or not, make the core fail? Hypothesis looks for one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitors import wire
from monitors.incidents import Incident, Kind, Subject
from orchestrator.core import decide, invariants
from orchestrator.core import events as e
from orchestrator.core.asked import POWER_BUDGET
from orchestrator.core.limits import Limits
from orchestrator.core.policy import Policy
from orchestrator.core.state import ENDED, Phase, State
from tests.core.script import POLICY, at_phase, with_response

EVENTS = wire.by_name(*e.Event.__args__)
STATES = wire.by_name(State)

small = st.integers(0, 3)
steps = st.integers(0, 120)
times = st.floats(0, 5000)
names = st.sampled_from([f"step-{step:08d}.a1w{world}" for step in (0, 10, 20, 60) for world in (1, 2)] + ["other"])
hosts = st.sampled_from(["h", "h0", "h1"])
ids = st.sampled_from(["i1", "i2", "i9", "i0", "x", ""])
words = st.lists(st.sampled_from("abc"), max_size=3).map(tuple)
POLICIES = (POLICY, with_response(Kind.HANG, strikes_max=0), with_response(Kind.HANG, witnesses=2))


def submitted(at: float) -> e.Event:
    """Named, and not a `builds` of the whole policy, because a failing example is printed."""
    return e.RunSubmitted(at=at, run="r", plan=e.Plan(), policy=POLICY)


def policy_changed(at: float, which: int) -> e.Event:
    return e.PolicyChanged(at=at, policy=POLICIES[which])


incidents = st.builds(
    lambda at, before, **facts: Incident(at=at, onset=at - before, **facts),
    at=times,
    before=st.floats(0, 100),
    kind=st.sampled_from(Kind),
    world=small,
    subject=st.builds(Subject, node=st.none() | small, rank=st.none() | small),
    onset_step=st.none() | steps,
    step=steps,
    fingerprint=st.sampled_from(["", "x"]),
    evidence=words,
)
watts, whys = st.sampled_from((100.0, 900.0)), st.sampled_from(("", "it needs root"))
budgets = st.builds(Limits, gpu_hours=st.sampled_from((0.1, 9.0)))
events = st.one_of(
    st.builds(submitted, at=times),
    st.builds(policy_changed, at=times, which=st.integers(0, 2)),
    st.builds(e.SupervisorStarted, at=times, pid=small, last_alive=st.none() | times),
    st.builds(e.Launched, at=times, attempt=small, handle=st.just("h")),
    st.builds(e.DrillDone, at=times, world=small, drill=st.just("kill"), rank=st.none() | small),
    st.builds(e.DeviceProbed, at=times, world=small, sentence=st.just("as fast as its peers")),
    st.builds(e.RecoveryProved, at=times, world=small, sentence=st.just("world 2 proved itself")),
    st.builds(e.LaunchFailed, at=times, attempt=small, why=st.just("no")),
    st.builds(e.AgentJoined, at=times, attempt=small, node=small, host=hosts),
    st.builds(e.AgentGone, at=times, attempt=small, node=small, witnesses=words),
    st.builds(e.AttemptEnded, at=times, attempt=small),
    st.builds(e.WorldEntered, at=times, world=small),
    st.builds(e.WorldRestored, at=times, world=small, checkpoint=st.none() | names, step=steps),
    st.builds(e.Progressed, at=times, world=small, step=steps, suspect_since=st.none() | steps),
    st.builds(e.RankFinished, at=times, world=small, rank=small),
    st.builds(e.NodeStopped, at=times, world=small, node=small),
    st.builds(
        e.CheckpointCommitted,
        at=times,
        checkpoint=names,
        step=steps,
        world=small,
        saved_at=times,
        bytes=small,
        path=names,
    ),
    st.builds(e.CheckpointVerified, at=times, checkpoint=names),
    st.builds(e.CheckpointRefused, at=times, checkpoint=names, why=st.just("no")),
    st.builds(e.CheckpointDeleted, at=times, checkpoint=names),
    st.builds(e.IncidentDetected, at=times, incident=incidents),
    st.builds(e.StopRequested, at=times, by=st.just("p"), now=st.booleans()),
    st.builds(e.ResumeRequested, at=times, by=st.just("p"), from_step=st.none() | st.integers(0, 50)),
    st.builds(e.PauseRequested, at=times, by=st.sampled_from(["p", POWER_BUDGET]), why=st.sampled_from(["", "lunch"])),
    st.builds(e.ResumeRequested, at=times, by=st.just(POWER_BUDGET)),
    st.builds(e.RestartRequested, at=times, by=st.just("p"), without=st.none() | small),
    st.builds(
        e.SpecRevised, at=times, by=st.just("p"), revision=small, sets=words, plan=st.builds(e.Plan, nodes=small)
    ),
    st.builds(e.HostCordoned, at=times, by=st.just("p"), host=hosts, cordoned=st.booleans()),
    st.builds(e.IncidentAcknowledged, at=times, by=st.just("p"), incident=ids),
    st.builds(e.IncidentResolved, at=times, by=st.just("p"), incident=ids),
    st.builds(e.IncidentNoted, at=times, by=st.just("p"), incident=ids, text=st.just("why")),
    st.builds(e.IncidentJudged, at=times, by=st.just("p"), incident=ids, right=st.booleans()),
    st.builds(e.CheckpointPinned, at=times, by=st.just("p"), checkpoint=names, pinned=st.booleans()),
    st.builds(e.DrillRequested, at=times, by=st.just("p"), drill=st.just("kill"), rank=st.none() | small),
    st.builds(e.BudgetChanged, at=times, by=st.just("p"), limits=budgets),
    st.builds(e.PowerBudgetChanged, at=times, by=st.just("p"), watts=st.none() | watts),
    st.builds(e.PowerCapped, at=times, node=small, watts=st.none() | watts, may_draw_w=st.none() | watts, why=whys),
    st.builds(e.TimePassed, at=times),
)


def about_now(state: State, event: e.Event, late_s: float) -> e.Event:
    """The same event, but about the newest world and attempt, and not from the past: one that counts."""
    news: dict[str, Any] = {"at": state.now + late_s, "attempt": state.attempt, "world": state.world}
    if isinstance(event, e.CheckpointCommitted):
        del news["world"]
    event = replace(event, **{name: value for name, value in news.items() if hasattr(event, name)})
    if isinstance(event, e.IncidentDetected):
        incident = replace(event.incident, at=event.at, onset=event.at - 1, world=state.world)
        event = replace(event, incident=incident)
    if isinstance(event, e.TimePassed) and state.deadline is not None:
        event = replace(event, at=max(event.at, state.deadline))
    return event


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    phase=st.sampled_from(Phase),
    happens=st.lists(st.tuples(events, st.booleans(), st.floats(0, 700)), min_size=1, max_size=40),
)
def test_every_sequence_of_events_is_decided_within_the_invariants(
    phase: Phase, happens: list[tuple[e.Event, bool, float]]
) -> None:
    state = at_phase(phase).state
    seen: list[tuple[e.Event, State]] = []
    first = state
    for event, counts, late_s in happens:
        real = about_now(state, event, late_s) if counts else event
        decision = decide.decide(state, real)
        invariants.check(state, real, decision)
        assert decision.state.now >= state.now or isinstance(real, e.SupervisorStarted)
        assert decision.state.world >= state.world
        assert decision.state.attempt >= state.attempt
        seen.append((real, decision.state))
        state = decision.state
    _replays(first, seen)


def _replays(first: State, seen: list[tuple[e.Event, State]]) -> None:
    """What the journal keeps gives the same state again."""
    state = wire.loads(wire.dumps(first), STATES)
    for event, after in seen:
        state = decide.decide(state, wire.loads(wire.dumps(event), EVENTS)).state
        assert state == after
    assert wire.loads(wire.dumps(state), STATES) == state


@settings(max_examples=200, deadline=None)
@given(phase=st.sampled_from(Phase), waits=st.integers(1, 12))
def test_silence_never_leaves_a_run_without_a_deadline_or_an_end(phase: Phase, waits: int) -> None:
    run = at_phase(phase)
    for _ in range(waits):
        if run.state.phase in ENDED:
            assert run.state.deadline is None
            return
        before = run.state.deadline
        run.wait()
        after = run.state.deadline
        assert before is not None
        assert after is None or after > before, "a deadline that does not move is a loop"


def test_a_policy_must_answer_every_kind() -> None:
    responses = dict(POLICY.responses)
    del responses[Kind.HANG]
    with pytest.raises(AssertionError, match="hang"):
        Policy(version="x", responses=responses)

"""`python -m tests.alerts.driven HOME INCIDENTS`: a supervisor in small, which may be killed at any moment.

The real core decides, the real journal keeps it. Whatever the run waits for happens; when it trains, something fails,
until it had so many incidents. Killed and started anew it goes on from the journal.
"""

from __future__ import annotations

import sys
import time
from itertools import count
from pathlib import Path

from monitors.incidents import Incident, Kind, Subject
from orchestrator import runbooks
from orchestrator.core import events as e
from orchestrator.core.decide import begin, decide
from orchestrator.core.state import ENDED, Phase, State
from orchestrator.journal import Journal, Submission

RUN = "driven-aaaaa"
KINDS = (Kind.WORKER_KILLED, Kind.HANG, Kind.GPU_LOST, Kind.START_STALLED)
PACE_S = 0.01


def drive(journal: Journal, incidents: int) -> None:
    """To the end."""
    state = journal.state(RUN)
    if state is None:
        plan = e.Plan(nodes=1, ranks_per_node=2)
        event = e.RunSubmitted(at=time.time(), run=RUN, plan=plan, policy=runbooks.load())
        new = Submission(run=RUN, name="driven", submitted_at=event.at, spec={}, spec_yaml="")
        decision = begin(event)
        journal.record(RUN, event, decision, submission=new)
        state = decision.state
    for _ in count():
        if state.phase in ENDED and state.phase is not Phase.HELD:
            return
        event = _next(state, incidents)
        decision = decide(state, event)
        journal.record(RUN, event, decision)
        journal.heartbeat(event.at)
        state = decision.state
        time.sleep(PACE_S)


def _next(state: State, incidents: int) -> e.Event:
    """What happens to a run that stands so."""
    at = max(time.time(), state.now)
    match state.phase:
        case Phase.LAUNCHING:
            return e.AgentJoined(at=at, attempt=state.attempt, node=0, host="host0")
        case Phase.STARTING:
            return e.Progressed(at=at, world=state.world, step=state.best_step + 1)
        case Phase.TRAINING:
            return _trained(state, at, incidents)
        case Phase.STOPPING_WORLD:
            return e.NodeStopped(at=at, world=state.world, node=0)
        case Phase.BACKING_OFF:
            return e.TimePassed(at=max(at, state.deadline or at))
        case Phase.HELD:
            return e.ResumeRequested(at=at, by="ada")
        case _:
            return e.AttemptEnded(at=at, attempt=state.attempt)


def _trained(state: State, at: float, incidents: int) -> e.Event:
    if state.open:
        return e.Progressed(at=at, world=state.world, step=state.best_step + 50)
    if state.incidents >= incidents:
        return e.StopRequested(at=at, by="ada", now=True)
    incident = Incident(
        kind=KINDS[state.incidents % len(KINDS)],
        at=at,
        onset=at,
        world=state.world,
        subject=Subject(node=0, rank=1),
        step=state.step,
        evidence=(f"number {state.incidents + 1}",),
    )
    return e.IncidentDetected(at=at, incident=incident)


if __name__ == "__main__":
    with Journal(Path(sys.argv[1]) / "journal.db") as opened:
        drive(opened, int(sys.argv[2]))

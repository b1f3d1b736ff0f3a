"""How long may a start take, before it is ended or somebody is told?"""

from __future__ import annotations

from monitors.incidents import Kind
from orchestrator.core import events as e
from orchestrator.core.policy import Rung
from orchestrator.core.state import Phase
from orchestrator.core.worlds import FIRST_START_TIMES
from tests.core.script import Script, kinds


def again_starting() -> Script:
    """A run whose second world starts."""
    run = Script().train(10)
    run.incident(Kind.WORKER_KILLED)
    run.stopped()
    assert run.state.phase is Phase.STARTING
    return run


def test_a_first_start_that_takes_long_is_told_and_not_ended() -> None:
    """Who knows what it prepares? A detector that sees its ranks idle says so itself."""
    run = Script()
    run.submit()
    run.join()
    assert run.state.deadline == run.at + FIRST_START_TIMES * run.plan.start_timeout_s
    decision = run.wait()
    assert kinds(decision) == ["Alert"]
    assert run.state.phase is Phase.STARTING
    assert run.incident(Kind.START_STALLED).opened[0].rung is Rung.RESTART


def test_a_start_is_not_given_up_while_a_node_is_unseen() -> None:
    run = again_starting()
    run.incident(Kind.NODE_UNSEEN)
    decision = run.wait()
    assert kinds(decision) == ["Alert"]
    assert run.state.phase is Phase.STARTING
    run.see(e.AgentJoined(at=run.tick(), attempt=1, node=0, host="h"))
    assert run.wait().opened[0].incident.kind is Kind.START_STALLED


def test_a_start_has_its_whole_time_once_the_last_node_has_the_order() -> None:
    run = again_starting()
    ordered_at = run.at
    run.tick(run.plan.start_timeout_s - 1.0)
    run.see(e.AgentJoined(at=run.at, attempt=1, node=1, host="h1", world=2))
    assert run.state.deadline == ordered_at + run.plan.start_timeout_s, "it had the order all the time"
    run.see(e.AgentJoined(at=run.at, attempt=1, node=1, host="h1", world=1))
    assert run.state.deadline == run.at + run.plan.start_timeout_s

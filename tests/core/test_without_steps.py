"""What is made of a program that never says how far it is?"""

from __future__ import annotations

from monitors.incidents import Kind
from orchestrator.core import budget
from orchestrator.core import events as e
from orchestrator.core.policy import Rung
from tests.core.script import Script


def without_steps() -> Script:
    """A program that tells of no steps, in a world that was heard to move."""
    run = Script()
    run.submit()
    run.join()
    return run


def test_where_nobody_tells_the_step_only_what_cannot_start_is_a_loop() -> None:
    run = without_steps()
    for _ in range(2):
        decision = run.incident(Kind.WORKER_EXCEPTION, fingerprint="same", step=0, retryable=False)
        assert decision.opened[0].rung is Rung.RESTART
        run.stopped()
        run.back_off()
    decision = run.incident(Kind.WORKER_EXCEPTION, fingerprint="same", step=0, retryable=False)
    assert decision.opened[0].incident.kind is Kind.CRASH_LOOP


def test_a_program_without_steps_that_lived_for_a_while_is_started_again_and_again() -> None:
    run = without_steps()
    for _ in range(8):
        run.see(e.Progressed(at=run.tick(), world=run.state.world, step=0))
        run.tick(budget.LIVED_S)
        decision = run.incident(Kind.WORKER_EXCEPTION, fingerprint="same", step=0, retryable=False)
        assert (decision.opened[0].rung, decision.opened[0].incident.kind) == (Rung.RESTART, Kind.WORKER_EXCEPTION)
        run.stopped()
        run.back_off()

"""When may processes that nobody suspects go on into the next world?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitors.incidents import Kind, Subject
from orchestrator.core import actions as a
from orchestrator.core import events as e
from orchestrator.core.state import Decision
from tests.core.script import PLAN, Script, started

KEEPING = replace(PLAN, in_process=True)
SURE = Subject(node=0, rank=0)


def stop(decision: Decision) -> a.StopWorld | None:
    """The order that ends the world."""
    return next((action for action in decision.actions if isinstance(action, a.StopWorld)), None)


def run(plan: e.Plan = KEEPING) -> Script:
    """One that trains, and has a checkpoint."""
    script = Script(plan=plan).train(60)
    script.save(20)
    script.progress(61)
    return script


@pytest.mark.parametrize("kind", [Kind.WORKER_KILLED, Kind.WORKER_EXCEPTION, Kind.HANG])
def test_the_culprit_is_replaced_and_the_others_stay(kind: Kind) -> None:
    script = run()
    ending = stop(script.incident(kind, subject=SURE))
    assert ending is not None
    assert (ending.in_process, ending.culprits) == (True, (0,))
    assert started(script.stopped()).in_process


@pytest.mark.parametrize(
    ("kind", "subject", "plan"),
    [
        (Kind.WORKER_KILLED, SURE, PLAN),  # nobody asked for it
        (Kind.HANG, Subject(), KEEPING),  # somebody is sick, and nobody knows who
        (Kind.GPU_FAULT, SURE, KEEPING),  # a context of a broken device is broken
        (Kind.NONFINITE_LOSS, SURE, KEEPING),  # what a process holds may be wrong
    ],
)
def test_where_more_is_in_doubt_every_process_is_new(kind: Kind, subject: Subject, plan: e.Plan) -> None:
    script = run(plan)
    script.incident(kind, subject=subject)
    ending = stop(script.decisions[-1][1])
    assert ending is None or not ending.in_process
    script.stopped()
    script.back_off()
    assert not script.state.in_process


def test_what_did_not_help_is_not_tried_again() -> None:
    script = run()
    script.incident(Kind.WORKER_EXCEPTION, subject=SURE)
    script.stopped()
    script.incident(Kind.WORKER_EXCEPTION, subject=SURE, fingerprint="another")  # before its first step
    script.stopped()
    script.back_off()
    assert not script.state.in_process


def test_an_order_that_nobody_obeys_spares_nobody_the_second_time() -> None:
    script = run()
    script.incident(Kind.HANG, subject=SURE)
    again = stop(script.wait())
    assert again is not None
    assert not again.in_process


def test_a_deeper_cause_that_is_found_meanwhile_ends_the_processes_that_were_spared() -> None:
    script = run()
    script.incident(Kind.WORKER_KILLED, subject=SURE)
    script.incident(Kind.GPU_FAULT, subject=SURE)
    script.stopped()
    script.back_off()
    assert not script.state.in_process

"""What do people's words about incidents change, and how are verdicts counted?"""

from __future__ import annotations

import pytest

from monitors.incidents import Kind
from orchestrator import refusals, remarks
from orchestrator.core import events as e
from orchestrator.core.state import Phase
from orchestrator.remarks import Note, Precision, Remarks
from orchestrator.requests import AskError
from tests.core.script import Script, at_phase


def about(run: Script, incident: str) -> list[e.Event]:
    at = run.tick()
    return [
        e.IncidentAcknowledged(at=at, by="ada", incident=incident),
        e.IncidentNoted(at=at, by="ada", incident=incident, text="the fan"),
        e.IncidentJudged(at=at, by="ada", incident=incident, right=False, text="it was the cable"),
        e.IncidentResolved(at=at, by="ada", incident=incident),
    ]


@pytest.mark.parametrize("phase", list(Phase))
def test_words_change_nothing_in_any_phase_and_are_told(phase: Phase) -> None:
    run = at_phase(phase)
    for incident in ("i1", "i99", "nonsense", ""):
        for event in about(run, incident)[:3]:
            before = run.state
            decision = run.see(event)
            known = incident == "i1" and before.incidents > 0
            assert decision.actions == ()
            assert decision.state.open == before.open
            assert ("there is no such incident" not in decision.reason) is known


def test_only_what_is_open_and_only_observed_is_for_a_person_to_end() -> None:
    run = Script().train(10)
    run.incident(Kind.SAVE_FAILED)
    run.incident(Kind.HANG)
    answered = run.see(about(run, "i2")[3])
    assert (answered.closed, answered.reason) == (
        (),
        "ada asked to resolve i2: it is being answered, and over when the run has proved that",
    )
    decision = run.see(about(run, "i1")[3])
    assert (decision.closed, decision.reason) == (("i1",), "i1 is over, ada says")
    assert run.see(about(run, "i1")[3]).reason == "ada asked to resolve i1: it is not open"
    with pytest.raises(AskError, match="i1 of r cannot be resolved: it is not open"):
        refusals.refuse_resolve(run.state, "i1")
    assert [opened.id for opened in run.state.open] == ["i2"]


def test_a_save_that_fails_again_after_that_is_told_again() -> None:
    run = Script().train(10)
    run.incident(Kind.SAVE_FAILED)
    assert run.incident(Kind.SAVE_FAILED).opened == ()
    run.see(about(run, "i1")[3])
    assert [opened.id for opened in run.incident(Kind.SAVE_FAILED).opened] == ["i2"]


def test_an_incident_that_never_was_is_refused() -> None:
    run = Script().train(10)
    with pytest.raises(AskError, match="it had none"):
        refusals.refuse_incident(run.state, "i1")
    run.incident(Kind.HANG)
    for wrong in ("i2", "i0", "i01", "1", "i-1", "i1 ", "I1"):
        with pytest.raises(AskError, match="there is i1 to i1"):
            refusals.refuse_incident(run.state, wrong)
    refusals.refuse_incident(run.state, "i1")


def test_words_are_one_line_that_a_screen_can_show() -> None:
    assert refusals.words("  two\n lines\x1b[31m \u202eand a\ttab ") == "two lines [31m and a tab"
    with pytest.raises(AskError, match="at most 2000"):
        refusals.words("x" * 2001)
    with pytest.raises(AskError, match="a note needs words"):
        refusals.words(" \n", needed=True)


def test_remarks_are_kept_in_their_order_and_the_newest_judgement_counts() -> None:
    said = Remarks()
    for event in (
        e.IncidentAcknowledged(at=1.0, by="ada", incident="i1"),
        e.IncidentAcknowledged(at=2.0, by="eve", incident="i1"),
        e.IncidentNoted(at=3.0, by="eve", incident="i1", text="the fan"),
        e.IncidentJudged(at=4.0, by="ada", incident="i1", right=True),
        e.IncidentJudged(at=5.0, by="eve", incident="i1", right=False, text="the cable"),
        e.IncidentResolved(at=6.0, by="eve", incident="i1", text="mended"),
    ):
        said = remarks.after(said, event)
    assert said == Remarks(
        acknowledged_at=1.0,
        acknowledged_by="ada",
        resolved_by="eve",
        notes=(Note(at=3.0, by="eve", text="the fan"), Note(at=6.0, by="eve", text="mended")),
        judged_right=False,
        judged_at=5.0,
        judged_by="eve",
        judged_text="the cable",
    )


def test_precision_is_of_what_was_judged_alone() -> None:
    verdicts = [(Kind.HANG, True), (Kind.HANG, False), (Kind.HANG, True), (Kind.HANG, None), (Kind.LOSS_SPIKE, None)]
    counted = remarks.precision(verdicts)
    assert counted == {
        Kind.HANG: Precision(right=2, wrong=1, unjudged=1),
        Kind.LOSS_SPIKE: Precision(right=0, wrong=0, unjudged=1),
    }
    assert counted[Kind.HANG].share == pytest.approx(2 / 3)
    assert counted[Kind.LOSS_SPIKE].share is None
    assert remarks.precision([]) == {}

"""What do people asked tell in the story, and where does the time go that a run waits for them?"""

from __future__ import annotations

import pytest

from monitors.incidents import Kind
from orchestrator import ledger, story, timeline
from orchestrator.core import events as e
from orchestrator.core.asked import POWER_BUDGET
from orchestrator.core.state import Phase
from orchestrator.ledger import Bucket
from tests.story.scripted import Script


def told(script: Script) -> list[str]:
    return [sentence.text for sentence in story.sentences(script.entries)]


def paused(by: str = "ada") -> Script:
    """Trained for 10 s, and paused after a save."""
    script = Script().join().begin(0).train(100)
    script.take(e.PauseRequested(at=script.now, by=by, why="the hall is hot"))
    script.train(2).save()
    script.stop()
    script.take(e.AttemptEnded(at=script.wait(1.0).now, attempt=1))
    assert script.state.phase is Phase.PAUSED
    return script


def test_a_pause_and_its_end_are_told() -> None:
    script = paused(POWER_BUDGET)
    script.take(e.ResumeRequested(at=script.wait(600.0).now, by=POWER_BUDGET))
    script.join().begin(102).train(1)
    text = told(script)
    assert "The power budget asked the run to pause: the hall is hot." in text
    assert "The run is paused: paused by the power budget: the hall is hot." in text
    assert "The power budget asked the run to go on." in text
    assert (
        "World 2 trains from step 102 (step-00000102.a1w1); its first step came 3.60 s after the order to start it."
        in text
    )


def test_the_time_of_a_pause_is_nobodys_loss() -> None:
    script = paused()
    before = ledger.balance(script.entries, script.now)
    assert before.buckets[Bucket.PAUSED] == 0.0
    while_paused = ledger.balance(script.entries, script.now + 600.0)
    assert while_paused.buckets[Bucket.PAUSED] == pytest.approx(600.0)
    assert (while_paused.ettr, while_paused.gpu_hours) == (before.ettr, before.gpu_hours)
    script.take(e.ResumeRequested(at=script.wait(600.0).now, by="ada"))
    script.join().begin(102).train(1)
    after = ledger.balance(script.entries, script.now)
    assert after.buckets[Bucket.PAUSED] == pytest.approx(600.0)
    assert sum(after.buckets.values()) == pytest.approx(after.wall_s)
    assert (after.steps_lost, after.incidents) == (0, 0)


def test_a_restart_trains_on_until_its_save() -> None:
    script = Script().join().begin(0).train(100)
    script.take(e.RestartRequested(at=script.now, by="ada"))
    script.train(20).save().stop(0.5)
    script.begin(120).train(1)
    assert "ada asked for a restart: restarted by ada, saving first." in told(script)
    books = ledger.balance(script.entries, script.now)
    assert books.buckets[Bucket.PRODUCTIVE] == pytest.approx(12.1)
    assert books.buckets[Bucket.RECOVERING] == 0.0
    assert (books.steps_lost, books.incidents) == (0, 0)


def test_what_people_say_of_an_incident_is_told_and_kept_with_it() -> None:
    script = Script().join().begin(0).train(10).save().fail(Kind.SAVE_FAILED)
    at = script.now
    script.take(e.IncidentAcknowledged(at=at, by="ada", incident="i1"))
    script.take(e.IncidentNoted(at=at, by="a person", incident="i1", text="the disk is full"))
    script.take(e.IncidentJudged(at=at, by="ada", incident="i1", right=False, text="it was the quota"))
    script.take(e.IncidentResolved(at=at, by="eve", incident="i1", text="quota raised"))
    script.take(e.IncidentResolved(at=at, by="eve", incident="i1", text="again"))
    assert told(script)[-6:] == [
        "ada sees to i1.",
        "a person noted about i1: the disk is full.",
        "the verdict of i1 was wrong, ada says: it was the quota.",
        "i1 is over, eve says: quota raised.",
        "i1 is over.",
        "eve asked to resolve i1: it is not open: again.",
    ]
    (case,) = timeline.walk(script.entries).cases
    said = case.remarks
    assert (said.acknowledged_by, said.judged_right, said.resolved_by) == ("ada", False, "eve")
    assert [note.text for note in said.notes] == ["the disk is full", "quota raised"]
    assert case.resolved_at == at


def test_what_is_kept_and_what_is_kept_out_is_told() -> None:
    script = Script().join().begin(0).train(10).save()
    script.take(e.CheckpointPinned(at=script.now, by="ada", checkpoint="step-00000010.a1w1"))
    script.take(e.HostCordoned(at=script.now, by="ada", host="host7", why="it smells"))
    assert told(script)[-2:] == [
        "step-00000010.a1w1 is kept for good, ada says.",
        "host7 is given no ranks any more, ada says (it smells).",
    ]

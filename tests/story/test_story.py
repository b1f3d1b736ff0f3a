"""Does the story say what happened, and are the phases of a recovery the seconds that they took?"""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from monitors.incidents import Kind
from orchestrator import phases, provoked, timeline
from orchestrator.core import events as e
from orchestrator.core.actions import Alert, StartWorld, StopWorld
from orchestrator.core.state import Phase
from orchestrator.drills import DRILLS
from orchestrator.phases import Phases
from orchestrator.story import seconds, sentences
from orchestrator.timeline import Case
from tests.story.scripted import PLAN, T0, Script


def cases(script: Script) -> tuple[Case, ...]:
    return timeline.walk(script.entries).cases


def spent(script: Script, number: int = 0) -> Phases:
    course = timeline.walk(script.entries)
    return phases.of(course.cases[number], course)


def told(script: Script) -> str:
    return "\n".join(sentence.text for sentence in sentences(script.entries))


def seconds_of(found: Phases) -> dict[str, float | None]:
    values = {field.name: getattr(found, field.name) for field in fields(found)}
    return {name: None if value is None else round(value, 6) for name, value in values.items()}


def trained() -> Script:
    return Script().join().begin(0).train(10).save().train(10)


def drill(script: Script, name: str, rank: int = 1, *, bites: bool = True) -> Script:
    script.take(e.DrillRequested(at=script.now, by="demo", drill=name, rank=rank, number=1))
    if bites:
        script.take(e.DrillDone(at=script.now, world=script.state.world, drill=name, rank=rank))
    return script


def killed() -> Script:
    """A recovery with a length of its own for every phase."""
    script = trained().fail(Kind.WORKER_KILLED, detect_s=0.25, decide_s=0.125).stop(0.5)
    return script.begin(10, start_s=3.0, restore_s=0.75).train(4, step_s=0.5)


def test_the_phases_of_a_recovery_follow_each_other() -> None:
    assert seconds_of(spent(killed())) == {
        "detect": 0.25,
        "decide": 0.125,
        "stop": 0.5,
        "wait": 0.0,
        "start": 3.0,
        "restore": 0.75,
        "first_step": 2.0,
        "total": 6.625,
    }


def test_what_has_not_happened_yet_has_no_length() -> None:
    script = trained().fail(Kind.WORKER_KILLED, detect_s=0.25).stop(0.5)
    found = seconds_of(spent(script))
    assert (found["stop"], found["wait"]) == (0.5, 0.0)
    assert (found["start"], found["restore"], found["first_step"], found["total"]) == (None, None, None, None)


def test_a_world_gone_before_the_decision_took_no_time_to_stop() -> None:
    script = trained()
    script.take(e.NodeStopped(at=script.now, world=1, node=0))
    script.fail(Kind.WORKER_KILLED, detect_s=0.5).stop(0.0).begin(10).train(1)
    assert spent(script).stop == 0.0


def test_a_script_without_the_sdk_starts_until_its_first_step() -> None:
    script = Script().join().train(10).fail(Kind.WORKER_KILLED, detect_s=0.25).stop(0.5)
    script.take(e.Progressed(at=script.wait(4.0).now, world=script.state.world, step=1))
    found = seconds_of(spent(script))
    assert (found["start"], found["restore"], found["first_step"], found["total"]) == (4.0, None, None, 4.75)
    assert cases(script)[0].steps_lost == 10


def test_worlds_that_failed_too_are_waiting_for_the_one_that_did_not() -> None:
    script = trained().fail(Kind.WORKER_KILLED, detect_s=0.25).stop(0.5)
    script.begin(10).fail(Kind.WORKER_EXCEPTION, detect_s=0.25).stop(0.5).begin(10).train(1)
    first, second = seconds_of(spent(script, 0)), seconds_of(spent(script, 1))
    assert first["wait"] == 3.0 + 0.5 + 0.25 + 0.5
    assert second["wait"] == 0.0
    for found in (first, second):
        assert sum(value or 0.0 for name, value in found.items() if name != "total") == found["total"]


def test_steps_are_lost_once_and_to_the_fault_that_cost_them() -> None:
    script = trained().fail(Kind.WORKER_KILLED).stop()
    script.begin(10).fail(Kind.WORKER_EXCEPTION).stop().begin(10).train(1)
    assert [case.steps_lost for case in cases(script)] == [10, 0]
    assert timeline.walk(script.entries).steps_lost == 10


def test_the_incident_knows_the_last_step_better_than_the_last_report() -> None:
    script = trained()
    script.fail(Kind.WORKER_KILLED, step=27).stop().begin(10).train(1)
    assert cases(script)[0].steps_lost == 17


def test_resolved_is_when_the_best_step_is_passed_not_when_training_goes_on() -> None:
    script = killed()
    over = script.now
    assert cases(script)[0].over_at == over
    assert cases(script)[0].resolved_at is None
    script.train(20)
    assert cases(script)[0].resolved_at == script.now


def test_the_orders_of_a_recovery_are_kept_once_each() -> None:
    script = trained().fail(Kind.WORKER_KILLED)
    script.take(e.TimePassed(at=script.wait(script.state.plan.stop_timeout_s).now))
    script.stop().begin(10).train(20)
    kinds = [type(action) for _, action in cases(script)[0].actions]
    assert kinds == [StopWorld, StartWorld]
    assert told(script).count("Ended world 1.") == 1


@pytest.mark.parametrize(
    ("name", "kind", "ours"),
    [
        ("kill", Kind.WORKER_KILLED, True),
        ("kill", Kind.WORKER_EXCEPTION, False),
        ("spin", Kind.HANG, True),
        ("nan", Kind.NONFINITE_LOSS, True),
        ("something new", Kind.HANG, True),
    ],
)
def test_a_drill_is_told_from_a_real_fault(name: str, kind: Kind, ours: bool) -> None:
    script = drill(trained(), name).wait(1.0).fail(kind, onset_step=20)
    assert cases(script)[0].drill == (name if ours else None)


def test_every_drill_is_expected_to_provoke_what_its_table_says() -> None:
    for name, row in DRILLS.items():
        assert row.expects in provoked.expected(name)


def test_a_drill_explains_one_fault_only_and_not_one_much_later() -> None:
    script = drill(trained(), "kill").fail(Kind.WORKER_KILLED).stop().begin(10).train(20).fail(Kind.WORKER_KILLED)
    assert [case.drill for case in cases(script)] == ["kill", None]
    assert cases(drill(trained(), "kill").wait(3600).fail(Kind.WORKER_KILLED))[0].drill is None


def test_a_drill_that_never_bit_or_struck_elsewhere_explains_nothing() -> None:
    assert cases(drill(trained(), "kill", bites=False).fail(Kind.WORKER_KILLED))[0].drill is None
    assert cases(drill(trained(), "kill", rank=0).fail(Kind.WORKER_KILLED))[0].drill is None, "rank 1 failed"
    unsure = drill(trained(), "stop", rank=0).fail(Kind.HANG, confidence=0.5)
    assert cases(unsure)[0].drill == "stop", "the rank that was named may be its victim"
    script = drill(trained(), "kill")
    script.take(e.DrillDone(at=script.now, world=1, drill="kill", rank=0))
    script.fail(Kind.WORKER_EXCEPTION).stop().begin(10).train(20).fail(Kind.WORKER_KILLED)
    assert [case.drill for case in cases(script)] == [None, None], "it struck another world"


def test_what_whoever_asks_does_himself_is_known_by_when_he_asked() -> None:
    script = trained()
    script.take(e.DrillRequested(at=script.now, by="demo", drill="supervisor"))
    script.take(e.SupervisorStarted(at=script.wait(2.0).now, pid=1, last_alive=script.now - 2.5))
    assert cases(script)[0].drill == "supervisor"


def test_what_a_drill_does_may_be_heard_of_before_the_drill() -> None:
    script = trained().fail(Kind.WORKER_EXCEPTION)
    script.take(e.DrillDone(at=script.now - 1.0, world=1, drill="exception", rank=1))
    assert cases(script)[0].drill == "exception"


def test_what_a_probe_found_is_told_and_changes_nothing() -> None:
    script = trained()
    before = script.state
    sentence = "rank 3's GPU multiplies and copies as fast as its 3 peers do: look at its rank's code and its data"
    script.take(e.DeviceProbed(at=script.now, world=1, sentence=sentence))
    assert "\nRank" + sentence[4:] + "." in told(script)
    assert script.state == before
    assert cases(script) == ()


def test_another_interval_between_saves_is_told_once_and_why() -> None:
    script = Script(plan=replace(PLAN, chooses_interval=True)).join().begin(0).train(10).save(stall_s=0.02)
    script.train(10).take(e.SupervisorStarted(at=script.now, pid=2, last_alive=script.now - 1))
    script.fail(Kind.WORKER_KILLED).stop().begin(10).train(20)
    assert [line for line in told(script).splitlines() if line.startswith("Saves")] == [
        "Saves every 588 steps now: a save costs 0.02 s, a failure is expected every 24 h.",
        "Saves every 416 steps now: a save costs 0.02 s, a failure is expected every 12 h.",
    ]


def test_an_observed_incident_has_no_recovery() -> None:
    script = trained().fail(Kind.LOSS_TRANSIENT, detect_s=0.25).fail(Kind.WORKER_KILLED).stop().begin(10).train(20)
    noted = cases(script)[0]
    assert (noted.world, noted.actions, noted.steps_lost) == (None, (), 0)
    assert noted.resolved_at == noted.decided_at
    assert (spent(script).detect, spent(script).total) == (0.25, None)


def test_attempts_and_worlds() -> None:
    script = killed().train(20)
    course = timeline.walk(script.entries)
    (attempt,) = course.attempts
    assert (attempt.number, attempt.ordered_at, attempt.handle) == (1, T0, "local://1")
    first, second = course.worlds.values()
    assert (first.number, first.from_step, first.checkpoint, first.step) == (1, 0, None, 20)
    assert first.ended_at is not None
    assert (second.number, second.from_step, second.checkpoint) == (2, 10, "step-00000010.a1w1")
    assert second.first_step_at is not None


def test_the_story_of_a_recovery() -> None:
    script = drill(trained(), "kill").fail(Kind.WORKER_KILLED, detect_s=0.25).stop(0.5)
    script.begin(10, start_s=3.0, restore_s=0.75).train(4, step_s=0.5).train(20).finish()
    assert told(script).splitlines() == [
        "Submitted: 1 node with 2 ranks.",
        "Submitted attempt 1 to the scheduler.",
        "Started world 1 afresh.",
        "World 1 trains from the start; its first step came 4.50 s after the order to start it.",
        "demo asked for a drill: kill of rank 1.",
        "Injected the drill kill into rank 1.",
        (
            "i1 (drill: kill): worker_killed rank 1 node 0 at step 20: first evidence; restarting from the newest "
            "verified checkpoint. Concluded 0.25 s after it began. Evidence: second evidence."
        ),
        "Ended world 1.",
        "Started world 2 from step-00000010.a1w1.",
        "World 2 trains from step 10 (step-00000010.a1w1); its first step came 5.75 s after the order to start it.",
        (
            "i1 recovered in 6.50 s (detect 0.25 s, decide 0.00 s, stop 0.50 s, wait 0.00 s, start 3.00 s, "
            "restore 0.75 s, first step 2.00 s); 10 steps to train again."
        ),
        "i1 is over: the run is past where it struck.",
        "Ended attempt 1.",
        "The run is complete: complete at step 34.",
    ]


def test_the_story_names_doubt_pages_and_the_end() -> None:
    script = trained().fail(Kind.CRASH_LOOP, confidence=0.5)
    script.take(e.AttemptEnded(at=script.wait(1.0).now, attempt=1))
    assert script.state.phase is Phase.HELD
    text = told(script)
    assert "(confidence 50%). Concluded" in text
    assert "Paged a person: gpt-abcde is held." in text
    assert "The run is held: crash_loop" in text


def test_a_person_who_is_told_twice_is_told_twice() -> None:
    script = trained().fail(Kind.CRASH_LOOP)
    page = next(action for _, action in cases(script)[0].actions if isinstance(action, Alert))
    entry = next(entry for entry in script.entries if page in entry.actions)
    text = [sentence.text for sentence in sentences([*script.entries, entry])]
    assert text.count("Paged a person: gpt-abcde is held.") == 2


def test_the_story_tells_of_supervisors_persons_and_refused_checkpoints() -> None:
    script = trained()
    script.take(e.SupervisorStarted(at=script.wait(3.0).now, pid=7, last_alive=script.now - 3.5))
    script.take(e.CheckpointRefused(at=script.now, checkpoint="step-00000010.a1w1", why="one bit is wrong"))
    script.take(e.StopRequested(at=script.now, by="anna", now=True))
    text = told(script)
    assert "A new supervisor took over, 3.50 s after the last one was known alive." in text
    assert "step-00000010.a1w1 was refused: one bit is wrong. Nothing of it reached the model." in text
    assert "anna asked the run to stop at once." in text


def test_times_of_the_story_never_run_backwards() -> None:
    script = killed().train(20).finish()
    times = [sentence.at for sentence in sentences(script.entries)]
    assert times == sorted(times)


def test_lengths_of_time_for_people() -> None:
    assert [seconds(value) for value in (0.0, 9.994, 12.34, 200.0, 7500.0)] == [
        "0.00 s",
        "9.99 s",
        "12.3 s",
        "3 min 20 s",
        "2 h 05 min",
    ]


def test_a_sentence_begins_with_a_capital_unless_it_is_a_name() -> None:
    for by, words in (("a person", "A person asked the run to stop."), ("anna", "anna asked the run to stop.")):
        script = trained()
        script.take(e.StopRequested(at=script.now, by=by))
        assert words in told(script)

"""Does every millisecond go to exactly one bucket, and to the right one?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitors.incidents import Incident, Kind
from orchestrator import timeline
from orchestrator.core import actions as a
from orchestrator.core import events as e
from orchestrator.core.policy import Rung
from orchestrator.core.state import Opened, Phase
from orchestrator.journal import Entry, Journal
from orchestrator.ledger import Ledger, balance
from orchestrator.spans import spans_of
from tests.story.scripted import PLAN, POLICY, RUN, T0, Script


def books(script: Script, now: float | None = None) -> Ledger:
    return balance(script.entries, script.now if now is None else now)


def spent(ledger: Ledger) -> dict[str, float]:
    """The buckets that are not empty; checks that they sum to the wall clock."""
    assert round(sum(ledger.buckets.values()), 6) == ledger.wall_s
    return {bucket.value: seconds for bucket, seconds in ledger.buckets.items() if seconds}


def trained() -> Script:
    """Queued 2 s, startup 3 s, restore 0.5 s, 20 steps of 0.1 s with a checkpoint after the tenth."""
    return Script().join(2.0).begin(0).train(10).save().train(10)


def test_a_healthy_run() -> None:
    ledger = books(trained().finish(0.7))
    assert spent(ledger) == {"queued": 2.0, "startup": 3.7, "restore": 0.5, "productive": 2.0}
    assert ledger.ettr == pytest.approx(2.0 / 8.2)
    assert ledger.goodput == pytest.approx(2.0 / 6.2)
    assert (ledger.mttf_s, ledger.mttr_s, ledger.steps_lost, ledger.incidents) == (None, None, 0, 0)
    assert ledger.gpu_hours == pytest.approx(2 * 6.2 / 3600)


def test_the_clock_of_an_ended_run_stands_still() -> None:
    script = trained().finish()
    assert books(script, script.now + 1000) == books(script)


def test_the_clock_of_a_running_run_goes_on() -> None:
    script = trained()
    assert spent(books(script, script.now + 5))["productive"] == 7.0


def test_stalls_are_taken_out_of_the_steps_that_waited() -> None:
    script = Script().join(2.0).begin(0).train(10, save=0.2, data=0.1).train(10, save=0.2, data=0.4)
    assert spent(books(script)) == {
        "queued": 2.0,
        "startup": 3.0,
        "restore": 0.5,
        "productive": 1.4,
        "checkpoint_stall": 0.2,
        "data_stall": 0.4,
    }


def test_a_stall_account_that_runs_backwards_or_ahead_never_makes_time() -> None:
    script = Script().join(2.0).begin(0).train(10, save=50.0).train(10, save=1.0, data=0.5).train(10, save=1.25)
    found = spent(books(script))
    assert (found["checkpoint_stall"], found["data_stall"], found["productive"]) == (1.25, 0.5, 1.25)


def test_evaluation_is_productive() -> None:
    script = Script().join(2.0).begin(0).train(10, eval=0.6)
    assert spent(books(script))["productive"] == 1.0


def test_a_killed_worker_costs_detection_recovery_and_the_lost_steps_once() -> None:
    script = trained().fail(Kind.WORKER_KILLED, detect_s=0.3).stop(0.4).begin(10)
    before = books(script)
    assert spent(before) == {
        "queued": 2.0,
        "startup": 6.0,
        "restore": 1.0,
        "productive": 1.0,
        "recomputed": 1.0,
        "detecting": 0.3,
        "recovering": 0.4,
    }
    assert before.steps_lost == 10
    again = books(script.train(10))
    assert spent(again) == spent(before) | {"productive": 2.0}, "the same steps again are productive: they count now"
    assert again.mttr_s == pytest.approx(0.3 + 0.4 + 3.0 + 0.5 + 1.0)
    assert again.mttf_s == pytest.approx(3.0)


def test_losing_steps_twice_costs_both_times_once_each() -> None:
    script = trained()
    for _ in range(2):
        script.fail(Kind.WORKER_KILLED, detect_s=0.3).stop(0.4).begin(10).train(10)
    found = books(script)
    assert spent(found)["productive"] == 2.0
    assert spent(found)["recomputed"] == 2.0
    assert found.steps_lost == 20


def test_a_rollback_into_the_middle_of_a_report_shares_its_time_by_steps() -> None:
    script = Script().join(2.0).begin(0).train(4).save().train(16)
    ledger = books(script.fail(Kind.WORKER_KILLED, detect_s=0.0).stop(0.0).begin(4))
    assert (spent(ledger)["productive"], spent(ledger)["recomputed"]) == (0.4, 1.6)
    script = Script().join(2.0).begin(0).train(20)
    world = script.state.world
    script.fail(Kind.WORKER_KILLED, detect_s=0.0).stop(0.0)
    script.take(e.WorldRestored(at=script.now, world=world + 1, checkpoint="unheard of", step=5))
    assert (spent(books(script))["productive"], spent(books(script))["recomputed"]) == (0.5, 1.5)


def test_the_unfinished_step_of_a_lost_world_is_not_productive() -> None:
    script = trained().save().wait(0.08).fail(Kind.WORKER_KILLED, detect_s=0.0).stop(0.0).begin(20)
    assert spent(books(script))["productive"] == 2.0
    assert spent(books(script))["recomputed"] == 0.08
    assert books(script).steps_lost == 0


def test_a_hang_is_hung_from_its_onset() -> None:
    found = spent(books(trained().fail(Kind.HANG, detect_s=6.0).stop(0.5)))
    assert (found["hung"], found["productive"], found["recovering"]) == (6.0, 2.0, 0.5)


def test_an_onset_before_the_last_report_takes_productive_time_back() -> None:
    script = trained()
    onset = script.now - 0.5
    found = spent(books(script.fail(Kind.NONFINITE_LOSS, detect_s=0.2, onset=onset, onset_step=16).stop(0.0)))
    assert found["detecting"] == 0.7
    assert found["productive"] == 1.5


def test_a_start_that_stalls_is_hung() -> None:
    script = Script().join(2.0)
    onset = script.wait(1.0).now
    found = spent(books(script.fail(Kind.START_STALLED, detect_s=9.0, onset=onset).stop(0.0)))
    assert (found["startup"], found["hung"]) == (1.0, 9.0)


def test_what_is_only_observed_takes_nothing_from_training() -> None:
    script = trained()
    plain = spent(books(script))
    script.fail(Kind.LOSS_TRANSIENT, detect_s=0.0, onset=script.now - 1.0)
    script.fail(Kind.CHECKPOINT_CORRUPT, detect_s=0.0, onset=script.now - 1.0)
    assert spent(books(script)) == plain
    assert books(script).incidents == 0


def test_a_supervisor_that_was_away_loses_nothing() -> None:
    script = trained()
    away = script.now
    script.take(e.SupervisorStarted(at=script.wait(30.0).now, pid=2, last_alive=away))
    script.train(300, step_s=0.0)
    assert spent(books(script))["productive"] == 32.0


def test_a_fault_while_the_supervisor_was_away_is_detecting_from_its_onset() -> None:
    script = trained()
    onset = script.now + 10.0
    script.take(e.SupervisorStarted(at=script.wait(30.0).now, pid=2, last_alive=script.now))
    found = spent(books(script.fail(Kind.WORKER_KILLED, detect_s=0.5, onset=onset).stop(0.0)))
    assert (found["productive"], found["detecting"]) == (12.0, 20.5)


def test_back_off_is_recovering_and_a_refused_launch_queues_again() -> None:
    script = Script()
    script.take(e.LaunchFailed(at=script.wait(1.0).now, attempt=1, why="no partition"))
    script.take(e.AttemptEnded(at=script.wait(0.5).now, attempt=1))
    assert script.state.phase is Phase.BACKING_OFF
    script.take(e.TimePassed(at=script.wait(5.0).now))
    assert script.state.phase is Phase.LAUNCHING
    assert spent(books(script.join(4.0))) == {"queued": 5.0, "recovering": 5.5}


def test_held_until_a_person_resumes() -> None:
    script = trained().fail(Kind.CRASH_LOOP, detect_s=0.5)
    script.take(e.AttemptEnded(at=script.wait(1.0).now, attempt=1))
    assert script.state.phase is Phase.HELD
    assert spent(books(script, script.now + 100))["held"] == 101.0
    script.take(e.ResumeRequested(at=script.wait(50.0).now, by="anna"))
    found = spent(books(script.join(4.0)))
    assert (found["held"], found["queued"]) == (51.0, 6.0)


def test_stopped_by_a_person_and_resumed_is_paused() -> None:
    script = trained()
    script.take(e.StopRequested(at=script.now, by="anna"))
    script.finish(0.5)
    assert script.state.phase is Phase.STOPPED
    assert "paused" not in spent(books(script, script.now + 100)), "an ended run has no clock"
    script.take(e.ResumeRequested(at=script.wait(100.0).now, by="anna"))
    ledger = books(script.join(4.0))
    assert spent(ledger)["paused"] == 100.0
    assert ledger.ettr == pytest.approx(2.0 / (ledger.wall_s - 100.0))


def test_a_script_without_the_sdk_starts_until_its_first_step() -> None:
    script = Script().join(2.0).train(10).train(10)
    assert spent(books(script)) == {"queued": 2.0, "startup": 1.0, "productive": 1.0}
    script.fail(Kind.WORKER_KILLED, detect_s=0.0).stop(0.0)
    script.take(e.Progressed(at=script.wait(3.0).now, world=script.state.world, step=6))
    ledger = books(script)
    assert spent(ledger) == {"queued": 2.0, "startup": 4.0, "recomputed": 1.0}
    assert ledger.steps_lost == 15, "it began before its step 6"


def test_a_script_that_speaks_of_no_steps_keeps_its_time() -> None:
    script = Script().join(2.0)
    for _ in range(2):
        script.take(e.Progressed(at=script.wait(30.0).now, world=script.state.world, step=0))
        script.wait(10.0).fail(Kind.WORKER_KILLED, detect_s=0.0).stop(0.0)
    assert spent(books(script)) == {"queued": 2.0, "startup": 60.0, "productive": 20.0}


def test_a_run_without_events_has_empty_books() -> None:
    ledger = balance([], T0)
    assert ledger.wall_s == 0
    assert spent(ledger) == {}
    assert (ledger.ettr, ledger.goodput, ledger.gpu_hours) == (None, None, 0.0)


# Any order of events

TIMES = st.floats(T0 - 10, T0 + 1000, allow_nan=False)
WORLDS = st.integers(0, 3)
STEPS = st.integers(0, 40)
SPENT = st.none() | st.dictionaries(st.sampled_from(["save", "data", "step", "eval"]), st.floats(-1.0, 100.0))
EVENTS = st.one_of(
    st.builds(e.Progressed, at=TIMES, world=WORLDS, step=STEPS, spent_s=SPENT),
    st.builds(e.WorldEntered, at=TIMES, world=WORLDS),
    st.builds(e.WorldRestored, at=TIMES, world=WORLDS, checkpoint=st.none(), step=STEPS),
    st.builds(e.NodeStopped, at=TIMES, world=WORLDS, node=st.just(0)),
    st.builds(e.RankFinished, at=TIMES, world=WORLDS, rank=st.just(0)),
    st.builds(e.AttemptEnded, at=TIMES, attempt=st.just(1)),
    st.builds(e.SupervisorStarted, at=TIMES, pid=st.just(1), last_alive=st.none() | TIMES),
    st.builds(e.TimePassed, at=TIMES),
)
ACTIONS = st.one_of(
    st.builds(a.StartWorld, attempt=st.just(1), world=WORLDS, candidates=st.just(()), skips=st.just(())),
    st.builds(a.StopWorld, attempt=st.just(1), world=WORLDS),
    st.builds(a.EndAttempt, attempt=st.just(1), why=st.just("")),
)


@st.composite
def opened(draw: Any) -> Opened:
    onset, at = sorted((draw(TIMES), draw(TIMES)))
    kind = draw(st.sampled_from(Kind))
    incident = Incident(kind=kind, at=at, onset=onset, world=draw(WORLDS), step=draw(STEPS))
    return Opened(id=f"i{draw(st.integers(1, 4))}", incident=incident, rung=draw(st.sampled_from(Rung)))


ENTRIES = st.lists(
    st.builds(
        Entry,
        id=st.just(1),
        event=EVENTS,
        phase=st.sampled_from(Phase),
        actions=st.lists(ACTIONS, max_size=2).map(tuple),
        opened=st.lists(opened(), max_size=1).map(tuple),
        closed=st.lists(st.sampled_from(["i1", "i2"]), max_size=1).map(tuple),
    ),
    max_size=20,
)


def begun(rest: list[Entry]) -> list[Entry]:
    event = e.RunSubmitted(at=T0, run=RUN, plan=PLAN, policy=POLICY)
    return [Entry(id=1, event=event, phase=Phase.LAUNCHING), *rest]


@settings(max_examples=200, deadline=None)
@given(ENTRIES, TIMES)
def test_any_journal_is_covered_without_gap_or_overlap(rest: list[Entry], now: float) -> None:
    entries = begun(rest)
    spans = spans_of(entries, now)
    cursor = round(T0 * 1000)
    for span in spans:
        assert span.start_ms == cursor
        assert span.end_ms >= span.start_ms
        cursor = span.end_ms
    ledger = balance(entries, now)
    assert all(seconds >= 0 for seconds in ledger.buckets.values())
    assert round(sum(ledger.buckets.values()) * 1000) == round(ledger.wall_s * 1000) == cursor - round(T0 * 1000)
    assert ledger.steps_lost >= 0


@settings(max_examples=200, deadline=None)
@given(ENTRIES, st.floats(0, 100))
def test_in_order_the_books_are_the_wall_clock(rest: list[Entry], later_s: float) -> None:
    entries = begun(sorted((entry for entry in rest if entry.event.at >= T0), key=lambda entry: entry.event.at))
    now = entries[-1].event.at + later_s
    ended = None
    for entry in entries:
        over = entry.phase in (Phase.SUCCEEDED, Phase.STOPPED)
        ended = (ended if ended is not None else entry.event.at) if over else None
    wall_ms = round((now if ended is None else ended) * 1000) - round(T0 * 1000)
    assert round(balance(entries, now).wall_s * 1000) == wall_ms


def test_a_thinned_journal_has_the_same_books(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.db") as journal:
        script = Script(journal).join().begin(0)
        for part in range(2):
            for second in range(300):
                total_s = float(part * 300 + second)
                script.train(10, save=total_s * 0.01, data=total_s * 0.02)
            script.save().train(10).fail(Kind.WORKER_KILLED, detect_s=0.5).stop(0.5).begin(script.state.step - 10)
        script.train(10)
        thin, full = journal.entries(RUN, thin=True), journal.entries(RUN)
    assert len(thin) < len(full) / 10
    assert timeline.walk(thin) == timeline.walk(full)
    few, many = balance(thin, script.now), balance(full, script.now)
    assert few.wall_s == many.wall_s
    assert spent(few) == pytest.approx(spent(many), abs=0.1)

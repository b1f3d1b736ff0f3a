"""A run that was lost and goes on: proved, wrong, slow, or nobody can know."""

from __future__ import annotations

from math import nan
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitors.detect.probes import Note
from monitors.detect.recovery import Recovery, Resumption
from monitors.incidents import Incident, Kind, Subject
from monitors.signals import RankRestored, StepReported
from monitors.watch import Watch, WatchConfig
from orchestrator.core import events as e
from orchestrator.inbox import Inbox
from tests.detect.recoveries import CURVES, Run, drawn

LAST = 300


def trained(**what: object) -> Run:
    """A run that was lost after step 300."""
    return Run(seed=1, **what).begin(0, fresh=True).train(range(1, LAST + 1))  # type: ignore[arg-type]


def resumed(run: Run, step: int, *, how: Resumption | None = None, **odd: object) -> Run:
    """It goes on from this step for long enough to be judged."""
    copied = step >= LAST - 1
    return run.begin(step, how=how, copied=copied).train(range(step + 1, step + 120), **odd)  # type: ignore[arg-type]


def kinds(run: Run) -> list[Kind]:
    return [incident.kind for incident in run.incidents]


# Healthy


def test_healthy_recoveries_raise_no_alarm_and_most_prove_themselves() -> None:
    """2,000 of them: flat and falling losses, noise and odd batches, kernels that differ, loaders that shuffle."""
    recoveries = proved = 0
    for seed in range(500):
        run, dice = drawn(seed), Random(seed)
        end = dice.randint(20, 300)
        run.begin(0, fresh=True).train(range(1, end + 1))
        for _ in range(4):
            step = max(1, end - dice.choice((0, 0, 1, 2, 5, 20, 50)))
            stop = end + dice.randint(1, 80)
            run.begin(step, copied=end - step < 2).train(range(step + 1, stop))
            recoveries, end = recoveries + 1, max(end, stop - 1)
        assert run.incidents == [], f"seed {seed}"
        assert len(run.notes) <= 4
        proved += len(run.notes)
    assert recoveries == 2000
    assert proved > 0.6 * recoveries, "the others end before they can be judged"


def test_a_recovery_from_disk_is_proved_by_what_is_trained_again() -> None:
    run = resumed(trained(), 260)
    assert kinds(run) == []
    (note,) = run.notes
    assert (note.world, note.proof) == (2, True)
    assert note.sentence.startswith("world 2 proved itself: step time 1.99 s (2 before), ")
    assert "the loss of 16 steps trained again exactly as before, data position as expected" in note.sentence


def test_a_recovery_from_memory_is_proved_by_the_first_new_steps() -> None:
    run = resumed(trained(), LAST)
    assert kinds(run) == []
    (note,) = run.notes
    assert " (2 before), loss 3." in note.sentence
    assert " within " in note.sentence


def test_every_recovery_is_told_once() -> None:
    run = trained()
    for end in (380, 460, 540):
        run.begin(end - 90).train(range(end - 89, end + 1))
    assert [note.world for note in run.notes] == [2, 3, 4]


def test_a_rewind_that_skips_data_lies_higher_at_an_earlier_step_and_that_is_right() -> None:
    run = trained(curve=CURVES[1])
    run.skips = ((90, 140),)
    run.begin(60, how=Resumption(skips=run.skips, doubted=True)).train(range(61, 300))
    assert kinds(run) == []
    assert len(run.notes) == 1, "the steps before the window were trained again, and were as before"


# Wrong numbers


@pytest.mark.parametrize("kernels", [0.0, 2e-3])
@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_other_weights_show_within_three_steps_that_are_trained_again(noise: float, kernels: float) -> None:
    run = resumed(trained(noise=noise, kernels=kernels), 260, more=lambda _: 0.5)
    assert kinds(run) == [Kind.RECOVERY_WRONG]
    (wrong,) = run.incidents
    assert (wrong.onset_step, wrong.step, wrong.world) == (261, 263, 2)
    assert "before the fault" in wrong.evidence[0]
    assert run.notes == []


def test_a_little_that_was_lost_shows_within_twelve_steps() -> None:
    run = resumed(trained(), 260, more=lambda _: 0.06)
    assert kinds(run) == [Kind.RECOVERY_WRONG]
    assert run.incidents[0].step == 272


@pytest.mark.parametrize("step", [LAST, LAST - 1])
def test_other_weights_from_memory_show_within_eight_new_steps(step: int) -> None:
    run = resumed(trained(), step, more=lambda _: 0.5)
    assert kinds(run) == [Kind.RECOVERY_WRONG]
    assert run.incidents[0].step == LAST + 8
    assert "was to be expected" in run.incidents[0].evidence[0]


def test_data_that_were_left_out_and_are_fed_again_are_told_at_once() -> None:
    run = trained()
    run.skips = ((200, 210),)
    run.begin(150).train(range(151, 251), fed=lambda step: step - 1)
    (wrong,) = run.incidents
    assert (wrong.kind, wrong.step, wrong.confidence) == (Kind.RECOVERY_WRONG, 201, 1.0)
    assert wrong.evidence[0].startswith("step 201 was fed batch 200;")
    assert "batch 210" in wrong.evidence[0]


def test_what_comes_back_after_the_rewind_is_told_again_and_what_does_not_is_proved() -> None:
    run = resumed(trained(), LAST, more=lambda _: 0.5)
    run.begin(240, how=Resumption(skips=(), doubted=True)).train(range(241, 330), more=lambda _: 0.5)
    assert kinds(run) == [Kind.RECOVERY_WRONG] * 2
    assert run.incidents[1].step == 243, "it is held against the world before the wrong one"
    well = resumed(trained(), LAST, more=lambda _: 0.5)
    well.begin(240, how=Resumption(skips=(), doubted=True)).train(range(241, 330))
    assert kinds(well) == [Kind.RECOVERY_WRONG]
    assert [note.world for note in well.notes] == [3]


def test_a_jump_that_begins_later_is_left_to_the_detector_of_spikes() -> None:
    run = resumed(trained(), LAST, more=lambda step: 2.0 if step > LAST + 2 else 0.0)
    assert (kinds(run), run.notes) == ([], [])


def test_a_loss_that_was_leaving_before_the_fault_says_nothing_of_the_recovery() -> None:
    run = Run(seed=1).begin(0, fresh=True).train(range(1, 299)).train(range(299, 301), more=lambda _: 2.0)
    resumed(run, LAST, more=lambda _: 2.0)
    assert (kinds(run), run.notes) == ([], [])


def test_a_lower_loss_on_the_same_data_is_neither_wrong_nor_proof() -> None:
    run = Run(seed=1).begin(0, fresh=True).train(range(1, 281)).train(range(281, 301), more=lambda _: 2.0)
    resumed(run, 270)
    assert (kinds(run), run.notes) == ([], [])


# Slow steps


@pytest.mark.parametrize("jitter", [0.0, 0.05, 0.15])
def test_steps_that_take_longer_are_told_after_two_windows(jitter: float) -> None:
    run = resumed(trained(jitter=jitter), 260, slower=1.6)
    assert kinds(run) == [Kind.RECOVERY_SLOW]
    slow = run.incidents[0]
    assert slow.step == 260 + 5 + 2 * 16
    assert "before the fault it took" in slow.evidence[0]
    assert run.notes == []


def test_slow_steps_of_milliseconds_have_to_last() -> None:
    run = resumed(trained(step_s=0.02), 260, slower=2.0)
    assert kinds(run) == []
    run.train(range(380, 380 + 500), slower=2.0)
    assert kinds(run) == [Kind.RECOVERY_SLOW]


def test_a_cache_that_is_cold_for_some_steps_is_forgiven() -> None:
    run = trained()
    run.begin(260).train(range(261, 282), slower=3.0).train(range(282, 360))
    assert kinds(run) == []
    assert len(run.notes) == 1


def test_a_step_time_that_was_unsteady_before_proves_nothing() -> None:
    run = Run(seed=1).begin(0, fresh=True).train(range(1, 201)).train(range(201, 301), slower=2.0)
    resumed(run, 260, slower=4.0)
    assert (kinds(run), run.notes) == ([], [])


def test_steps_beside_a_probe_and_in_a_world_with_a_culprit_say_nothing() -> None:
    probed = trained().begin(260)
    for step in range(261, 341):
        probed.recovery.disturbed()
        probed.train([step], slower=3.0)
    assert (kinds(probed), probed.notes) == ([], [])
    named = trained().begin(260).train(range(261, 271), slower=3.0)
    straggler = Incident(kind=Kind.STRAGGLER, at=named.at, onset=named.at, world=2, subject=Subject(rank=1))
    named.recovery.heard(straggler)
    named.train(range(271, 380), slower=3.0)
    assert (kinds(named), named.notes) == ([], [])


# Unknown


def test_what_cannot_be_compared_is_not_wrong() -> None:
    known = dict[str, object](slower=3.0, more=lambda _: 3.0)
    unseen = Run(seed=1).begin(260).train(range(261, 400), **known)  # type: ignore[arg-type]
    assert (kinds(unseen), unseen.notes) == ([], []), "the first world that is seen"
    short = Run(seed=1).begin(0, fresh=True).train(range(1, 20)).begin(10).train(range(11, 60), **known)  # type: ignore[arg-type]
    assert (kinds(short), short.notes) == ([], []), "too few steps before"
    asked = resumed(trained(), 260, how=Resumption(skips=(), doubted=False, asked=True), **known)
    assert (kinds(asked), asked.notes) == ([], []), "a person may have changed the script"
    scratch = trained().begin(0, fresh=True).train(range(1, 60), more=lambda _: 3.0)
    assert (kinds(scratch), scratch.notes) == ([], []), "weights drawn anew"
    doubted = resumed(trained(), 260, how=Resumption(skips=(), doubted=True), more=lambda _: 3.0)
    assert (kinds(doubted), doubted.notes) == ([], []), "the older numbers may be the wrong ones"
    wordless = resumed(trained(tells_index=False), 260)
    assert (kinds(wordless), wordless.notes) == ([], []), "a script that tells no data index"
    elsewhere = resumed(trained(), 260, how=Resumption(), fed=lambda step: step + 1000)
    assert (kinds(elsewhere), elsewhere.notes) == ([], []), "nobody knows what was to be left out"


VALUES = st.one_of(st.none(), st.floats(), st.sampled_from([0.0, 2.0, 2.1, 1e308, -1e308, nan]))
ROWS = st.tuples(
    st.integers(0, 2), st.integers(-1, 3), st.integers(0, 20).map(lambda far: far == 0), VALUES, VALUES,
    st.none() | st.integers(0, 500),
)  # fmt: skip
"""rank, steps onward, a new world, loss, seconds of the step, data index"""


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=60), st.integers(1, 6), st.booleans(), st.booleans())
def test_any_rows(
    rows: list[tuple[int, int, bool, float | None, float | None, int | None]], times: int, doubted: bool, asked: bool
) -> None:
    recovery = Recovery()
    step, world, at = 1, 1, 0.0
    told = set[tuple[int, Kind]]()
    for rank, onward, restarts, loss, step_s, index in rows * times:
        step, at = max(1, step + onward), at + 1.0
        if restarts:
            world, step = world + 1, max(1, step - 20)
            recovery.world_began(world, Resumption(skips=((5, 9),), doubted=doubted, asked=asked))
            recovery.see(RankRestored(at=at, node=0, world=world, rank=rank, checkpoint="s", step=step - 1))
        row = StepReported(at=at, node=0, world=world, rank=rank, step=step, loss=loss, step_s=step_s, data_index=index)
        incidents, notes = recovery.see(row)
        for incident in incidents:
            assert (world, incident.kind) not in told, "told twice"
            told.add((world, incident.kind))
            assert incident.onset_step is not None
            assert 1 <= incident.onset_step <= step
            assert incident.evidence
        assert not (notes and any(one == world for one, _ in told)), "proved and wrong"


# Through the watch


def test_the_watch_tells_a_proof_as_an_event_of_the_story() -> None:
    watch = Watch(WatchConfig(), nodes=1, ranks_per_node=1)
    inbox = Inbox(nodes=1, ranks_per_node=1, watch=watch, folder="/ckpt")
    signals: list[RankRestored | StepReported] = []

    class Heard(Recovery):
        """Keeps what the run says, for the inbox to hear."""

        def see(self, signal: object) -> tuple[list[Incident], list[Note]]:
            assert isinstance(signal, RankRestored | StepReported)
            signals.append(signal)
            return [], []

    run = Run(seed=1, recovery=Heard()).begin(0, fresh=True).train(range(1, 301))
    run.begin(260).train(range(261, 330))
    told = list[e.Event]()
    for signal in signals:
        if isinstance(signal, RankRestored):
            inbox.began(signal.world, signal.at, Resumption(skips=()))
        told += inbox.see(signal)
    (proved,) = [event for event in told if isinstance(event, e.RecoveryProved)]
    assert proved.world == 2
    assert not [event for event in told if isinstance(event, e.IncidentDetected | e.DeviceProbed)]

"""Does what GPUs spent reach the journal once, whatever becomes of the supervisor?"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitors import signals as s
from monitors.hardware import GpuLooked
from monitors.watch import Watch, WatchConfig
from orchestrator import joules, liverun
from orchestrator.core import events as e
from orchestrator.core.state import Decision, Phase
from orchestrator.inbox import Inbox
from orchestrator.journal import Entry, Journal
from tests.story.scripted import RUN, T0, blank

GPUS = 2
WATTS = (100.0, 300.0)
SECONDS = 12


def inbox(energy_until: float | None = None) -> Inbox:
    watch = Watch(WatchConfig(), nodes=1, ranks_per_node=1)
    return Inbox(nodes=1, ranks_per_node=1, watch=watch, folder="/ckpt", energy_until=energy_until)


def look(at: float, gpu: int = 0) -> GpuLooked:
    return GpuLooked(at=at, node=0, device=f"GPU-{gpu}", index=gpu, energy_j=WATTS[gpu] * at)


def moved(at: float, step: int, world: int = 1) -> s.RankProgress:
    return s.RankProgress(at=at, node=0, world=world, rank=0, step=step, phase=s.Phase.STEP, moved_at=at)


def row(at: float, step: int, world: int = 1) -> s.StepReported:
    return s.StepReported(at=at, node=0, world=world, rank=0, step=step, tokens=10.0)


def heard(seconds: int = SECONDS) -> list[s.Signal]:
    """Each second a step, a look at each GPU, and progress."""
    said: list[s.Signal] = []
    for at in range(seconds):
        said += [row(at, at + 1), *(look(at, gpu) for gpu in range(GPUS)), moved(at, at + 1)]
    return said


def told(box: Inbox, signals: list[s.Signal]) -> list[e.Event]:
    return [event for signal in signals for event in box.see(signal)]


def energy(event: e.Event) -> e.EnergyRead:
    assert isinstance(event, e.Progressed | e.NodeStopped)
    assert event.energy is not None
    return event.energy


def test_without_gpus_events_say_nothing_of_energy() -> None:
    box = inbox()
    box.began(1, 0.0)
    (event,) = told(box, [moved(1.0, 1), row(1.0, 1)])
    assert isinstance(event, e.Progressed)
    assert event.energy is None


def test_progress_tells_what_was_spent_so_far() -> None:
    box = inbox()
    box.began(1, 0.0)
    last = energy(told(box, heard())[-1])
    assert (last.since, last.until) == (0, SECONDS - 1)
    assert (last.joules, last.gpu_s) == (pytest.approx(400.0 * 11), pytest.approx(22))
    assert last.step_j / last.steps == pytest.approx(400.0)
    assert last.token_j / last.tokens == pytest.approx(40.0)


def test_the_end_of_a_world_tells_what_was_spent_since_the_last_step() -> None:
    box = inbox()
    box.began(1, 0.0)
    told(box, [*heard(), look(20.0), look(20.0, 1)])
    (event,) = box.see(s.WorldStopped(at=20.5, node=0, world=1))
    assert isinstance(event, e.NodeStopped)
    assert energy(event).joules == pytest.approx(400.0 * 20)


def test_the_steps_of_an_older_world_are_history() -> None:
    box = inbox()
    box.began(1, 0.0)
    told(box, [*heard(), look(12.0), look(12.0, 1)])
    box.began(2, 12.0)
    told(box, [row(12.0, 13), look(13.0), look(13.0, 1)])
    (event,) = told(box, [moved(14.0, 13, world=2)])
    assert energy(event).steps == SECONDS - 2, "the first ended before any reading, the second has no beginning"


def test_another_attempt_is_not_charged_for_what_its_gpus_did_before() -> None:
    box = inbox()
    box.began(1, 0.0)
    told(box, heard())
    box.launched()
    box.began(2, 3600.0)
    last = energy(told(box, [look(3600.0), look(3601.0), moved(3601.0, 1, world=2)])[-1])
    assert last.joules == pytest.approx(400.0 * 11 + 100.0)


class Supervised:
    """A run whose supervisors die; each hears again what was not acknowledged, and reads what the journal has."""

    def __init__(self) -> None:
        self.journal: list[e.Event] = []

    def live(self, signals: list[s.Signal]) -> None:
        until = max((energy(event).until for event in self.journal if getattr(event, "energy", None)), default=None)
        box = inbox(until)
        box.adopted(1, 0.0, speaks=False, trains=True)
        self.journal += told(box, signals)

    def joules(self) -> float:
        entries = [Entry(id=1, event=event, phase=Phase.TRAINING) for event in self.journal]
        meter = joules.Meter()
        for entry in entries:
            meter.see(entry)
        return meter.spent(gpu_s=1.0, lost=()).joules or 0.0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4 * SECONDS), st.integers(0, 12)), max_size=4))
def test_a_supervisor_that_dies_makes_nothing_count_twice(deaths: list[tuple[int, int]]) -> None:
    """`deaths`: after how many signals, and how many of these the next one hears again: up to three seconds."""
    run, signals, at = Supervised(), heard(), 0
    for after, again in sorted(deaths):
        run.live(signals[at:after] if after > at else [])
        at = max(at, after - again)
    run.live(signals[at:])
    true_j = 400.0 * (SECONDS - 1)
    assert run.joules() <= true_j + 1e-6


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4 * SECONDS), max_size=4))
def test_nothing_is_lost_when_all_that_was_not_told_is_heard_again(deaths: list[int]) -> None:
    run, signals = Supervised(), heard()
    for after in deaths:
        run.live(signals[:after])
    run.live(signals)
    assert run.joules() == pytest.approx(400.0 * (SECONDS - 1))


def test_a_supervisor_reads_in_the_journal_up_to_where_energy_was_counted(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.db") as journal:
        journal.submit(RUN, "gpt", {}, "", T0)
        assert liverun.energy_until(journal, RUN) is None
        box = inbox()
        box.began(1, 0.0)
        stopped: list[s.Signal] = [look(20.0), s.WorldStopped(at=21.0, node=0, world=1)]
        for event in told(box, [*heard(), *stopped]):
            journal.record(RUN, event, Decision(state=blank()))
        assert liverun.energy_until(journal, RUN) == 20.0
        # One that reads nothing itself tells the next one all the same.
        second = inbox(20.0)
        second.began(2, 22.0)
        for event in told(second, [moved(23.0, 1, world=2), moved(25.0, 2, world=2)]):
            journal.record(RUN, event, Decision(state=blank()))
        assert liverun.energy_until(journal, RUN) == 20.0


def test_gpus_that_the_rank_was_not_given_are_not_the_runs_to_pay_for() -> None:
    box, given = inbox(), s.RankStarted(at=0.0, node=0, world=1, rank=0, pid=7, gpu="GPU-1", gpus=("GPU-1",))
    box.began(1, 0.0)
    first, *later = heard()
    end = s.WorldStopped(at=float(SECONDS), node=0, world=1)
    event = told(box, [first, look(0.0), look(0.0, 1), given, *later, end])[-1]
    assert energy(event).joules == pytest.approx(WATTS[1] * (SECONDS - 1))

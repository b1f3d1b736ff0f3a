"""Which signals does a rank's own telling become?"""

from __future__ import annotations

import json
import math
import time
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lastgood import progress
from monitors import signals as s
from monitors.clock import SystemClock
from monitors.sense.progress import RankSense, Where


class Rank:
    """The rank's side: writes what the SDK writes."""

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.folder = folder
        self.rank = rank
        self.path = folder / "progress"
        progress.create(str(self.path), capacity=64)

    @cached_property
    def writer(self) -> progress.Writer:
        """What the SDK has from `lastgood.main` on; a script without it never opens it."""
        return progress.Writer(str(self.path))

    def sense(self, pattern: str | None = None) -> RankSense:
        where = Where(node=0, world=3, rank=self.rank)
        return RankSense(where, progress=self.path, folder=self.folder, pattern=pattern, at=100.0)

    def step(self, step: int, loss: float | None = 1.0, data_index: int | None = None) -> None:
        self.writer.row(step, step if data_index is None else data_index, loss, None, None, None, 0.1)

    def note(self, note: str, *, publish: bool = True, **fields: Any) -> None:
        with (self.folder / "notes.jsonl").open("a") as file:
            file.write(json.dumps({"note": note, "at": 50.0, **fields}) + "\n")
            if publish:
                self.writer.noted(file.tell())

    def prints(self, text: str, name: str = "stdout.log") -> None:
        with (self.folder / name).open("a") as file:
            file.write(text)


@pytest.fixture
def rank(tmp_path: Path) -> Rank:
    return Rank(tmp_path)


def of(kind: type, signals: list[Any]) -> list[Any]:
    return [signal for signal in signals if isinstance(signal, kind)]


def test_steps_come_once_and_with_what_was_reported(rank: Rank) -> None:
    sense = rank.sense()
    rank.writer.phase("step")
    rank.step(1, loss=2.5)
    rank.step(2, loss=None, data_index=-1)
    first, second = of(s.StepReported, sense.look(101.0))
    assert (first.step, first.loss, first.data_index, first.step_s, first.grad_norm) == (1, 2.5, 1, 0.1, None)
    assert (second.loss, second.data_index) == (None, None)
    assert of(s.StepReported, sense.look(102.0)) == []
    assert sense.step == 2


def test_only_rank_0_tells_its_steps_unless_a_value_is_not_finite(tmp_path: Path) -> None:
    rank = Rank(tmp_path, rank=1)
    sense = rank.sense()
    for step, loss in enumerate([1.0, math.nan, 1.0, math.inf, 1.0], start=1):
        rank.step(step, loss=loss)
    assert [one.step for one in of(s.StepReported, sense.look(101.0))] == [2, 4]


def test_rows_that_were_overwritten_are_missed_aloud(rank: Rank) -> None:
    sense = rank.sense()
    for step in range(1, 101):
        rank.step(step)
    seen = sense.look(101.0)
    assert [one.step for one in of(s.StepReported, seen)] == list(range(38, 101))
    (blind,) = of(s.Blind, seen)
    assert "37 rows" in blind.why


def test_progress_is_sent_on_change_and_when_it_grows_old(rank: Rank) -> None:
    sense = rank.sense()
    rank.writer.phase("step")
    sent: list[tuple[float, int, float]] = []
    for tick in range(50):
        now = 100.0 + tick * 0.02
        if tick in {10, 11, 12}:
            rank.step(tick)
        seen = of(s.RankProgress, sense.look(now))
        sent += [(round(one.at, 2), one.step, round(one.moved_at, 2)) for one in seen]
    assert sent[0] == (100.0, 0, 100.0)
    assert (100.2, 10, 100.2) in sent
    assert (100.24, 12, 100.24) in sent
    times = [at for at, _, _ in sent]
    gaps = [after - before for before, after in pairwise(times)]
    assert max(gaps) <= s.SEEN_EVERY_S + 0.02 + 1e-9
    assert sent[-1][1:] == (12, 100.24)


def pass_s(clock: SystemClock, seconds: float) -> None:
    until = clock.now() + seconds
    while clock.now() < until:
        time.sleep(0.01)


def test_silence_is_told_just_when_it_has_lasted_a_second(rank: Rank) -> None:
    sense = rank.sense()
    rank.writer.phase("step")
    (moved,) = of(s.RankProgress, sense.look(100.13))
    told = [one.at - moved.moved_at for n in range(1, 30) for one in of(s.RankProgress, sense.look(100.13 + n * 0.05))]
    assert [round(age_s, 2) for age_s in told] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.25], abs=0.051)


@pytest.mark.parametrize("says", ["working\n", ""], ids=["it prints", "it starts, and is busy"])
def test_a_rank_that_moves_without_news_is_told_of_as_often_as_one_that_does_not(rank: Rank, says: str) -> None:
    sense = rank.sense()
    told = []
    for n in range(1, 41):
        rank.prints(says)
        told += of(s.RankProgress, sense.look(now := 100.0 + n * 0.05, busy=not says))
        assert now - told[-1].moved_at < s.SEEN_EVERY_S + 0.001, "what is known of it is no silence"
    assert len(told) < 12


def test_a_rank_that_only_prints_must_be_looked_at_often(rank: Rank) -> None:
    sense = rank.sense(pattern=r"step (?P<step>\d+)")
    rank.prints("step 1\n")
    assert of(s.StepReported, sense.look(101.0))
    assert not sense.just_moved(101.0)


def test_a_look_that_comes_late_knows_when_the_rank_moved(rank: Rank) -> None:
    clock = SystemClock()
    sense = rank.sense()
    rank.writer.phase("step")
    sense.look(clock.now())
    rank.step(1)
    pass_s(clock, 0.1)
    (seen,) = of(s.RankProgress, sense.look(late := clock.now()))
    assert late - 0.3 < seen.moved_at <= late - 0.1
    assert sense.just_moved(seen.moved_at + 0.2)
    assert not sense.just_moved(seen.moved_at + 0.3)
    rank.writer.row(2, 2, 1.0, None, None, None, 2.0)
    (slow,) = of(s.RankProgress, sense.look(clock.now()))
    assert sense.just_moved(slow.moved_at + 2.9), "its steps take 2 s"
    assert not sense.just_moved(slow.moved_at + 3.1)
    rank.writer.phase("eval")
    pass_s(clock, 0.1)
    (evaluates,) = of(s.RankProgress, sense.look(late := clock.now()))
    assert seen.moved_at < evaluates.moved_at <= late - 0.1
    rank.writer.phase("done")
    sense.look(clock.now())
    assert not sense.just_moved(clock.now()), "it has ended: what comes now is looked for often"


def test_every_note_becomes_its_signal(rank: Rank) -> None:
    sense = rank.sense()
    rank.note("entered")
    rank.note("refused", checkpoint="step-2", why="a flipped bit")
    rank.note("restored", checkpoint=None, step=0)
    rank.note("committed", checkpoint="step-4", step=4, bytes=10, saved_at=49.0, stall_s=0.5)
    rank.note("save_failed", step=5, why="full", errno=28)
    rank.note("drilled", drill="nan", number=1)
    place = {"node": 0, "world": 3}
    assert sense.look(101.0)[:-1] == [
        s.RankEntered(at=50.0, **place, rank=0),
        s.CheckpointRefused(at=50.0, node=0, checkpoint="step-2", why="a flipped bit", rank=0),
        s.RankRestored(at=50.0, **place, rank=0, checkpoint=None, step=0),
        s.SaveCommitted(at=50.0, **place, checkpoint="step-4", step=4, bytes=10, saved_at=49.0, stall_s=0.5),
        s.SaveFailed(at=50.0, **place, rank=0, step=5, why="full", errno=28),
        s.DrillDone(at=50.0, **place, drill="nan", rank=0),
    ]


def test_a_note_is_read_once_it_is_published_or_the_rank_is_gone(rank: Rank) -> None:
    sense = rank.sense()
    rank.note("entered", publish=False)
    assert of(s.RankEntered, sense.look(101.0)) == []
    with (rank.folder / "notes.jsonl").open("a") as file:
        file.write('{"note": "restored", "at": 1.0, "chec')  # it died while writing
    final = sense.look(102.0, final=True)
    assert len(of(s.RankEntered, final)) == 1
    assert of(s.RankRestored, final) == []


@pytest.mark.parametrize(
    "text", ["not json", '"a word"', '{"note": "restored", "at": "x"}', '{"note": "entered"}', "[]"]
)
def test_a_broken_note_is_told_and_the_next_one_read(rank: Rank, text: str) -> None:
    sense = rank.sense()
    (rank.folder / "notes.jsonl").write_text(text + "\n")
    rank.note("entered")
    seen = sense.look(101.0)
    assert [one.sense for one in of(s.Blind, seen)] == ["notes"]
    assert len(of(s.RankEntered, seen)) == 1


def test_a_note_of_a_newer_sdk_is_skipped(rank: Rank) -> None:
    sense = rank.sense()
    rank.note("sang", tune="a")
    assert of(s.Blind, sense.look(101.0)) == []


def test_a_script_without_the_sdk_moves_by_output_or_cpu(rank: Rank) -> None:
    sense = rank.sense(pattern=r"step (?P<step>\d+)")
    (started,) = sense.look(101.0)
    assert (started.phase, started.moved_at, started.spent_s) == (s.Phase.STARTING, 100.0, ())
    rank.prints("loading\n", "stderr.log")
    (loading,) = sense.look(102.0)
    assert (loading.phase, loading.moved_at) == (s.Phase.STARTING, 102.0)
    rank.prints("step 7\nstep 8\n")
    *rows, stepping = sense.look(103.0)
    assert [row.step for row in rows] == [7, 8]
    assert (stepping.phase, stepping.step, stepping.moved_at) == (s.Phase.STEP, 8, 103.0)
    assert sense.look(104.0)[-1].moved_at == 103.0
    assert sense.look(105.0, busy=True)[-1].moved_at == 105.0
    assert sense.is_mute
    assert not sense.look(106.0)[-1].speaks


def test_a_rank_that_waits_for_the_others_to_join_speaks_already(rank: Rank) -> None:
    sense = rank.sense()
    assert rank.writer.stop_after() == -1  # it is open
    (joining,) = sense.look(101.0)
    assert (joining.phase, joining.moved_at, joining.speaks) == (s.Phase.STARTING, 100.0, True)
    assert sense.is_mute
    assert sense.look(102.0, busy=True)[-1].moved_at == 102.0
    rank.writer.phase("restoring")
    assert sense.look(103.0)[-1].moved_at == pytest.approx(103.0, abs=0.1)
    assert not sense.is_mute


def test_with_the_sdk_output_is_no_progress(rank: Rank) -> None:
    sense = rank.sense()
    rank.writer.phase("step")
    sense.look(101.0)
    rank.prints("I live\n")
    assert sense.look(110.0, busy=True)[-1].moved_at == pytest.approx(101.0, abs=0.1)


def test_without_a_pattern_output_is_all_the_progress_there_is(rank: Rank) -> None:
    sense = rank.sense()
    assert sense.look(101.0)[-1].phase is s.Phase.STARTING
    rank.prints("hello\n")
    assert sense.look(102.0)[-1].phase is s.Phase.STEP


@pytest.mark.parametrize("what", ["nothing", "a note", "output", "an evaluation", "many steps", "silence"])
def test_a_glance_is_enough_while_there_is_nothing_but_steps(rank: Rank, what: str) -> None:
    sense, now = rank.sense(), time.time()
    rank.writer.phase("step")
    assert not sense.goes_on(now), "nobody has looked at it yet"
    rank.step(1)
    sense.look(now - 1.0)
    rank.step(2)
    match what:
        case "a note":
            rank.note("drilled", drill="kill", rank=0, world=3, node=0)
        case "output":
            rank.prints("RuntimeError: CUDA error: an illegal memory access was encountered\n", "stderr.log")
        case "an evaluation":
            rank.writer.phase("eval")
        case "many steps":
            for step in range(3, 300):
                rank.step(step)
        case "silence":
            now += 0.3
        case _:
            pass
    assert sense.goes_on(now) == (what in ("nothing", "an evaluation"))


def test_what_is_said_between_two_looks_is_told_with_the_step_of_then(rank: Rank) -> None:
    sense, now = rank.sense(), time.time()
    rank.writer.phase("step")
    rank.step(1)
    sense.look(now - 1.0)
    rank.step(2)
    rank.prints("RuntimeError: CUDA error: an illegal memory access was encountered\n", "stderr.log")
    assert not sense.goes_on(now)
    rank.step(3)
    (said,) = of(s.RankSaid, sense.look(now + 0.5))
    assert (said.at, said.step) == (now, 2)
    (progress_,) = of(s.RankProgress, sense.look(now + 1.0))
    assert progress_.glanced_at == 0.0

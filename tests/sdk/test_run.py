"""Does the loop restore, count, save, report and stop as training code relies on?"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lastgood import failure, progress
from lastgood.place import Place
from lastgood.run import open_run
from monitors.catalogue.signatures import judge
from tests.sdk.ranks import Rank, advance

Ranks = Callable[..., Rank]
State = dict[str, Any]


def test_a_fresh_run_does_every_step_once(rank: Ranks, state: State) -> None:
    world = rank(save_every=2)
    assert list(world.run.steps(state, until=5)) == [1, 2, 3, 4, 5]
    assert [row.step for row in world.rows()] == [1, 2, 3, 4, 5]
    assert [row.data_index for row in world.rows()] == [0, 1, 2, 3, 4]
    look = world.reader.look()
    assert (look.step, look.phase) == (5, "done")


def test_a_step_is_finished_when_the_next_one_is_asked_for(rank: Ranks, state: State) -> None:
    world = rank()
    steps = world.run.steps(state, until=3)
    next(steps)
    assert (world.reader.look().step, world.reader.look().phase) == (0, "step")
    next(steps)
    assert world.reader.look().step == 1


def test_saves_are_made_when_due_and_after_the_last_step(rank: Ranks, state: State) -> None:
    world = rank(save_every=2, attempt=1, world=7)
    for _ in world.run.steps(state, until=5):
        advance(state)
    committed = world.notes("committed")
    assert [note["step"] for note in committed] == [2, 4, 5]
    assert committed[-1]["checkpoint"] == "step-00000005.a1w7"


def test_the_notes_tell_the_way_into_the_loop(rank: Ranks, state: State) -> None:
    world = rank()
    next(world.run.steps(state, until=1))
    assert [note["note"] for note in world.notes()] == ["entered", "restored"]
    assert world.notes("restored")[0] | {"at": 0} == {"note": "restored", "at": 0, "checkpoint": None, "step": 0}


def test_the_next_world_goes_on_where_the_last_save_was(rank: Ranks, state: State) -> None:
    first = rank(save_every=2, world=1, attempt=1)
    losses = [advance(state) for _ in first.run.steps(state, until=6)]
    torch.manual_seed(9)
    model = torch.nn.Linear(2, 1)
    other = {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}
    second = rank(
        "w2", save_every=2, world=2, attempt=1, checkpoints=first.place.checkpoints, resume=(("step-00000004.a1w1", 4),)
    )
    again = {step: advance(other) for step in second.run.steps(other, until=6)}
    assert again == {5: losses[4], 6: losses[5]}
    assert second.notes("restored")[0]["checkpoint"] == "step-00000004.a1w1"
    assert [row.step for row in second.rows()] == [5, 6]


def out_of_sight(save: Path) -> None:
    """As a folder on what is not mounted is seen through a link."""
    save.rename(save.with_name("hidden"))
    save.symlink_to("not mounted")


def test_what_cannot_be_read_is_passed_over_and_condemned_by_nobody(
    rank: Ranks, state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    first = rank(save_every=2, world=1, attempt=1)
    list(first.run.steps(state, until=4))
    out_of_sight(first.folder / "checkpoints/step-00000004.a1w1")
    resume = tuple((f"step-0000000{step}.a1w1", step) for step in (4, 2))
    second = rank("w2", world=2, attempt=1, checkpoints=first.place.checkpoints, resume=resume)
    assert next(second.run.steps(state, until=4)) == 3
    assert [note["note"] for note in second.notes()] == ["entered", "unread", "restored"]
    assert second.notes("unread")[0]["checkpoint"] == "step-00000004.a1w1"
    said = (
        "lastgood: step-00000004.a1w1 was passed over, and may be whole: .: cannot be read: it is listed, and not found"
    )
    assert said in capsys.readouterr().err


def test_when_none_can_be_read_nothing_starts_afresh_and_another_try_is_worth_it(rank: Ranks, state: State) -> None:
    first = rank(save_every=2, world=1, attempt=1)
    list(first.run.steps(state, until=2))
    mount = first.folder / "checkpoints"
    mount.rename(first.folder / "hidden")
    second = rank("w2", checkpoints=str(mount), resume=(("step-00000002.a1w1", 2),))
    with pytest.raises(
        RuntimeError, match=r"one may be whole: step-00000002\.a1w1: \.: cannot be read: No such"
    ) as end:
        next(second.run.steps(state, until=4))
    assert second.notes("refused") == []
    said = judge(failure.of(end.value).traceback)
    assert said is not None
    assert (said.fault, said.retryable) == ("checkpoint_unreadable", True)
    (first.folder / "hidden").rename(mount)
    third = rank("w3", checkpoints=str(mount), resume=(("step-00000002.a1w1", 2),))
    assert next(third.run.steps(state, until=4)) == 3


def test_when_every_checkpoint_is_damaged_nothing_starts_afresh(rank: Ranks, state: State) -> None:
    first = rank(save_every=2, world=1, attempt=1)
    list(first.run.steps(state, until=2))
    (first.folder / "checkpoints/step-00000002.a1w1/manifest.json").unlink()
    second = rank("w2", checkpoints=first.place.checkpoints, resume=(("step-00000002.a1w1", 2),))
    with pytest.raises(RuntimeError, match=r"none of the checkpoints .* step-00000002\.a1w1"):
        next(second.run.steps(state, until=4))
    assert second.notes("refused")[0]["checkpoint"] == "step-00000002.a1w1"


def test_skipped_windows_are_never_fed(rank: Ranks, state: State) -> None:
    world = rank(skips=((1, 3), (4, 9)))
    fed = [world.run.data_index(step) for step in world.run.steps(state, until=4)]
    assert fed == [0, 3, 9, 10] == [row.data_index for row in world.rows()]


def test_a_report_becomes_the_row_of_its_step(rank: Ranks, state: State) -> None:
    world = rank()
    for step in world.run.steps(state, until=3):
        if step == 1:
            world.run.report(loss=2.5, lr=1)
            world.run.report(grad_norm=torch.tensor(0.5, requires_grad=True), tokens=64)
        if step == 2:
            world.run.report(loss=torch.tensor([math.nan]))
    one, two, three = world.rows()
    assert (one.loss, one.grad_norm, one.lr, one.tokens) == (2.5, 0.5, 1.0, 64.0)
    assert two.loss is not None
    assert math.isnan(two.loss)
    assert (two.grad_norm, two.lr) == (None, None)
    assert (three.loss, three.grad_norm, three.lr, three.tokens) == (None, None, None, None)


def test_what_a_rank_saw_alone_stands_beside_what_all_saw(rank: Ranks, state: State) -> None:
    class Busy:
        """A number whose device is not done yet."""

        def __float__(self) -> float:
            return self.item()

        def item(self) -> float:
            until = time.monotonic() + 0.02
            while time.monotonic() < until:
                pass
            return 4.0

    world = rank()
    for step in world.run.steps(state, until=2):
        if step == 1:
            world.run.report(loss=Busy(), local_loss=Busy(), local_grad_norm=torch.tensor(0.25), loss_scale=65536.0)
        else:
            world.run.report(loss=1.0)
    one, two = world.rows()
    assert (one.loss, one.local_loss, one.local_grad_norm) == (4.0, 4.0, 0.25)
    assert 0.04 <= one.waited_s <= one.step_s
    assert (one.loss_scale, two.loss_scale) == (65536.0, None)
    assert (two.loss, two.local_loss, two.local_grad_norm, two.waited_s) == (1.0, None, None, 0.0)


def test_an_older_agent_and_a_newer_rank_understand_each_other(tmp_path: Path) -> None:
    """Its file has no second ring, and nothing says where one would begin."""
    path = tmp_path / "progress"
    progress.create(str(path), capacity=4)
    whole = path.read_bytes()
    ring = progress.HEADER_BYTES + 4 * progress.RECORD.size
    older = bytearray(whole[:ring])
    assert int.from_bytes(older[272:280], "little") == ring
    older[272:] = bytes(len(older) - 272)
    path.write_bytes(older)
    writer, reader = progress.Writer(str(path)), progress.Reader(str(path))
    for step in range(1, 7):
        writer.row(step, step, 2.0, None, None, None, 0.1, 3.0, 4.0, 0.05, 65536.0)
    assert path.stat().st_size == ring
    assert writer.saver() == "none"
    _, rows = reader.rows(3)
    assert [(row.step, row.loss, row.local_loss, row.waited_s) for row in rows] == [
        (step, 2.0, None, 0.0) for step in (4, 5, 6)
    ]


def test_a_rank_hears_what_became_of_its_saves(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    progress.create(str(path), capacity=4)
    writer, reader = progress.Writer(str(path)), progress.Reader(str(path))
    assert (writer.saver(), writer.saved()) == ("none", progress.Saved())
    for saver in progress.SAVERS:
        reader.tell_saver(saver)
        assert writer.saver() == saver
    for told in (
        progress.Saved(step=10),
        progress.Saved(step=10, failed_step=20, why="kein Platz für Größeres"),
        progress.Saved(step=30, failed_step=20, why="ü" * 4000),
    ):
        reader.tell_saved(told)
        heard = writer.saved()
        assert (heard.step, heard.failed_step) == (told.step, told.failed_step)
        assert told.why.startswith(heard.why)
        assert len(heard.why) == min(len(told.why), 512)


def test_a_newer_agent_and_an_older_rank_understand_each_other(tmp_path: Path) -> None:
    """It writes the first ring alone, with 64 bytes a row from byte 4096 on."""
    path = tmp_path / "progress"
    progress.create(str(path), capacity=4)
    reader = progress.Reader(str(path))
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(struct.pack("<qqdddddd", 1, 0, 10.0, 2.0, 0.5, 0.1, 64.0, 0.25))
        file.seek(24 - 8)
        file.write(struct.pack("<Q", 1))
    (row,) = reader.rows(0)[1]
    assert (row.loss, row.grad_norm, row.step_s) == (2.0, 0.5, 0.25)
    assert (row.local_loss, row.local_grad_norm, row.waited_s) == (None, None, 0.0)


def test_the_last_of_many_reports_counts(rank: Ranks, state: State) -> None:
    world = rank()
    for _ in world.run.steps(state, until=2):
        for value in range(10_000):
            world.run.report(loss=float(value), grad_norm=1.0, lr=1e-4, tokens=4096)
    assert [row.loss for row in world.rows()] == [9999.0, 9999.0]


def test_more_steps_than_the_ring_holds(rank: Ranks, state: State) -> None:
    world = rank(save_every=10_000)
    list(world.run.steps(state, until=5_000))
    head, rows = world.reader.rows(0)
    assert head == 5_000
    assert rows[-1].step == 5_000
    assert [row.step for row in rows] == list(range(rows[0].step, 5_001))


def test_a_person_stops_the_run_at_a_step(rank: Ranks, state: State) -> None:
    world = rank(save_every=100)
    done = []
    for step in world.run.steps(state, until=50):
        world.reader.order_stop_after(4)
        done.append(step)
    assert done == [1, 2, 3, 4]
    assert world.run.stopped
    assert [note["step"] for note in world.notes("committed")] == [4]


def test_an_order_to_stop_that_comes_late_is_obeyed_at_the_next_boundary(rank: Ranks, state: State) -> None:
    world = rank()
    for step in world.run.steps(state, until=50):
        if step == 6:
            world.reader.order_stop_after(2)
    assert world.reader.look().step == 6


def test_a_run_that_reached_its_end_was_not_stopped(rank: Ranks, state: State) -> None:
    world = rank()
    for _ in world.run.steps(state, until=3):
        world.reader.order_stop_after(3)
    assert not world.run.stopped


def test_evaluation_is_timed_as_evaluation(rank: Ranks, state: State) -> None:
    world = rank()
    for _ in world.run.steps(state, until=1):
        with world.run.phase("eval"):
            assert world.reader.look().phase == "eval"
            with pytest.raises(KeyError), world.run.phase("data"):
                raise KeyError
            assert world.reader.look().phase == "eval"
        assert world.reader.look().phase == "step"


def test_only_two_phases_can_be_marked(rank: Ranks) -> None:
    with pytest.raises(ValueError, match="'eval' and 'data'"), rank().run.phase("done"):  # type: ignore[arg-type]
        pass


def test_what_the_loop_raises_is_raised(rank: Ranks, state: State) -> None:
    def train() -> None:
        for _ in rank().run.steps(state, until=3):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        train()


def test_a_loop_that_is_left_keeps_the_save_that_was_on_its_way(rank: Ranks, state: State) -> None:
    world = rank(save_every=2)
    for step in world.run.steps(state, until=9):
        if step == 3:
            break
    world.run.close()
    assert [note["step"] for note in world.notes("committed")] == [2]


def test_a_run_has_one_loop_of_steps(rank: Ranks, state: State) -> None:
    world = rank()
    list(world.run.steps(state, until=1))
    with pytest.raises(RuntimeError, match="one loop"):
        world.run.steps(state, until=2)


def test_a_failed_save_does_not_stop_training_but_a_failed_last_one_is_no_success(
    rank: Ranks, state: State, tmp_path: Path
) -> None:
    (tmp_path / "no-folder").write_text("a file stands where the checkpoints should go")
    world = rank(save_every=2, checkpoints=str(tmp_path / "no-folder"))
    with pytest.raises(RuntimeError, match="the last save, of step 5, failed"):
        list(world.run.steps(state, until=5))
    assert [note["step"] for note in world.notes("save_failed")] == [2, 4, 5]
    assert world.reader.look().step == 5


def test_alone_it_resumes_from_its_own_folder(tmp_path: Path, state: State, capsys: pytest.CaptureFixture[str]) -> None:
    alone = Place(checkpoints=str(tmp_path / "checkpoints"), save_every=2)
    assert list(open_run(alone).steps(state, until=7)) == [1, 2, 3, 4, 5, 6, 7]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step-00000006.a0w0",
        "step-00000007.a0w0",
    ]
    assert list(open_run(alone).steps(state, until=9)) == [8, 9]
    assert "resumed from step-00000007.a0w0 (step 7)" in capsys.readouterr().err


def test_alone_it_leaves_what_it_cannot_read_for_its_person(tmp_path: Path, state: State) -> None:
    alone = Place(checkpoints=str(tmp_path / "checkpoints"), save_every=2)
    list(open_run(alone).steps(state, until=6))
    file = tmp_path / "checkpoints/step-00000006.a0w0/manifest.json"
    whole = file.read_bytes()
    file.unlink()
    file.symlink_to(file)
    with pytest.raises(RuntimeError, match=r"step-00000006\.a0w0: manifest\.json: cannot be read: Too many levels"):
        list(open_run(alone).steps(state, until=8))
    file.unlink()
    file.write_bytes(whole)
    assert list(open_run(alone).steps(state, until=8)) == [7, 8]


def test_alone_it_sets_a_damaged_checkpoint_aside(
    tmp_path: Path, state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = Place(checkpoints=str(tmp_path / "checkpoints"), save_every=2)
    list(open_run(alone).steps(state, until=6))
    shard = next((tmp_path / "checkpoints/step-00000006.a0w0").glob("*.distcp"))
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 4
    shard.write_bytes(raw)
    assert list(open_run(alone).steps(state, until=6)) == [5, 6]
    assert "step-00000006.a0w0 is damaged and was not used" in capsys.readouterr().err
    assert (tmp_path / "checkpoints/step-00000006.a0w0.damaged").is_dir()
    assert (tmp_path / "checkpoints/step-00000006.a0w0").is_dir()

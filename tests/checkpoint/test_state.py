"""What may stand in a state, and that saving or restoring it changes nothing else."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from lastgood.restoring import Restored, RestoreFailed, restore
from lastgood.saving import Saver
from tests.checkpoint.training import build, same

NAME = "step-00000001.a0w0"
State = dict[str, Any]


def save(folder: Path, state: State) -> None:
    notes: list[dict[str, Any]] = []
    saver = Saver(str(folder), run="", attempt=0, world=0, rank=0, world_size=1, note=notes.append)
    saver.save(1, state, data_index=1)
    saver.close()
    assert [note["note"] for note in notes] == ["committed"], notes


def load(folder: Path, state: State) -> Restored | None:
    notes: list[dict[str, Any]] = []
    found = restore(str(folder), [(NAME, 1)], state, rank=0, world_size=1, note=notes.append)
    assert notes == []
    return found


def test_saving_before_the_first_step_changes_nothing(tmp_path: Path) -> None:
    never, saved, resumed = build(1), build(1), build(2)
    save(tmp_path, saved.state)
    torch.manual_seed(3)
    random.seed(3)
    meant = never.train(2)
    torch.manual_seed(3)
    random.seed(3)
    assert saved.train(2) == meant
    assert load(tmp_path, resumed.state) is not None
    torch.manual_seed(3)
    random.seed(3)
    assert resumed.train(2) == meant
    assert same(never.snapshot(), saved.snapshot())
    assert same(never.snapshot(), resumed.snapshot())


def test_nothing_to_restore_touches_nothing(tmp_path: Path) -> None:
    job = build(1)
    job.train(1)
    before, drawn = job.snapshot(), torch.get_rng_state()
    assert restore(str(tmp_path), [], job.state, rank=0, world_size=1, note=print) is None
    assert same(job.snapshot(), before)
    assert torch.equal(torch.get_rng_state(), drawn)


class Experts(nn.Module):
    """One expert is used, the other never gets a gradient and so has no optimizer state."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(2, 2)
        self.unused = nn.Linear(2, 2)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.used(batch)
        return out


def trained_experts(steps: int) -> tuple[Experts, torch.optim.Optimizer]:
    model = Experts()
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(steps):
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def test_a_parameter_without_optimizer_state_comes_back_without(tmp_path: Path) -> None:
    model, optimizer = trained_experts(2)
    save(tmp_path, {"model": model, "optimizer": optimizer})
    other, restored = trained_experts(0)
    assert load(tmp_path, {"model": other, "optimizer": restored}) is not None
    assert restored.state_dict()["state"].keys() == optimizer.state_dict()["state"].keys() == {0, 1}
    assert same(dict(other.state_dict()), dict(model.state_dict()))


def test_one_optimizer_may_hold_the_parameters_of_several_modules(tmp_path: Path) -> None:
    def pair() -> tuple[nn.Module, nn.Module, torch.optim.Optimizer]:
        one, two = nn.Linear(2, 2), nn.Linear(2, 2)
        optimizer = torch.optim.SGD([*one.parameters(), *two.parameters()], lr=0.1, momentum=0.9)
        two(one(torch.ones(1, 2))).sum().backward()
        optimizer.step()
        return one, two, optimizer

    one, two, optimizer = pair()
    save(tmp_path, {"one": one, "two": two, "optimizer": optimizer})
    first, second, restored = pair()
    assert load(tmp_path, {"one": first, "two": second, "optimizer": restored}) is not None
    for number, values in optimizer.state_dict()["state"].items():
        assert same(restored.state_dict()["state"][number], values)


def test_an_optimizer_of_parameters_that_are_not_saved_is_refused(tmp_path: Path) -> None:
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters())
    with pytest.raises(ValueError, match="'optimizer' holds 2 parameters of no module"):
        save(tmp_path, {"model": nn.Linear(2, 2), "optimizer": optimizer})


def test_what_cannot_be_pickled_is_the_users_to_hear(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="pickle"):
        save(tmp_path, {"hook": lambda: None})
    assert list(tmp_path.iterdir()) == []


def test_plain_values_come_back_where_the_user_holds_them(tmp_path: Path) -> None:
    save(tmp_path, {"epoch": 3, "seen": [1, 2], "best": {"loss": 0.5, "at": (1, 2)}, "mean": torch.tensor([1.5, 2.5])})
    seen: list[int] = []
    best: State = {"other": 0}
    mean = torch.zeros(2)
    state = {"epoch": 0, "seen": seen, "best": best, "mean": mean}
    assert load(tmp_path, state) is not None
    assert (state["epoch"], seen, best) == (3, [1, 2], {"loss": 0.5, "at": (1, 2)})
    assert torch.equal(mean, torch.tensor([1.5, 2.5]))


def test_a_value_that_was_not_saved_is_named(tmp_path: Path) -> None:
    save(tmp_path, {"epoch": 3})
    with pytest.raises(RestoreFailed, match="the checkpoint has no loss"):
        load(tmp_path, {"epoch": 0, "loss": 0.0})


def test_people_can_leave_with_their_data(tmp_path: Path) -> None:
    job = build(1)
    job.train(1)
    save(tmp_path, job.state)
    dcp_to_torch_save(str(tmp_path / NAME), str(tmp_path / "whole.pt"))
    left = torch.load(tmp_path / "whole.pt", weights_only=False)
    assert same(dict(left["model"]), dict(job.model.state_dict()))

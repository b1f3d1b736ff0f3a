"""Does a rank's state come back from memory, whole or not at all? One rank; worlds of several are end-to-end tests."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lastgood import header, memory
from lastgood.copies import Copy
from lastgood.memory import Memory
from lastgood.place import CopyPlace, Place

GIB = 1 << 30


class Loader:
    """A Stateful."""

    def __init__(self) -> None:
        self.position = 0

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def state_of(seed: int) -> dict[str, Any]:
    """A state whose every part has changed since it was made."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 4, bias=False))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01 * seed)
    return {
        "model": model,
        "optimizer": optimizer,
        "loader": Loader(),
        "epoch": 0,
        "ema": torch.zeros(3),
        "means": {"loss": torch.zeros(2), "seen": [0]},
    }


def train(state: dict[str, Any], steps: int = 3) -> None:
    """Change every part of it."""
    for _ in range(steps):
        state["model"](torch.randn(5, 8)).square().sum().backward()
        state["optimizer"].step()
        state["optimizer"].zero_grad()
        state["loader"].position += 5
        state["epoch"] += 1
        state["ema"] += 0.5
        state["means"]["loss"] += 1
        state["means"]["seen"].append(state["epoch"])


def told(state: dict[str, Any]) -> list[Any]:
    """Every value of it, to be compared."""
    kept = state["optimizer"].state_dict()
    return [
        *(value.tolist() for value in state["model"].state_dict().values()),
        *(
            [number, field, torch.as_tensor(v).tolist()]
            for number, f in kept["state"].items()
            for field, v in f.items()
        ),
        [dict(group) for group in kept["param_groups"]],
        state["loader"].position,
        state["epoch"],
        state["ema"].tolist(),
        state["means"]["loss"].tolist(),
        list(state["means"]["seen"]),
    ]


@pytest.fixture
def here(tmp_path: Path) -> Place:
    """Of the first world; an agent has made its files, empty."""
    paths = tmp_path / "copy.0", tmp_path / "copy.1"
    for path in paths:
        path.touch()
    return Place(run="r", attempt=1, world=1, memory=CopyPlace(paths=tuple(map(str, paths)), every=1))


def after(here: Place, world: int = 2, since: int | None = 1) -> Place:
    """The place of a later world."""
    assert here.memory is not None
    return replace(here, world=world, memory=replace(here.memory, since=since))


def opened(here: Place, notes: list[dict[str, Any]] | None = None, free: int = GIB) -> Memory:
    return Memory(here, note=(notes if notes is not None else []).append, available=lambda: free)


def copied(here: Place, steps: int = 3, **memory: Any) -> list[Any]:
    """A rank trains and copies after each step; what its state was after each."""
    state, of_steps = state_of(1), []
    copies = opened(here, **memory)
    for step in range(1, steps + 1):
        train(state, 1)
        of_steps.append(told(state))
        copies.copy(step, state, data_index=step, step_s=0.1)
    copies.close()
    return of_steps


def there(here: Place) -> list[Copy]:
    """Files that hold something."""
    assert here.memory is not None
    return [Copy(path) for path in here.memory.paths if os.path.getsize(path)]


def newest(here: Place) -> Copy:
    """The newest copy."""
    return max(there(here), key=memory._age)


def test_everything_comes_back_and_goes_on_as_if_nothing_had_been(here: Place) -> None:
    state = state_of(1)
    train(state)
    copies = opened(here)
    copies.copy(3, state, data_index=7, step_s=0.1)
    copies.close()
    draws = random.random(), torch.rand(2).tolist()
    other = state_of(2)
    ema, seen = other["ema"], other["means"]
    found = opened(after(here)).restore(other)
    assert found == memory.Found(world=1, step=3, data_index=7)
    assert told(other) == told(state)
    assert (random.random(), torch.rand(2).tolist()) == draws
    assert other["ema"] is ema, "a tensor is filled in place"
    assert other["means"] is seen
    torch.manual_seed(9)
    train(state)
    torch.manual_seed(9)
    train(other)
    assert told(other) == told(state)


def test_nothing_is_restored_that_is_not_of_this_run_and_trusted(here: Place) -> None:
    copied(here)
    before = told(state_of(2))
    for place, above in (
        (after(here, since=None), -1),
        (after(here, world=1, since=1), -1),
        (after(here, world=3, since=2), -1),
        (replace(after(here), run="other"), -1),
        (after(here), 3),
    ):
        state = state_of(2)
        assert opened(place).restore(state, above=above) is None
        assert told(state) == before


def test_copies_of_another_attempt_of_the_run_are_as_good(here: Place) -> None:
    copied(here)
    found = opened(replace(after(here), attempt=2)).restore(state_of(2))
    assert found is not None
    assert (found.step, found.from_peer) == (3, False)


def test_a_copy_that_was_never_finished_gives_way_to_the_one_before(here: Place) -> None:
    of_steps = copied(here)
    newest(here)._mark(1)
    state = state_of(2)
    found = opened(after(here)).restore(state)
    assert found is not None
    assert (found.step, told(state)) == (2, of_steps[1])


@pytest.mark.parametrize("seed", range(40))
def test_no_flipped_bit_reaches_a_model(here: Place, seed: int) -> None:
    """Wherever it is: the copy before is taken, or the flip was in bytes that mean nothing."""
    of_steps = copied(here)
    dice, target = random.Random(seed), newest(here)
    at = dice.randrange(96) if seed < 10 else dice.randrange(len(target._map))
    target._map[at] ^= 1 << dice.randrange(8)
    state = state_of(2)
    notes: list[dict[str, Any]] = []
    found = opened(after(here), notes).restore(state)
    assert found is not None
    assert told(state) == of_steps[found.step - 1]


def test_another_model_is_refused_and_left_as_it_is(here: Place) -> None:
    copied(here)
    state = {**state_of(2), "model": nn.Linear(8, 16)}
    weights = state["model"].weight.tolist()
    notes: list[dict[str, Any]] = []
    assert opened(after(here), notes).restore(state) is None
    assert state["model"].weight.tolist() == weights
    assert [note["why"].startswith("a copy was refused") for note in notes] == [True, True]


def test_copies_of_older_worlds_last_until_newer_ones_are_whole(here: Place) -> None:
    copied(here)
    state = state_of(2)
    third = opened(after(here, world=2))
    assert third.restore(state) is not None
    third.copy(4, state, data_index=4, step_s=0.1)
    third.close()
    assert sorted(map(memory._age, there(here))) == [(1, 3), (2, 4)]


@pytest.mark.parametrize(("free", "count"), [(GIB, 2), (400_000, 1), (100_000, 0)])
def test_as_many_copies_as_there_is_memory_for(here: Place, free: int, count: int) -> None:
    notes: list[dict[str, Any]] = []
    copied(here, notes=notes, free=free)
    assert len(there(here)) == count
    assert [note["count"] for note in notes] == [count]
    assert bool(notes[0]["why"]) == (count < 2)


def test_files_that_cannot_be_had_end_the_copies_and_not_the_training(here: Place) -> None:
    notes: list[dict[str, Any]] = []
    copied(replace(here, memory=CopyPlace(paths=("/gone/0", "/gone/1"), every=1)), notes=notes)
    assert [(note["note"], note["count"]) for note in notes] == [("copies", 0)]


def test_how_often_is_measured(here: Place) -> None:
    assert here.memory is not None
    place = replace(here, memory=replace(here.memory, every=0))
    state, copies, made = state_of(1), opened(place), set()
    for step in range(1, 400):
        copies.copy(step, state, data_index=step, step_s=0.01)
        copies.settle()
        made.add(newest(here).facts().step)  # type: ignore[union-attr]
    every = copies._every
    assert every > 1
    assert made == {*range(1, memory.MEASURED + 1), *range(every, 400, every)}
    copies.close()


def test_a_copy_is_given_the_time_to_come_to_another_node(here: Place) -> None:
    """The keeper notes what sending takes; here it takes as long as a hundred steps."""
    assert here.memory is not None
    state, copies = state_of(1), opened(replace(here, memory=replace(here.memory, every=0)))
    for step in range(1, memory.MEASURED + 1):
        copies.copy(step, state, data_index=step, step_s=1000.0)
        copies.settle()
        with open(newest(here).path, "rb+") as file:
            header.note_sent(file.fileno(), 0, 100_000.0)
    assert copies._every == 100 * memory.ARRIVES
    copies.close()


def test_a_state_that_grows_gets_more_room_while_there_is_some(here: Place) -> None:
    state, notes = state_of(1), list[dict[str, Any]]()
    copies = opened(here, notes, free=8 << 20)
    copies.copy(1, state, 1, 0.1)
    state["epoch"] = os.urandom(1 << 20)
    copies.copy(2, state, 2, 0.1)
    copies.settle()
    assert memory._age(newest(here)) == (1, 2)
    state["epoch"] = os.urandom(9 << 20)
    copies.copy(3, state, 3, 0.1)
    copies.copy(4, state, 4, 0.1)
    copies.close()
    assert [note["count"] for note in notes] == [2, 0]
    assert memory._age(newest(here)) == (1, 2), "what was whole stays whole"


def test_what_is_held_already_counts_as_room(here: Place) -> None:
    copied(here)
    notes: list[dict[str, Any]] = []
    later = opened(after(here), notes, free=1000)
    state = state_of(2)
    assert later.restore(state) is not None
    later.copy(4, state, 4, 0.1)
    later.close()
    assert [note["count"] for note in notes] == [2]

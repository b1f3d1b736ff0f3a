"""Does an ordered fault bite once, at the boundary it was ordered for, and say so first?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

import lastgood
from lastgood.run import open_run
from tests.sdk.ranks import Rank, advance

Ranks = Callable[..., Rank]
State = dict[str, Any]


def test_an_exception_is_raised_at_the_next_step_boundary(rank: Ranks, state: State) -> None:
    world = rank()
    steps = world.run.steps(state, until=9)
    assert [next(steps), next(steps)] == [1, 2]
    world.order(1, "exception")
    with pytest.raises(lastgood.Drill, match="drill 1: an exception was ordered after step 2"):
        next(steps)
    assert world.reader.look().step == 2
    assert [(note["drill"], note["number"]) for note in world.notes("drilled")] == [("exception", 1)]


def test_a_drill_can_wait_for_a_step(rank: Ranks, state: State) -> None:
    world = rank()
    world.order(1, "exception", step=5)
    with pytest.raises(lastgood.Drill, match="after step 5"):
        list(world.run.steps(state, until=9))


def test_a_drill_of_an_earlier_life_is_not_done_again(rank: Ranks, state: State) -> None:
    world = rank()
    world.order(3, "exception")
    # The number stands there before the rank begins: it is what an earlier one already did.
    reborn = open_run(world.place)
    assert list(reborn.steps(state, until=3)) == [1, 2, 3]
    assert world.notes("drilled") == []


def test_nan_reaches_the_loss_of_the_next_step_only_through_the_weights(rank: Ranks, state: State) -> None:
    world = rank()
    losses = {}
    for step in world.run.steps(state, until=3):
        losses[step] = advance(state)
        if step == 1:
            world.order(1, "nan")
    assert losses[1] == losses[1]
    assert losses[2] != losses[2]
    assert len(world.notes("drilled")) == 1


def test_nan_is_written_into_one_element_that_is_there(rank: Ranks) -> None:
    world = rank()
    model = torch.nn.Module()
    model.register_parameter("empty", torch.nn.Parameter(torch.empty(0, 4)))
    model.register_parameter("weight", torch.nn.Parameter(torch.ones(3, 4).t()))
    world.order(1, "nan")
    next(world.run.steps({"count": torch.ones(2), "model": model}, until=1))
    assert torch.isnan(model.get_parameter("weight")).sum() == 1


def test_nan_reaches_a_sharded_parameter(rank: Ranks) -> None:
    store = dist.HashStore()  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = torch.nn.Linear(4, 2)
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        world = rank()
        world.order(1, "nan")
        next(world.run.steps({"model": model}, until=1))
        assert isinstance(model.weight, DTensor)
        assert torch.isnan(model.bias.full_tensor()).sum() == 1
        assert torch.isnan(model(torch.ones(1, 4))).any()
    finally:
        dist.destroy_process_group()


def test_gradients_of_this_rank_are_inflated(rank: Ranks) -> None:
    model = torch.nn.Linear(4, 2)
    world = rank()
    gradients: list[torch.Tensor] = []
    for _ in world.run.steps({"model": model}, until=2):
        model.zero_grad()
        model(torch.ones(1, 4)).sum().backward()
        assert model.weight.grad is not None
        gradients.append(model.weight.grad)
        world.order(1, "gradient")
    assert torch.equal(gradients[1], 20 * gradients[0])


def test_gradients_of_a_sharded_model_are_inflated_before_they_are_averaged(rank: Ranks) -> None:
    store = dist.HashStore()  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        came_back: list[torch.Tensor] = []
        model[1].register_forward_pre_hook(lambda _module, inputs: inputs[0].register_hook(came_back.append) and None)
        world = rank()
        gradients: list[torch.Tensor] = []
        for _ in world.run.steps({"model": model}, until=2):
            model.zero_grad()
            model(torch.ones(1, 4)).sum().backward()
            gradients.append(model.get_parameter("0.weight").grad.full_tensor())  # type: ignore[union-attr]
            world.order(1, "gradient")
        torch.testing.assert_close(gradients[1], 20 * gradients[0])
        # What went through the layers was too large already.
        torch.testing.assert_close(came_back[1], 20 * came_back[0])
    finally:
        dist.destroy_process_group()


def test_an_unknown_fault_is_named(rank: Ranks, state: State) -> None:
    world = rank()
    world.order(1, "meteor")
    with pytest.raises(ValueError, match="no fault is called 'meteor'"):
        next(world.run.steps(state, until=1))

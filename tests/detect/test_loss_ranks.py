"""Whose own numbers left the others', in whatever order nodes tell them, and when is it nobody?"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence

import pytest

from monitors.detect.loss import Loss, LossConfig
from monitors.incidents import Incident, Kind, Subject
from monitors.signals import RanksReported, Signal, StepReported

Factor = Callable[[int, int], float]
"""step and rank to what the number is multiplied by"""
Order = Callable[[list[Signal]], Iterable[Signal]]


def nothing(_step: int, _rank: int) -> float:
    return 1.0


def broken(rank: int, factor: float, since: int = 201) -> Factor:
    return lambda step, one: factor if one == rank and step >= since else 1.0


class Nodes:
    """Ranks that train together, four a node; a norm and a loss of each, with the noise of its own data."""

    def __init__(self, ranks: int, *, per_node: int = 4, seed: int = 7) -> None:
        self.ranks, self.per_node = ranks, per_node
        self.dice = random.Random(seed)
        self.loss = Loss(LossConfig())
        self.now = 0.0
        self.speaks = True
        """rank 0 tells the means"""

    def tells(self, step: int, norm: Factor, loss: Factor) -> list[Signal]:
        """What is told of a step: the mean by rank 0, and the line of each node."""
        self.now += 1.0
        dice, fall = self.dice, 2.0 + 3.0 * math.exp(-step / 60)
        norms = [norm(step, r) * (1 + r % 3) * math.exp(dice.gauss(0, 0.2)) for r in range(self.ranks)]
        losses = [loss(step, r) * fall * math.exp(dice.gauss(0, 0.08)) for r in range(self.ranks)]
        row = StepReported(
            at=self.now, node=0, world=1, rank=0, step=step, loss=fall * math.exp(dice.gauss(0, 0.01)), grad_norm=1.0
        )
        return [
            *([row] if self.speaks else []),
            *(
                RanksReported(
                    at=self.now,
                    node=first // self.per_node,
                    world=1,
                    step=step,
                    ranks=tuple(range(first, min(first + self.per_node, self.ranks))),
                    losses=tuple(losses[first : first + self.per_node]),
                    grad_norms=tuple(norms[first : first + self.per_node]),
                )
                for first in range(0, self.ranks, self.per_node)
            ),
        ]

    def train(
        self, steps: Sequence[int], norm: Factor = nothing, loss: Factor = nothing, order: Order = iter
    ) -> list[Incident]:
        told = [signal for step in steps for signal in self.tells(step, norm, loss)]
        return [incident for signal in order(told) for incident in self.loss.see(signal)]


STEPS = range(1, 301)


@pytest.mark.parametrize("ranks", [2, 4, 16])
@pytest.mark.parametrize("factor", [20.0, 6.0, 0.1, 0.0])
def test_the_rank_whose_own_gradients_changed_is_named_once(ranks: int, factor: float) -> None:
    (shift,) = Nodes(ranks).train(STEPS, norm=broken(1, factor))
    assert (shift.kind, shift.subject, shift.onset_step) == (Kind.GRADIENT_SHIFT, Subject(node=0, rank=1), 201)
    assert shift.step is not None
    assert shift.step <= 224
    assert "the gradient norm of rank 1 alone stepped " + ("up" if factor > 1 else "down") in shift.evidence[0]


@pytest.mark.parametrize("factor", [2.7, 0.2])
def test_the_rank_whose_own_loss_left_the_others_is_named(factor: float) -> None:
    (shift,) = Nodes(16).train(STEPS, loss=broken(9, factor))
    assert (shift.kind, shift.subject, shift.onset_step) == (Kind.GRADIENT_SHIFT, Subject(node=2, rank=9), 201)
    assert "the loss of rank 9 alone" in shift.evidence[0]


def test_the_ranks_of_one_node_name_the_node() -> None:
    (shift,) = Nodes(16).train(STEPS, norm=lambda step, rank: 20.0 if step > 200 and rank // 4 == 2 else 1.0)
    assert shift.subject == Subject(node=2)
    assert "and 3 more" in shift.evidence[0]


@pytest.mark.parametrize("ranks", [2, 16])
def test_what_happens_to_all_ranks_is_no_ranks_own(ranks: int) -> None:
    both = Nodes(ranks)
    assert both.train(STEPS, norm=lambda step, _: 20.0 if step > 200 else 1.0) == []
    assert both.train(range(301, 500), loss=lambda *_: 1.5) == []


def test_equal_numbers_and_bursts_and_broken_ones_are_nothing() -> None:
    def burst(step: int, rank: int) -> float:
        if rank == 1 and step % 9 == 0:
            return math.inf
        return 30.0 if rank == 2 and step % 50 < 8 else 1.0

    assert Nodes(4).train(STEPS, norm=burst, loss=lambda step, rank: math.nan if rank == step % 4 else 1.0) == []


def test_nodes_may_speak_in_any_order_twice_and_late() -> None:
    def mixed(told: list[Signal]) -> Iterable[Signal]:
        # All words of node 1 come four steps late, some of them twice, and those of a step in any order.
        dice = random.Random(3)
        late = sorted(enumerate(told), key=lambda one: one[0] + (6 * isinstance(one[1], RanksReported)) * one[1].node)
        for _, signal in late:
            yield from [signal] * dice.choice([1, 1, 2])

    (shift,) = Nodes(8).train(STEPS, norm=broken(6, 20.0), order=mixed)
    assert (shift.subject, shift.onset_step) == (Subject(node=1, rank=6), 201)


def test_a_node_that_is_not_heard_holds_up_nobody() -> None:
    def half(told: list[Signal]) -> Iterable[Signal]:
        return (
            signal for signal in told if not (isinstance(signal, RanksReported) and signal.node and signal.at > 150)
        )

    (shift,) = Nodes(8).train(STEPS, norm=broken(2, 20.0), order=half)
    assert shift.subject == Subject(node=0, rank=2)


def test_a_loss_that_jumps_tells_whose_it_is() -> None:
    nodes = Nodes(4)
    nodes.train(range(1, 201))
    found: list[Incident] = []
    for step in range(201, 225):
        mean, *told = nodes.tells(step, nothing, broken(3, 9.0))
        assert isinstance(mean, StepReported)
        jumped = StepReported(at=mean.at, node=0, world=1, rank=0, step=step, loss=4.0, grad_norm=1.0)
        for signal in (jumped, *told):
            found += nodes.loss.see(signal)
    (spike,) = found
    assert spike.kind is Kind.LOSS_SPIKE
    assert spike.subject == Subject(), "it is evidence, and no verdict"
    assert any("the loss of rank 3 alone stepped up" in sentence for sentence in spike.evidence)


def test_the_norm_of_all_and_the_own_one_are_told_as_one() -> None:
    nodes, found = Nodes(4), list[Incident]()
    for step in STEPS:
        mean, *told = nodes.tells(step, broken(3, 20.0), nothing)
        assert isinstance(mean, StepReported)
        norm = (5.0 if step > 200 else 1.0) * math.exp(nodes.dice.gauss(0, 0.15))
        row = StepReported(at=mean.at, node=0, world=1, rank=0, step=step, loss=mean.loss, grad_norm=norm)
        for signal in (row, *told):
            found += nodes.loss.see(signal)
    (shift,) = found
    assert shift.subject == Subject(node=0, rank=3)


def test_after_a_rewind_it_is_told_again_only_if_it_comes_again() -> None:
    nodes = Nodes(4)
    assert len(nodes.train(range(1, 251), norm=broken(3, 20.0))) == 1
    nodes.loss.rewound(190)
    assert nodes.train(range(191, 400)) == []
    nodes.loss.rewound(350)
    assert len(nodes.train(range(351, 400), norm=broken(3, 20.0, since=1))) == 1


def test_who_is_still_broken_in_the_next_world_is_told_again() -> None:
    nodes = Nodes(4)
    assert len(nodes.train(STEPS, norm=broken(3, 20.0))) == 1
    nodes.loss.world_began(2)
    assert len(nodes.train(range(250, 300), norm=broken(3, 20.0))) == 1


def test_who_watches_no_loss_is_told_nothing() -> None:
    nodes = Nodes(4)
    nodes.loss = Loss(LossConfig(enabled=False))
    assert nodes.train(STEPS, norm=broken(3, 20.0)) == []


def test_data_that_are_hard_for_one_rank_for_long_are_not_taken_for_a_fault() -> None:
    """Each rank reads documents in a row: its loss wanders by a third for dozens of steps."""
    for seed in range(3):
        nodes = Nodes(16, seed=seed)
        wander = [0.0] * nodes.ranks

        def hard(_step: int, rank: int, *, nodes: Nodes = nodes, wander: list[float] = wander) -> float:
            wander[rank] = 0.97 * wander[rank] + nodes.dice.gauss(0, 0.05)
            return math.exp(wander[rank])

        assert nodes.train(range(1, 1001), norm=hard, loss=hard) == []

"""A loss that falls too well, and one that is only learned well."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import pytest

from monitors.detect.loss import Loss, LossConfig
from monitors.incidents import Incident, Kind
from monitors.signals import StepReported


def follow(losses: Iterable[float]) -> list[Incident]:
    detector = Loss(LossConfig())
    return [
        incident
        for step, loss in enumerate(losses, start=1)
        for incident in detector.see(StepReported(at=float(step), node=0, world=1, rank=0, step=step, loss=loss))
    ]


def plateau(rows: int, level: float = 2.5, noise: float = 0.02, seed: int = 1) -> list[float]:
    dice = random.Random(seed)
    return [level * (1 + dice.gauss(0, noise)) for _ in range(rows)]


@pytest.mark.parametrize("rows", [15, 40, 80], ids=lambda rows: f"halved in {rows} rows")
def test_one_batch_again_and_again(rows: float) -> None:
    repeated = [0.02 + 2.48 * 2 ** (-row / rows) for row in range(200)]
    (note,) = follow([*plateau(300), *repeated])
    assert note.kind is Kind.LOSS_TOO_GOOD
    assert note.onset_step is not None
    assert abs(note.onset_step - 301) <= 5
    assert note.step <= 300 + 0.7 * rows + 20


def test_when_the_loader_lets_go_the_harm_is_dated_to_the_fall() -> None:
    repeated = [0.02 + 2.48 * 2 ** (-row / 20) for row in range(150)]
    note, jump = follow([*plateau(300), *repeated, *plateau(40, level=3.0, seed=2)])
    assert (note.kind, jump.kind) == (Kind.LOSS_TOO_GOOD, Kind.LOSS_SPIKE)
    assert jump.onset_step == note.onset_step


def test_an_answer_in_the_input() -> None:
    found = follow([*plateau(300), *plateau(60, level=0.1, noise=0.2)])
    assert [note.kind for note in found] == [Kind.LOSS_TOO_GOOD]


@pytest.mark.parametrize("seed", range(4))
def test_learning_is_not_too_good(seed: int) -> None:
    dice = random.Random(seed)
    descent = [2.5 + 8 * math.exp(-row / 35) + dice.gauss(0, 0.05) for row in range(600)]
    epochs = [level * (1 + dice.gauss(0, 0.1)) for level in (2.0, 1.3, 0.8) for _ in range(200)]
    assert follow(descent) == []
    assert follow(epochs) == []


def test_a_loss_that_has_no_scale_is_not_judged() -> None:
    assert follow([*[value - 2.5 for value in plateau(300)], *[-5.0 - row / 100 for row in range(100)]]) == []

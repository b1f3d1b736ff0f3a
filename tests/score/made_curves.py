"""What do loss curves look like whose faults are known to the row? Made ones: a descent, a noise, and one event.

The shapes are those of recorded runs: a spike falls back exponentially, a lost restore stays up, a warm-up that began
anew creeps, half precision leaves few distinct values, mixed data makes the noise lumpy. One seed, one set of curves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from random import Random

from tests.score.curves import Curve, Event

ROWS = 900
LOWEST = 2.5
Noise = Callable[[Random], Iterator[float]]
Shape = Callable[[float, int], float]
"""height of the event and rows since it began, to the share of the level that is added"""


def gaussian(dice: Random) -> Iterator[float]:
    """Batches alike."""
    while True:
        yield dice.gauss(0, 0.015)


def lumpy(dice: Random) -> Iterator[float]:
    """Two sources of data, one of them harder."""
    while True:
        yield dice.gauss(0.05 if dice.random() < 0.3 else 0.0, 0.01)


def correlated(dice: Random) -> Iterator[float]:
    """Unshuffled shards: neighbours are alike."""
    value = 0.0
    while True:
        value = 0.8 * value + dice.gauss(0, 0.008)
        yield value


def heavy(dice: Random) -> Iterator[float]:
    """Small batches: now and then one is far off."""
    while True:
        yield dice.gauss(0, 0.02) / max(0.4, abs(dice.gauss(0, 1)))


NOISES: dict[str, Noise] = {"gaussian": gaussian, "lumpy": lumpy, "correlated": correlated, "heavy": heavy}
SHAPES: dict[str, tuple[str, Shape, int]] = {
    "plateau": ("sustained", lambda height, _: height, 200),
    "rise": ("divergence", lambda height, row: height * row / 40, 200),
    "blow_up": ("divergence", lambda height, row: 0.02 * math.exp(row / 8) * height if row < 60 else 50 * height, 200),
    "half_back": ("sustained", lambda height, row: height * (0.6 + 0.4 * math.exp(-row / 6)), 200),
    "spike": ("transient", lambda height, row: height * math.exp(-row / 3), 8),
    "slow_spike": ("transient", lambda height, row: height * math.exp(-row / 8), 20),
    "outlier": ("outlier", lambda height, row: height if row == 0 else 0.0, 1),
    "nan": ("nan", lambda _, __: math.nan, 200),
}


def _level(row: int) -> float:
    return LOWEST + 8.0 * math.exp(-row / 40) + 0.8 * math.exp(-row / 400)


def _curve(name: str, shape: str | None, noise: Noise, dice: Random, *, half: bool) -> Curve:
    first, height = dice.randrange(250, 600), dice.choice((0.3, 0.6, 1.5))
    kind, added, lasts = SHAPES[shape] if shape else ("", lambda _, __: 0.0, 0)
    rows = []
    for row, odd in zip(range(ROWS), noise(dice), strict=False):
        during = shape is not None and first <= row
        loss = _level(row) * (1 + odd + (added(height, row - first) if during else 0.0))
        rows.append((float(row), _half(loss) if half else loss, None))
    events = (Event(kind=kind, first=first, last=min(ROWS, first + lasts) - 1),) if shape else ()
    return Curve(name=name, rows=rows, events=events)


def _half(value: float) -> float:
    """As bfloat16 keeps it: eight bits."""
    if not math.isfinite(value) or value == 0:
        return value
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(mantissa * 256) / 256, exponent)


def made(seed: int = 1, of_each: int = 2) -> list[Curve]:
    """Every shape in every noise, and as many without an event, some in half precision."""
    dice = Random(seed)
    shapes = [*SHAPES, *[None] * 4]
    return [
        _curve(f"{shape or 'clean'}, {noise} {number}", shape, NOISES[noise], dice, half=number % 2 == 1)
        for number in range(of_each)
        for noise in NOISES
        for shape in shapes
    ]

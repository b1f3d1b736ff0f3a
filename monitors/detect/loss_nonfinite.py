"""Did the numbers break? NaN, infinity, and what some trainers log instead of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import isfinite


@dataclass(frozen=True, slots=True, kw_only=True)
class NonfiniteConfig:
    """Counts are rows."""

    gradients: int = 4
    """non-finite gradient norms among `gradient_rows`: fp16 loss scaling makes single ones on healthy runs (7 in
    23,000 steps), both recorded fp16 deaths began with 4 within 17"""
    gradient_rows: int = 20
    zeros: int = 3
    """losses of exactly 0 in a row: Hugging Face's Trainer logs 0.0 in place of NaN"""
    rearm_rows: int = 12
    """finite rows after which a new one is news"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """What broke, and how many rows ago it began."""

    what: str
    onset: int


class Nonfinite:
    """Follows the rows of one run; tells each breakage once."""

    def __init__(self, config: NonfiniteConfig) -> None:
        self.config = config
        self._gradients: deque[bool] = deque(maxlen=config.gradient_rows)
        self._zeros = 0
        self._sound_rows = config.rearm_rows

    def see(self, loss: float | None, grad_norm: float | None, *, zeros_are_normal: bool) -> Broken | None:
        """One row. None stands for what was not reported."""
        self._zeros = self._zeros + 1 if loss == 0.0 and not zeros_are_normal else 0
        if grad_norm is not None:
            self._gradients.append(not isfinite(grad_norm))
        broken = self._broken(loss)
        if broken is None:
            self._sound_rows += 1
            return None
        is_news = self._sound_rows >= self.config.rearm_rows
        self._sound_rows = 0
        return broken if is_news else None

    def _broken(self, loss: float | None) -> Broken | None:
        if loss is not None and not isfinite(loss):
            return Broken(what=f"the loss is {loss}", onset=0)
        if self._zeros >= self.config.zeros:
            what = f"the loss is exactly 0 in {self._zeros} rows in a row: a NaN that the trainer hides"
            return Broken(what=what, onset=self._zeros - 1)
        broken = sum(self._gradients)
        if broken >= self.config.gradients:
            what = f"{broken} of the last {len(self._gradients)} gradient norms are not finite"
            return Broken(what=what, onset=len(self._gradients) - 1 - self._gradients.index(True))
        return None

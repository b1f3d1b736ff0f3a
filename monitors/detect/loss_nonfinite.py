"""Did the numbers break or die? NaN, infinity, what some trainers log instead of them, and a run that only looks alive.

A dead half-precision run goes on for thousands of steps: the loss is printed as 0.0, the gradient norm as exactly 0, or
the loss is the same number again and again. What a run showed before and came out of is normal for it.
"""

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
    suspect_gradients: int = 2
    suspect_rows: int = 10
    """so many among so few are not concluded from, but saves wait"""
    scaling_rows: int = 40
    """in a row, where less than `gradient_rows` finite ones were seen since the start: dynamic loss scaling looks for
    its scale from above, and every step of that overflows (from 2^32, about 16)"""
    zeros: int = 3
    """losses of exactly 0 in a row: Hugging Face's Trainer logs 0.0 in place of NaN"""
    vanished: int = 10
    """gradient norms of (nearly) 0 in a row, where that was not usual"""
    vanished_below: float = 1e-6
    """of the usual gradient norm"""
    constant: int = 40
    """losses of exactly the same value in a row, where that was not usual"""
    streak_factor: int = 4
    """times as long as any such streak that ended: sparse rewards and few bits repeat values on healthy runs"""
    learn_rows: int = 40
    """with a moving loss, a usual norm, before the last two are judged"""
    rearm_rows: int = 12
    """sound rows after which a new one is news"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """What broke, and how many rows ago it began."""

    what: str
    onset: int


class Streak:
    """Rows in a row of something that should not last, and how long it lasted when it was harmless."""

    def __init__(self, least: int, factor: int) -> None:
        self._least, self._factor = least, factor
        self._longest = 0
        self.rows = 0

    def see(self, on: bool) -> None:
        """One row."""
        if on:
            self.rows += 1
        elif self.rows:
            self._longest = max(self._longest, self.rows)
            self.rows = 0

    @property
    def is_odd(self) -> bool:
        """Longer than it may be, and than it ever was."""
        return self.rows >= self._least and self.rows >= self._factor * self._longest


class Nonfinite:
    """Follows the rows of one run; tells each breakage once."""

    def __init__(self, config: NonfiniteConfig) -> None:
        self.config = config
        self._gradients: deque[bool] = deque(maxlen=config.gradient_rows)
        self._overflows = 0
        self._sound_norms = 0
        self._zeros = 0
        self._vanished = Streak(config.vanished, config.streak_factor)
        self._constant = Streak(config.constant, config.streak_factor)
        self._last_loss: float | None = None
        self._moves = 0
        self._usual_norm = 0.0
        self._usual_rows = 0
        self._sound_rows = config.rearm_rows

    def started(self) -> None:
        """The ranks are new ones, and so may be their loss scale."""
        self._sound_norms = self._overflows = 0
        self._gradients.clear()

    @property
    def suspected_for(self) -> int:
        """Rows since gradient norms began to break; 0 when they do not, or are expected to."""
        if not any(self._gradients) or not self._is_scaled:
            return 0
        recent = list(self._gradients)[-self.config.suspect_rows :]
        return len(recent) - recent.index(True) if sum(recent) >= self.config.suspect_gradients else 0

    @property
    def _is_scaled(self) -> bool:
        return self._sound_norms >= self.config.gradient_rows or self._overflows >= self.config.scaling_rows

    def see(self, loss: float | None, grad_norm: float | None, *, zeros_are_normal: bool) -> Broken | None:
        """One row. None stands for what was not reported."""
        broken_norm = grad_norm is not None and not isfinite(grad_norm)
        odd_zero = loss == 0.0 and (broken_norm or not zeros_are_normal)
        self._zeros = self._zeros + 1 if odd_zero else 0
        if loss is not None:
            self._compare(loss)
        if grad_norm is not None:
            self._gradients.append(broken_norm)
            self._overflows = self._overflows + 1 if broken_norm else 0
            self._sound_norms += not broken_norm
            self._follow(grad_norm)
        sound = (loss is None or isfinite(loss)) and not self._zeros and not self._gradients
        broken = None if sound else self._broken(loss)
        if broken is None and (self._vanished.rows or self._constant.rows):
            broken = self._dead()
        if broken is None:
            self._sound_rows += 1
            return None
        return self._news(broken)

    def _compare(self, loss: float) -> None:
        same = loss == self._last_loss
        self._moves += not same
        if same or self._constant.rows:
            # What is printed with few digits repeats by rounding.
            self._constant.see(same and self._moves >= self.config.learn_rows and float(f"{loss:.3g}") != loss)
        self._last_loss = loss

    def _follow(self, norm: float) -> None:
        vanished = norm <= self.config.vanished_below * self._usual_norm
        self._vanished.see(vanished and self._usual_rows >= self.config.learn_rows)
        if isfinite(norm) and not vanished:
            # A burst doubles this at most: it is only there to know what nearly nothing is.
            self._usual_rows += 1
            self._usual_norm += 0.1 * (min(norm, 10 * self._usual_norm or norm) - self._usual_norm)

    def _news(self, broken: Broken) -> Broken | None:
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
        if broken >= self.config.gradients and self._is_scaled:
            what = f"{broken} of the last {len(self._gradients)} gradient norms are not finite"
            return Broken(what=what, onset=len(self._gradients) - 1 - self._gradients.index(True))
        return None

    def _dead(self) -> Broken | None:
        if self._vanished.is_odd:
            rows = self._vanished.rows
            what = f"the gradient norm is nothing in {rows} rows in a row: no more is learned"
            return Broken(what=what, onset=rows - 1)
        if self._constant.is_odd:
            rows = self._constant.rows
            what = f"the loss is exactly {self._last_loss} in {rows + 1} rows in a row: the run is not training"
            return Broken(what=what, onset=rows)
        return None

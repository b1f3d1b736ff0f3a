"""Does the loss scale of a half-precision run collapse?

A scaler halves its scale at every overflow and doubles it after some hundred sound steps, so a scale that is found
stays within a few halvings. GLM-130B's collapsed thirty steps before its loss exploded. The first search from above is
normal.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import isfinite


@dataclass(frozen=True, slots=True, kw_only=True)
class LossScaleConfig:
    """Counts are rows."""

    settled: int = 40
    """without a fall: the search from above is over, of which every row falls"""
    window: int = 200
    """in which the fall must lie: a scale that sinks over thousands of steps follows gradients that grow"""
    fall: float = 64.0
    """six halvings; scalers of healthy runs were seen to lose four"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collapsed:
    """The scale fell by more than searching explains."""

    onset_step: int
    onset_at: float
    usual: float
    now: float


class LossScale:
    """Follows the scale that one rank reports; tells each collapse once."""

    def __init__(self, config: LossScaleConfig | None = None) -> None:
        self.config = config or LossScaleConfig()
        self.started()

    def started(self) -> None:
        """The ranks are new ones, and search again."""
        self._rows: deque[tuple[int, float, float]] = deque(maxlen=self.config.window)
        self._steady = 0
        self._told = False

    def see(self, step: int, at: float, scale: float | None) -> Collapsed | None:
        """One row; None for what was not reported."""
        if scale is None or not isfinite(scale) or scale <= 0.0:
            return None
        fell = bool(self._rows) and scale < self._rows[-1][2]
        if self._steady < self.config.settled:
            self._steady = 0 if fell else self._steady + 1
            self._rows.append((step, at, scale))
            if self._steady < self.config.settled:
                return None
            while self._rows[0][2] > scale:  # what it came down from while it searched
                self._rows.popleft()
            return None
        self._rows.append((step, at, scale))
        top = max(row[2] for row in self._rows)
        if scale > top / self.config.fall:
            self._told = self._told and scale <= 4 * top / self.config.fall
            return None
        if self._told:
            return None
        self._told = True
        last = max(index for index, row in enumerate(self._rows) if row[2] == top)
        onset = self._rows[min(last + 1, len(self._rows) - 1)]
        return Collapsed(onset_step=onset[0], onset_at=onset[1], usual=top, now=scale)

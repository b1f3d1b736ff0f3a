"""Does the loss fall too well?

A loader that repeats a batch, or data that contains its answers, shows as a loss that leaves a plateau downwards and
smoothly: the scatter between batches goes with it. Learning that is real keeps the scatter of its data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class TooGoodConfig:
    """Counts are rows."""

    rows: int = 16
    """the newest, that may be too good"""
    gap_rows: int = 32
    """before them, in which the fall may be under way"""
    plateau_rows: int = 96
    """before those: what was usual"""
    steady: float = 0.9
    """a plateau's later half is above this share of its earlier half: else the run is on its first descent"""
    fall: float = 0.7
    """of the plateau: lower is a fall"""
    calm: float = 0.15
    """of the plateau's scatter: lower is too smooth"""
    nothing: float = 0.1
    """of the plateau: lower is too good in any case"""

    @property
    def rows_needed(self) -> int:
        """To judge the newest."""
        return self.plateau_rows + self.gap_rows + self.rows


@dataclass(frozen=True, slots=True, kw_only=True)
class TooGood:
    """The loss fell too well."""

    onset: int
    """rows ago that it left the plateau"""
    usual: float
    now: float
    scatter: float
    """of the plateau's"""


def too_good(rows: Sequence[float], config: TooGoodConfig) -> TooGood | None:
    """The newest `config.rows_needed` losses, oldest first; losses that are not above 0 have no scale to fall on."""
    plateau, new = rows[: config.plateau_rows], rows[-config.rows :]
    usual, now = median(plateau), median(new)
    if not 0 < now < config.fall * usual:
        return None
    half = config.plateau_rows // 2
    if median(plateau[half:]) < config.steady * median(plateau[:half]):
        return None
    noise = _scatter(plateau)  # few bits may show none
    scatter = _scatter(new) / noise if noise > 0 else 1.0
    if scatter > config.calm and now > config.nothing * usual:
        return None
    lowest = sorted(plateau)[len(plateau) // 20]
    left = next((back for back, loss in enumerate(reversed(rows)) if loss >= lowest), 0)
    return TooGood(onset=max(0, left - 1), usual=usual, now=now, scatter=scatter)


def _scatter(rows: Sequence[float]) -> float:
    """How far a row lies from the middle of its neighbours: a slope makes none."""
    return median(abs(rows[i] - (rows[i - 1] + rows[i + 1]) / 2) for i in range(1, len(rows) - 1))

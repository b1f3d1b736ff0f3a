"""What became of a run's power limits?"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Capping:
    """What the nodes answered."""

    least_w: float = 0.0
    """of a GPU: no share may be smaller"""
    refused: str = ""
    """why limits cannot be set; empty: as far as is known they can"""
    may_draw: tuple[tuple[int, float], ...] = ()
    """(node, watts) that its GPUs may draw together, as told last"""

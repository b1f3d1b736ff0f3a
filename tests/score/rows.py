"""What does one line of the score table say?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How well one family of senses, or one of its classes, did."""

    family: str
    """kernel, tracebacks, hangs, stragglers, power, loss"""
    what: str
    """the class, or the detector, or `all`"""
    cases: int
    precision: float | None = None
    recall: float | None = None
    target: str = ""
    """what was asked for, in words; empty: nothing"""
    met: bool | None = None
    more: Mapping[str, float] = field(default_factory=dict)
    """further numbers by name, units last"""

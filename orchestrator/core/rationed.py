"""What may a person have given a run to spend? Events like all others (`events.py`), with somebody behind each.

Journal format: fields are only ever added, with defaults.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.core.limits import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetChanged:
    """A person gives the run more or less to spend."""

    at: float
    by: str
    limits: Limits
    """all of them, from now on"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerBudgetChanged:
    """A person says how much power the run's GPUs may draw."""

    at: float
    by: str
    watts: float | None
    """all of them together; None: as much as they can"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerCapped:
    """The power limits of a node's GPUs were set, or could not be."""

    at: float
    node: int
    watts: float | None
    """of each, as ordered; None: put back"""
    may_draw_w: float | None = None
    """all GPUs of the node, by the limits that hold now; None: not known"""
    least_w: float | None = None
    """that each may be limited to"""
    why: str = ""
    """it could not be done: the limits are what they were before the first order"""

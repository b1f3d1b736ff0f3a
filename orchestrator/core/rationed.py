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


Rationed = BudgetChanged

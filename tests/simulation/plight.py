"""How is a worker?"""

from __future__ import annotations

from enum import StrEnum


class Plight(StrEnum):
    """How a worker is."""

    WELL = "well"
    STOPPED = "stopped"
    SPINNING = "spinning"
    BLOCKED = "blocked"
    """in a call of the kernel that does not return"""
    DEAD = "dead"


WELL, DEAD = Plight.WELL, Plight.DEAD

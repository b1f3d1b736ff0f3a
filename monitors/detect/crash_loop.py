"""Is this the same failure at the same step again? Then a restart would only meet it once more.

A failure that comes back at the very step where it struck before is caused by the code or by the data of that step.
A failure elsewhere, or another one in between, breaks the row: the run gets past it by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

TIMES = 3
"""two may be a coincidence; a third restart costs seconds, a run held for nothing costs hours"""
TIMES_CERTAIN = 2
"""for what nothing but a person can change: code, configuration, a checkpoint of another model; one repeat proves it"""


def repeats(history: Sequence[tuple[str, int]], fingerprint: str, step: int, times: int = TIMES) -> bool:
    """True when this failure is the `times`-th in a row with the same fingerprint at the same step.

    `history` holds (fingerprint, step) of the failures before this one, oldest first. An empty fingerprint is like
    no other.
    """
    assert times >= 1
    if not fingerprint:
        return False
    before = history[len(history) - times + 1 :] if len(history) >= times - 1 else ()
    return len(before) == times - 1 and all(one == (fingerprint, step) for one in before)

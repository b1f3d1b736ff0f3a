"""Is the slow rank named, soon, and nobody where there is none? Simulated runs, and recorded ones where there are some.

Precision: of the incidents, those that name the culprit. Recall: of the faults, those whose culprit was named. The
delay is in steps from the first slow one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from tests.score.recorded import straggler_cases
from tests.score.rows import Row
from tests.score.straggler_scenes import Case, cases

EACH = 12
"""runs of each scene: 228 in all"""
DELAY_STEPS = 3


def score(folder: Path) -> list[Row]:
    """A row for each scene, one for all; and one for recorded cases, if the folder has them."""
    rows = table(cases(EACH))
    recorded = straggler_cases(folder)
    return [*rows, overall("recorded", recorded)] if recorded else rows


def table(found: Iterable[Case]) -> list[Row]:
    """Scene by scene, then all."""
    scenes: dict[str, list[Case]] = {}
    for case in found:
        scenes.setdefault(case.name, []).append(case)
    every = [case for group in scenes.values() for case in group]
    return [*(_scene(name, group) for name, group in scenes.items()), overall("all", every)]


def overall(what: str, every: Sequence[Case]) -> Row:
    """All cases against the targets."""
    row = _scene(what, every)
    late = row.more.get("delay_median_steps", 0.0)
    met = (row.precision or 0.0) >= 0.99 and (row.recall or 0.0) >= 0.95 and late <= DELAY_STEPS
    return Row(
        family=row.family,
        what=what,
        cases=row.cases,
        precision=row.precision,
        recall=row.recall,
        target=f"precision 0.99, recall 0.95, median delay {DELAY_STEPS} slow steps",
        met=met,
        more=row.more,
    )


def _scene(name: str, group: Sequence[Case]) -> Row:
    faults = [case for case in group if case.fault]
    said = [(case, incident) for case in group for _, incident in case.incidents]
    right = [pair for pair in said if pair[0].names(pair[1])]
    delays = [case.right - case.onset + 1 for case in faults if case.right is not None]
    more: dict[str, float] = {"innocent": len(group) - len(faults), "wrongly_told": len(said) - len(right)}
    if delays:
        more |= {"delay_median_steps": median(delays), "delay_most_steps": max(delays)}
    return Row(
        family="stragglers",
        what=name,
        cases=len(group),
        precision=len(right) / len(said) if said else None,
        recall=len(delays) / len(faults) if faults else None,
        more=more,
    )

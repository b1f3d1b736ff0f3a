"""Does the power of GPUs point at the right one, and is nobody told of what is normal? Generated traces.

Two things are scored. An incident (`power_drop`, `gpu_degraded`): precision of all that were told, recall of the
faults, the right subject. A witness: after the onset, does the most telling one point at the culprit, and after how
many polls? Witnesses of innocent traces are no errors: power did drop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from monitors.detect.power import Power
from monitors.incidents import Incident
from tests.score.power_scenes import traces
from tests.score.power_traces import Trace
from tests.score.recorded import power_traces
from tests.score.rows import Row

EACH = 10
"""traces of each scene: 240 in all"""
WITNESS_POLLS = 6


@dataclass
class Heard:
    """What the detector said of one trace."""

    trace: Trace
    incidents: list[Incident] = field(default_factory=list)
    witness_at: float | None = None
    """first moment after the onset at which the most telling witness pointed at the culprit"""

    @property
    def right(self) -> Incident | None:
        """The first incident that is of the labelled kind and subject."""
        return next((incident for incident in self.incidents if self.is_right(incident)), None)

    def is_right(self, incident: Incident) -> bool:
        """Kind and subject are the labelled ones."""
        subject = (incident.subject.node, incident.subject.rank)
        return incident.kind == self.trace.kind and subject == (self.trace.node, self.trace.rank)


def heard(trace: Trace) -> Heard:
    """Let the detector hear a trace."""
    rank_of: Callable[[int, int], int | None] | None = None
    if trace.ranks_per_node < 8:
        rank_of = lambda node, index: node * 8 + index if index < trace.ranks_per_node else None  # noqa: E731
    power = Power(ranks_per_node=8, role_of=lambda rank: trace.roles.get(rank, ""), rank_of=rank_of)
    found, asked_at = Heard(trace), float("-inf")
    for signal in trace.signals:
        found.incidents += power.see(signal)
        if found.witness_at is None and trace.fault and signal.at >= max(trace.onset, asked_at + trace.poll_s / 4):
            asked_at = signal.at
            top = power.witnesses[:1]
            if top and (top[0].subject.node, top[0].subject.rank) in _suspects(trace):
                found.witness_at = signal.at
    return found


def _suspects(trace: Trace) -> set[tuple[int | None, int | None]]:
    """The culprit; of a node, any of its ranks as well."""
    if trace.rank is not None or trace.node is None:
        return {(trace.node, trace.rank)}
    return {(trace.node, None), *((trace.node, trace.node * 8 + index) for index in range(8))}


def score(folder: Path) -> list[Row]:
    """A row for each scene, one for all; and one for recorded traces, if the folder has them."""
    rows = table(heard(trace) for trace in traces(EACH))
    recorded = [heard(trace) for trace in power_traces(folder)]
    return [*rows, overall("recorded", recorded)] if recorded else rows


def table(found: Iterable[Heard]) -> list[Row]:
    """Scene by scene, then all."""
    scenes: dict[str, list[Heard]] = {}
    for one in found:
        one.trace.signals = []
        scenes.setdefault(one.trace.name, []).append(one)
    every = [one for group in scenes.values() for one in group]
    return [*(_scene(name, group) for name, group in scenes.items()), overall("all", every)]


def overall(what: str, every: Sequence[Heard]) -> Row:
    """All traces against the targets."""
    row = _scene(what, every)
    met = (row.precision or 0.0) >= 0.99 and (row.recall or 0.0) >= 0.95
    target = "precision 0.99, recall 0.95"
    return Row(
        family="power",
        what=what,
        cases=row.cases,
        precision=row.precision,
        recall=row.recall,
        target=target,
        met=met,
        more=row.more,
    )


def _scene(name: str, group: Sequence[Heard]) -> Row:
    faults = [one for one in group if one.trace.fault]
    said = [(one, incident) for one in group for incident in one.incidents]
    right = [one for one, incident in said if one.is_right(incident)]
    told = [one for one in faults if one.right is not None]
    polls = [(one.witness_at - one.trace.onset) / one.trace.poll_s for one in faults if one.witness_at is not None]
    more: dict[str, float] = {"innocent": len(group) - len(faults), "wrongly_told": len(said) - len(right)}
    if polls:
        more |= {"witness_right": len(polls) / len(faults), "witness_median_polls": median(polls)}
    if told:
        late = [(one.right.at - one.trace.onset) / one.trace.poll_s for one in told if one.right is not None]
        more["told_median_polls"] = median(late)
    return Row(
        family="power",
        what=name,
        cases=len(group),
        precision=len(right) / len(said) if said else None,
        recall=len(told) / len(faults) if faults else None,
        more=more,
    )

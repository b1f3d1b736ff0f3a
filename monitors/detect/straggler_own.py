"""How long did each rank take for a step, by its own clock?

From two kinds of report, never mixed: rows of steps, whose seconds hold the wait for everybody else, and what the ranks
of a node tell of themselves, which leaves out the wait for their devices.
"""

from __future__ import annotations

from collections import deque

from monitors.detect.straggler_arrivals import OwnTimes
from monitors.signals import RanksReported

_STEPS_KEPT = 32
_TIMES_KEPT = 200_000
"""of a large world, fewer steps"""


class OwnReports:
    """Of the newest steps of a world; only of those that ended without a save or an evaluation in them."""

    def __init__(self, *, ranks: int) -> None:
        self._size = ranks
        self._kept = max(6, min(_STEPS_KEPT, _TIMES_KEPT // max(1, ranks)))
        self._rows: deque[tuple[int, dict[int, float]]] = deque(maxlen=_STEPS_KEPT)
        self._ended: deque[int] = deque(maxlen=64 * _STEPS_KEPT)
        """a large world tells of few of its steps"""
        self._alone: dict[int, dict[int, float]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def ended(self, step: int, took: dict[int, float]) -> None:
        """A step whose time tells something, and the rows of it that were heard."""
        self._rows.append((step, took))
        self._ended.append(step)

    def told(self, signal: RanksReported) -> bool:
        """The ranks of one node, in whatever order nodes and rows come; whether it was the last of its step."""
        ranks = self._alone.setdefault(signal.step, {})
        before = len(ranks)
        ranks.update(zip(signal.ranks, signal.own_s, strict=False))
        if len(self._alone) > self._kept:
            del self._alone[min(self._alone)]
        return before < len(ranks) == self._size

    def tables(self) -> tuple[OwnTimes, OwnTimes]:
        """By step and rank, in the order of steps. Steps that other nodes are yet to tell of are left out."""
        ended, most = set(self._ended), max(map(len, self._alone.values()), default=0)
        alone = {step: ranks for step, ranks in sorted(self._alone.items()) if step in ended and len(ranks) == most}
        return {step: took for step, took in self._rows if len(took) > 1}, alone

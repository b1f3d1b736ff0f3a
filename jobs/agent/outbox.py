"""Which reports does the supervisor not have yet? Facts are kept until heard, what is overtaken is thrown away."""

from __future__ import annotations

import asyncio
from collections import deque

from jobs.agent.orders import Report
from monitors.hardware import GpuEvent, GpuFailed, GpuLooked, HostLooked, KernelSaw
from monitors.signals import NodeSeen, RankProgress, RanksReported, Signal, StepReported

STEPS_KEPT = 20_000
"""finished steps kept for a supervisor that is away: the newest, about 30 MB and half an hour at 10 steps a second"""
LOOKS_KEPT = 1_000
"""looks at GPUs and host kept for it: five minutes of 8 GPUs, which is more than any detector looks back"""
RANKS_KEPT = 1_000
"""steps as each rank saw them kept for it: twice what the detectors learn from"""
SIGHTINGS_KEPT = 5_000
"""lines of the kernel and events of GPUs kept for it: a storm of them says nothing new after a while"""
SLACK = 1_000
"""numbers of overtaken reports that may wait to be sent, before they are thrown away too"""


class Outbox:
    """Reports in the order of their numbers. Numbers only grow, and have gaps where a report was overtaken."""

    def __init__(self) -> None:
        self._seq = 0
        self._taken = 0
        self._kept: dict[int, Signal] = {}
        self._unsent: deque[int] = deque()
        self._newest: dict[tuple[int, ...], int] = {}
        self._steps: deque[int] = deque()
        self._ranks: deque[int] = deque()
        self._looks: deque[int] = deque()
        self._sightings: deque[int] = deque()
        self.changed = asyncio.Event()
        """set when there is something to send"""

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def waiting(self) -> int:
        """Numbers that wait to be sent, those of overtaken reports included."""
        return len(self._unsent)

    def put(self, signal: Signal) -> None:
        """Keep a signal until it is heard."""
        self._seq += 1
        match signal:
            case RankProgress():
                self._overtake((signal.world, signal.rank))
            case NodeSeen():
                self._overtake(())
            case StepReported():
                self._keep_newest(self._steps, STEPS_KEPT)
            case RanksReported():
                self._keep_newest(self._ranks, RANKS_KEPT)
            case GpuLooked() | HostLooked():
                self._keep_newest(self._looks, LOOKS_KEPT)
            case KernelSaw() | GpuEvent() | GpuFailed():
                self._keep_newest(self._sightings, SIGHTINGS_KEPT)
        self._kept[self._seq] = signal
        self._unsent.append(self._seq)
        if len(self._unsent) > 2 * len(self._kept) + SLACK:  # nobody listens, perhaps for days
            self._unsent = deque(seq for seq in self._unsent if seq in self._kept)
        self.changed.set()

    def _keep_newest(self, among: deque[int], limit: int) -> None:
        among.append(self._seq)
        if len(among) > limit:
            self._kept.pop(among.popleft(), None)

    def _overtake(self, what: tuple[int, ...]) -> None:
        self._kept.pop(self._newest.get(what, 0), None)
        self._newest[what] = self._seq

    def take(self, limit: int) -> list[Report]:
        """The next reports to send, at most `limit`."""
        reports: list[Report] = []
        while self._unsent and len(reports) < limit:
            seq = self._unsent.popleft()
            if seq in self._kept:
                reports.append(Report(seq=seq, signal=self._kept[seq]))
                self._taken = seq if seq > self._taken else self._taken
        if not self._unsent:
            self.changed.clear()
        return reports

    def heard(self, seq: int) -> None:
        """Forget everything up to `seq`; a number that was never sent means another agent's reports."""
        if seq <= self._taken:
            for old in [old for old in self._kept if old <= seq]:
                del self._kept[old]

    def rewind(self) -> None:
        """A new connection: everything that was not heard goes out again."""
        self._unsent = deque(self._kept)
        self.changed.set()

"""What do the senses of a node tell of its hardware? Late, twice, by another clock, or nothing at all, as they do.

A real node is asked about once a second. Nothing could do that for simulated days, so here it is asked every
`LOOKS_APART` looks of its agent, at the beginning of a world, and every second around what breaks. The kernel's lines
are read by the real catalogue.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

from monitors import signals as s
from monitors.catalogue.kernel import Catalogue
from monitors.catalogue.kernel_story import Story, Told
from monitors.hardware import GpuEvent, KernelSaw
from tests.simulation.machines import Machine, Work
from tests.simulation.plight import Plight

if TYPE_CHECKING:
    from tests.simulation.agent import Agent
    from tests.simulation.cluster import Cluster

POLL_S, HOST_S = 1.0, 5.0
LOOKS_APART = 16
BEGIN_S = 3.0
"""for which the GPUs are asked when a world begins"""
LOOKBACK_S = 60.0
"""of the kernel's log that a new sense reads: `monitors/sense/kernel.py`"""
READ_S, AGAIN_S = 0.5, 20.0
"""most that a line waits to be read, and that something waits to be told a second time, in the same world"""
SENSES = ("kernel", "nvml", "host")


@cache
def catalogue() -> Catalogue:
    """One for all: it does not change."""
    return Catalogue()


class Senses:
    """Those of one agent."""

    def __init__(self, agent: Agent, cluster: Cluster, machine: Machine) -> None:
        self._agent = agent
        self._cluster = cluster
        self._machine = machine
        self._story = Story(catalogue())
        self._until = self._polled_at = self._hosted_at = float("-inf")
        self._looks = 0
        dice, knobs = cluster.hardware_dice, cluster.knobs
        self.blind = frozenset(sense for sense in SENSES if knobs.sense_blind and dice.random() < knobs.sense_blind)
        """what it cannot see"""
        self.maps = dice.random() < 0.5
        """it knows which GPU an address is"""

    def begin(self) -> None:
        """They are there, and read what the kernel wrote before."""
        now = self._cluster.time.now()
        self._tell([s.Blind(at=now, node=self._agent.node, sense=one, why="no rights") for one in sorted(self.blind)])
        for at, line in self._machine.log:
            if now - at <= LOOKBACK_S:
                self._story.see(line, at)
        self._cluster.time.after(READ_S, self._read)

    def wrote(self, lines: Iterable[str]) -> None:
        """The kernel wrote lines, which are read within half a second."""
        now = self._cluster.time.now()
        for line in lines:
            self._machine.log.append((now, line))
            self._story.see(line, now)
        self._cluster.time.after(self._cluster.hardware_dice.uniform(0.0, READ_S), self._read)

    def happened(self, device: str, event: str, data: int = 0) -> None:
        """The driver told of something by itself."""
        if "nvml" not in self.blind:
            now = self._cluster.time.now()
            self._tell([GpuEvent(at=now, node=self._agent.node, device=device, event=event, data=data)])

    def attend(self, seconds: float = BEGIN_S) -> None:
        """Ask every second for so long."""
        now = self._cluster.time.now()
        asleep = self._until < now
        self._until = max(self._until, now + seconds)
        if asleep:
            self._cluster.time.after(POLL_S, self._poll)

    def beat(self) -> None:
        """The agent looked at its ranks; now and then at its GPUs, and always where something is broken."""
        self._looks += 1
        if self._looks % LOOKS_APART == 0 or not self._machine.well:
            self.attend(POLL_S)

    def _poll(self) -> None:
        now = self._cluster.time.now()
        if not self._agent.alive:
            return
        self._read()
        if "nvml" not in self.blind:
            dice = self._cluster.hardware_dice
            asked = (gpu.asked(now, self._work(gpu.index), dice) for gpu in self._machine.gpus)
            self._tell([said for said in asked if said is not None])
        if "host" not in self.blind and now - self._hosted_at >= HOST_S:
            self._hosted_at = now
            self._tell([self._machine.looked(now)])
        if now < self._until:
            self._cluster.time.after(POLL_S, self._poll)
        else:
            self._until = float("-inf")

    def _work(self, index: int) -> Work:
        training, each = self._agent.training, self._cluster.knobs.ranks_per_node
        if training is None or index >= each:
            return Work.IDLE
        plight = training.plights.get(self._agent.node * each + index, Plight.DEAD)
        if plight is not Plight.WELL or training.phase in (s.Phase.STARTING, s.Phase.RESTORING, s.Phase.DONE):
            return Work.IDLE
        return Work.COMPUTES if training.well else Work.WAITS

    def _read(self) -> None:
        """The kernel's lines that are due."""
        told = self._story.tell(self._cluster.time.now())
        if "kernel" not in self.blind:
            self._tell([self._line(one) for one in told])

    def _line(self, told: Told) -> KernelSaw:
        found = told.finding
        place = (found.pci or "").partition(".")[0]
        known = [gpu.device for gpu in self._machine.gpus if self.maps and gpu.pci == place]
        return KernelSaw(
            at=told.at,
            node=self._agent.node,
            fault=found.fault or found.clears,
            action=found.action,
            cascade=found.cascade,
            xid=found.xid,
            pci=found.pci,
            device=known[0] if known else None,
            pid=found.pid,
            text=found.text,
            count=told.count,
        )

    def _tell(self, signals: list[s.Signal]) -> None:
        if not signals:
            return
        knobs, dice, time = self._cluster.knobs, self._cluster.hardware_dice, self._cluster.time
        if not knobs.sense_lag_s:
            self._agent.put(signals)
        else:
            time.after(knobs.sense_lag_s, lambda: self._agent.put(signals))
        is_news = time.now() - signals[0].at <= POLL_S
        if is_news and knobs.sense_repeats and dice.random() < knobs.sense_repeats:
            world = self._agent.newest
            time.after(knobs.sense_lag_s + dice.uniform(0.5, AGAIN_S), lambda: self._again(signals, world))

    def _again(self, signals: list[s.Signal], world: int) -> None:
        if self._agent.newest == world:
            self._agent.put(signals)

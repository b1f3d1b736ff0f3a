"""What does the agent of a node do? It obeys, owns the workers, and keeps its reports until they are heard."""

from __future__ import annotations

from collections import deque
from itertools import count
from operator import itemgetter
from typing import TYPE_CHECKING

from monitors import signals as s
from monitors.detect.probes import ProbeWanted
from monitors.hardware import ProbeDone
from orchestrator.core import actions as a
from orchestrator.offset import Offset, shifted
from tests.simulation.budgets import capped
from tests.simulation.machines import LIMIT_W
from tests.simulation.senses import POLL_S, Senses
from tests.simulation.training import Training
from tests.simulation.truth import Violation

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

Report = tuple[int, s.Signal]
"""numbered, so that what is sent again comes in the old order"""
HEARD_KEPT = 12
"""reports that were heard but whose acknowledgement may be lost with a connection"""
SWEEP_S = 0.5
PROBE_S = 5.0
"""which a probe takes, nearly all of it for importing torch"""


class Agent:
    """One per node and attempt."""

    def __init__(self, cluster: Cluster, attempt: int, node: int) -> None:
        self._cluster = cluster
        self.attempt = attempt
        self.node = node
        self.alive = True
        self.connected = False
        self.link_lost = False
        self.training: Training | None = None
        self.ranks: list[s.RankStarted] = []
        """of the newest world that began here"""
        self._next: a.StartWorld | None = None
        self._newest = 0
        self._unbegun: list[int] = []
        """worlds that are over and were not yet said to be"""
        self._numbers = count()
        self._unheard: list[Report] = []
        self._heard: deque[Report] = deque(maxlen=HEARD_KEPT)
        self._link = 0
        """connections so far: what travels on an older one is lost"""
        self._busy_until = 0.0
        self._probed: dict[ProbeWanted, ProbeDone | None] = {}
        self._off_s = cluster.clocks_off_s.get(node, 0.0)
        """how far its clock is ahead of the supervisor's"""
        self._clock = Offset()
        """what the supervisor makes of that"""
        self.senses = Senses(self, cluster, cluster.machines[node])

    # The link

    def dial(self) -> None:
        """Try to reach the supervisor."""
        office = self._cluster.office
        if not self.alive or self.connected or self.link_lost or not office.up:
            return
        self._link += 1
        self.connected = True
        if self._off_s:
            now = self._cluster.time.now()
            self._clock = Offset()
            self._clock.heard(now + self._off_s, now)
        if office.hello(self):
            self._resend()
            self.senses.attend(POLL_S)  # a real node polls every few seconds, so that nobody is long without a look
        elif self.connected:
            self.connected = False
            self._cluster.leave(self)

    def hang_up(self) -> None:
        """The connection is gone."""
        self.connected = False

    def _resend(self) -> None:
        again = list(self._heard) if self._cluster.dice.random() < self._cluster.knobs.resend else []
        waiting = sorted([*again, *self._unheard], key=itemgetter(0))
        self._unheard.clear()
        self._send(waiting)

    def put(self, signals: list[s.Signal]) -> None:
        """Report, now or when there is somebody to report to."""
        if not self.alive:
            return
        if self._off_s:
            signals = [shifted(signal, self._off_s) for signal in signals]
        reports = list(zip(self._numbers, signals, strict=False))
        if self.connected:
            self._send(reports)
        else:
            self._keep(reports)

    def _keep(self, reports: list[Report]) -> None:
        """Facts are kept; what is overtaken by something newer is not."""
        for report in reports:
            if isinstance(report[1], s.RankProgress | s.NodeSeen):
                self._unheard = [o for o in self._unheard if not _overtakes(report[1], o[1])]
            self._unheard.append(report)

    def _send(self, reports: list[Report]) -> None:
        lag_s = self._cluster.knobs.lag_s
        if not lag_s:
            self._arrive(reports, self._link)
            return
        time, link = self._cluster.time, self._link
        self._busy_until = max(self._busy_until, time.at + self._cluster.dice.uniform(0.0, lag_s))
        time.after(self._busy_until - time.at, lambda: self._arrive(reports, link))

    def _arrive(self, reports: list[Report], link: int) -> None:
        hear = self._cluster.office.hear
        for number, report in enumerate(reports):
            if not self.connected or link != self._link or not hear(self._by_ours(report[1])):
                self._unheard += reports[number:]
                return
            self._heard.append(report)

    def _by_ours(self, signal: s.Signal) -> s.Signal:
        return self._clock.ours(signal, self._cluster.time.now()) if self._off_s else signal

    # Orders

    @property
    def newest(self) -> int:
        """The newest world it has heard of."""
        return self._newest

    def start_world(self, order: a.StartWorld) -> None:
        """Start the workers; the world before ends first."""
        if not self.alive or order.world <= self._newest:
            return
        self._newest = order.world
        self._next = order
        if self.training is not None:
            self.training.end_node(self.node)
            self._sweep(self.training)
        else:
            self._begin()

    def stop_world(self, order: a.StopWorld) -> None:
        """End the workers of this world and of older ones."""
        if not self.alive:
            return
        if self._next is not None and self._next.world <= order.world:
            self._unbegun.append(self._next.world)
            self._next = None
        if order.world > self._newest:
            self._newest = order.world
            self._unbegun.append(order.world)
        self._tell_unbegun()
        training = self.training
        if training is not None and training.world <= order.world:
            training.end_node(self.node)
            self._sweep(training)

    def save_every(self, order: a.SaveEvery) -> None:
        """Tell the ranks; what rank 0 reads at the next save counts."""
        if self.alive and self.node == 0 and self.training is not None and self.training.world == order.world:
            self.training.saves.said = order.steps

    def cap_power(self, watts: float | None) -> None:
        """Limit the power of its GPUs, where it has the right to."""
        if self.alive:
            self.put([capped(self._cluster.knobs, self._cluster.time.now(), self.node, watts)])

    def stop_after_step(self, order: a.StopAfterStep) -> None:
        """Ask the ranks to end soon."""
        if self.training is not None and self.training.world == order.world and self.training.stop_at is None:
            self.training.stop_at = self.training.weights.step + 2

    def look(self, world: int, ranks: tuple[int, ...]) -> None:
        """Ask the kernel about workers."""
        if self.alive and self.training is not None and self.training.world == world:
            self.put(self.training.looked(self.node, ranks))

    def probe(self, wanted: ProbeWanted) -> None:
        """Measure a device: the answer comes seconds later, and again when it is asked for again."""
        if not self.alive or self.training is None or self.training.world != wanted.world:
            return
        answer = self._probed.get(wanted)
        if answer is not None:
            self.put([answer])
        elif wanted not in self._probed:
            self._probed[wanted] = None
            self._cluster.time.after(PROBE_S, lambda: self._measure(wanted))

    def _measure(self, wanted: ProbeWanted) -> None:
        speed = self._speed(wanted.device)
        answer = self._probed[wanted] = ProbeDone(
            at=self._cluster.time.now(),
            node=self.node,
            device=wanted.device,
            tflops=600.0 * speed,
            bandwidth_bytes_s=4e12 * speed,
            why="" if speed else "no answer in 30 s",
            world=wanted.world,
            about=wanted.about,
        )
        self.put([answer])

    def _speed(self, device: str | None) -> float:
        """As a share of what a device that is well does; 0 when it does not answer."""
        if device is None:
            return 1.0
        gpu = next((gpu for gpu in self._cluster.machines[self.node].gpus if gpu.device == device), None)
        if gpu is None or gpu.lost or gpu.silent_since is not None:
            return 0.0
        return 1.0 if gpu.hot_since is None and gpu.cap_w == LIMIT_W else 0.6

    def end(self) -> None:
        """The agent is no more, and its workers with it."""
        self.alive = self.connected = False
        if self.training is not None:
            self.training.end_node(self.node, silently=True)
        self.training = self._next = None

    def beat(self) -> None:
        """Look at the workers and say so."""
        if self.alive:
            now = self._cluster.time.now()
            self.put([s.NodeSeen(at=now, node=self.node, world=self._newest)])
            self.senses.beat()
            self._cluster.time.after(self._cluster.knobs.seen_every_s, self.beat)

    # Worlds

    def _begin(self) -> None:
        order, self._next = self._next, None
        assert order is not None
        living = self._cluster.living_worlds()
        if living - {order.world}:
            raise Violation(f"world {order.world} starts on node {self.node} while {living} live")
        self.training = self._cluster.training_of(order)
        self.training.join(self, order)
        self.senses.attend()

    def world_empty(self, training: Training) -> None:
        """The last worker here ended by itself."""
        if self.training is training:
            self._sweep(training)

    def _sweep(self, training: Training) -> None:
        """Make sure that nothing is left, then say so, once."""

        def swept() -> None:
            if self.alive and self.training is training and not training.of_node(self.node):
                self.training = None
                self._unbegun.append(training.world)
                self._tell_unbegun()
                if self._next is not None:
                    self._begin()

        self._cluster.time.after(SWEEP_S, swept)

    def _tell_unbegun(self) -> None:
        if self.training is None and self._unbegun:
            at = self._cluster.time.now()
            self.put([s.WorldStopped(at=at, node=self.node, world=world) for world in self._unbegun])
            self._unbegun = []


def _overtakes(new: s.Signal, old: s.Signal) -> bool:
    match new, old:
        case s.NodeSeen(), s.NodeSeen():
            return True
        case s.RankProgress(), s.RankProgress():
            return (new.world, new.rank) == (old.world, old.rank)
        case _:
            return False

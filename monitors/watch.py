"""What goes wrong with one run? All detectors that see the whole of it, behind one face.

The same code runs in the supervisor, in the simulator and when an old journal is read again. Signals of worlds that
are over never raise an incident; what was learned about the run (how long its steps take, how its loss goes) outlives
its worlds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from math import isfinite
from operator import attrgetter
from typing import Any

from monitors import signals as s
from monitors.attribution import Attribution, Suspicion
from monitors.detect.exits import Exits, ExitsConfig
from monitors.detect.gpus import Gpus
from monitors.detect.hang import Hang, HangConfig
from monitors.detect.host import Host
from monitors.detect.loss import Loss, LossConfig
from monitors.detect.power import Power
from monitors.detect.probes import Note, Probes, ProbeWanted
from monitors.detect.recovery import Recovery, Resumption
from monitors.detect.saves import Saves
from monitors.detect.start import Start, StartConfig
from monitors.detect.straggler import Straggler
from monitors.detect.unseen import Unseen, UnseenConfig
from monitors.hardware import GpuEvent, GpuFailed, GpuLooked, HostLooked, KernelSaw, ProbeDone
from monitors.incidents import Incident, Kind, Subject
from monitors.placement import Placement

_See = Callable[[Any], list[Incident] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchConfig:
    """What a spec may choose; each detector's own config says where the numbers come from."""

    floor_s: float = 1.0
    factor: float = 6.0
    unlearned_s: float = 300.0
    start_s: float = 600.0
    unseen_s: float = 30.0
    loss_enabled: bool = True
    persist_rows: int = 12


class Watch:
    """Signals in, incidents out; time only inside signals and arguments."""

    def __init__(self, config: WatchConfig, *, nodes: int, ranks_per_node: int) -> None:
        self.config = config
        self._world = 0
        self._step = self._step_of_world = 0
        self._hang = Hang(
            HangConfig(floor_s=config.floor_s, factor=config.factor, unlearned_s=config.unlearned_s),
            ranks=nodes * ranks_per_node,
        )
        self._start = Start(StartConfig(start_s=config.start_s), nodes=nodes, ranks_per_node=ranks_per_node)
        self._exits = Exits(ExitsConfig(), ranks=nodes * ranks_per_node, ranks_per_node=ranks_per_node)
        self._loss = Loss(LossConfig(enabled=config.loss_enabled, persist_rows=config.persist_rows))
        self._saves = Saves()
        self._unseen = Unseen(UnseenConfig(silence_s=config.unseen_s), nodes=nodes)
        self.placement = Placement(ranks_per_node=ranks_per_node)
        """which GPUs are whose"""
        self._gpus = Gpus(placement=self.placement)
        self._host = Host()
        self._power = Power(ranks_per_node=ranks_per_node, rank_of=self.placement.likely_rank)
        self._straggler = Straggler(
            ranks=nodes * ranks_per_node, ranks_per_node=ranks_per_node, rank_of=self.placement.likely_rank
        )
        self._attribution = Attribution()
        self._probes = Probes(nodes=nodes, ranks_per_node=ranks_per_node, rank_of=self.placement.likely_rank)
        self._patient = (self._exits, self._unseen, self._saves, self._host, self._straggler, self._probes)
        """whom silence tells something"""
        self._recovery = Recovery(loss_enabled=config.loss_enabled)
        self._notes: list[Note] = []
        self._see = {kind: (_world_of(kind), detectors) for kind, detectors in self._table().items()}

    def _table(self) -> dict[type, tuple[_See, ...]]:
        """Who wants to see what: a detector all that it knows, or the method that is for it, of what comes often."""
        return {
            **self._hardware(),
            s.RankStarted: (self.placement.see, self._gpus.see, self._host.see),
            s.RankProgress: (
                self.placement.progress,
                self._progress,
                self._start.see,
                self._hang.progress,
                self._gpus.progress,
                self._power.clock.progress,
                self._straggler.progress,
            ),
            s.NodeSeen: (self._unseen.see, self._start.see, self._hang.see),
            s.RankEntered: (self._start.see,),
            s.RankRestored: (self._start.see, self._hang.see, self._recovered),
            s.RankSaid: (self._exits.see,),
            s.RankExited: (
                self._exits.see,
                self._start.see,
                self._hang.see,
                self._saves.see,
                self._power.see,
                self._straggler.see,
                self._probes.see,
            ),
            s.StepReported: (
                self._loss.see,
                self._power.clock.reported,
                self._disturbed,
                self._straggler.reported,
                self._recovered,
            ),
            s.RanksReported: (self._loss.see, self._straggler.see),
            s.ProcessLooked: (self._hang.see, self._straggler.see),
            s.CollectivesLooked: (self._exits.see, self._hang.see, self._straggler.see),
            s.SaveCommitted: (self._saves.see,),
            s.SaveFailed: (self._saves.see,),
            s.CheckpointRefused: (self._refused,),
            s.WorldStopped: (self._exits.see, self._unseen.see, self._power.see, self._probes.see),
        }

    def _hardware(self) -> dict[type, tuple[_See, ...]]:
        return {
            KernelSaw: (self._gpus.see, self._host.see),
            GpuEvent: (self._gpus.see,),
            GpuFailed: (self.placement.see, self._gpus.see, self._power.see),
            GpuLooked: (
                self.placement.looked,
                self._gpus.looked,
                self._power.looked,
                self._straggler.hardware.looked,
                self._probes.looked,
            ),
            ProbeDone: (self._probes.see,),
            HostLooked: (self._host.see, self._straggler.hardware.looked),
        }

    @property
    def deadline(self) -> float | None:
        """When `silent` should be called next; None: only signals can make a difference."""
        nearest = None
        for one in self._patient:
            wait = one.deadline
            if wait is not None and (nearest is None or wait < nearest):
                nearest = wait
        return nearest

    @property
    def asks(self) -> bool:
        """Whether `looks` or `probes` name anybody: asked after every signal, and nearly always they do not."""
        return bool(self._hang.suspects or self._straggler.looks or self._exits.looks or self._probes.running)

    @property
    def looks(self) -> tuple[int, ...]:
        """Ranks whose process should be looked at (the order `LookAt`): it helps to name the culprit of a hang."""
        return tuple(sorted({*self._hang.looks, *self._straggler.looks, *self._exits.looks}))

    @property
    def probes(self) -> tuple[ProbeWanted, ...]:
        """Devices that should be measured now (the order `Probe`): it tells a slow device from a slow rank."""
        return self._probes.wanted

    def notes(self) -> list[Note]:
        """What was learned since this was last asked, and asks for no action."""
        if not self._notes and not self._probes.untold:
            return []  # as nearly always, and this is asked after every signal
        notes, self._notes = self._probes.notes() + self._notes, []
        return notes

    @property
    def suspicious_since_step(self) -> int | None:
        """First step from which the loss looks wrong by now; nothing saved from it on should be called good yet."""
        return self._loss.suspicious_since_step

    def world_began(self, world: int, at: float, how: Resumption | None = None) -> None:
        """A new set of ranks was ordered to start; `how` it goes on, as far as that is known."""
        assert world > self._world, f"world {world} after {self._world}"
        self._world, self._step_of_world = world, 0
        self._hang.world_began(world)
        self._start.world_began(world, at)
        self._exits.world_began(world)
        self._loss.world_began(world)
        self._unseen.world_began(world, at)
        self._saves.world_began()
        self.placement.world_began(world, at)
        for detector in (self._gpus, self._host, self._power, self._straggler, self._probes):
            detector.world_began(world)
        self._recovery.world_began(world, how)
        self._attribution.world_began(world)

    def resolved(self, kind: Kind) -> None:
        """A person called an incident of this kind over, which ends nothing: the next sign of it is news."""
        if kind is Kind.SAVE_FAILED:
            self._saves.resolved()

    def rewound(self, step: int) -> None:
        """The run goes on from this step; what came after it is forgotten."""
        self._step = step
        self._loss.rewound(step)

    def recall(self, rows: Iterable[s.StepReported]) -> None:
        """Learn again from stored rows, oldest first, after a restart of the supervisor. Raises no incidents."""
        known = [row for row in rows if isfinite(row.at)]
        self._hang.recall(known)
        self._loss.recall(known)

    def see(self, signal: s.Signal) -> list[Incident]:
        """What a signal makes known."""
        known = self._see.get(type(signal))
        if known is None or not isfinite(signal.at):
            return []
        world_of, detectors = known
        if world_of is not None and (world := world_of(signal)) != self._world and world is not None:
            return []  # history
        incidents: list[Incident] = []
        for see in detectors:
            if found := see(signal):
                incidents += found
        return self._judged(incidents) if incidents else incidents

    def silent(self, now: float) -> list[Incident]:
        """What it means that nothing was heard until now; asked twice, it says nothing new."""
        incidents = [incident for detector in self._patient for incident in detector.silent(now)]
        return self._judged(incidents) if incidents else incidents

    def _judged(self, incidents: list[Incident]) -> list[Incident]:
        self._attribution.suspect(
            Suspicion(at=witness.at, subject=witness.subject, sentence=witness.sentence)
            for witness in self._power.witnesses
            if witness.subject != Subject()
        )
        told = [self._placed(incident) for incident in self._attribution.judge(incidents)]
        for incident in told:
            self._probes.suspect(incident)
            self._recovery.heard(incident)
        return told

    def _placed(self, incident: Incident) -> Incident:
        """How far the world was: a driver knows nothing of steps, nor does a rank that prints none."""
        unknown = incident.step == 0 and incident.world == self._world
        return replace(incident, step=self._step_of_world) if unknown and self._step_of_world else incident

    def _disturbed(self, signal: s.StepReported) -> None:  # noqa: ARG002 - every detector takes one
        if self._probes.running:
            self._straggler.disturbed()
            self._recovery.disturbed()

    def _recovered(self, signal: s.Signal) -> list[Incident]:
        incidents, notes = self._recovery.see(signal)
        self._notes += notes
        return incidents

    def _progress(self, signal: s.RankProgress) -> None:
        if signal.step > self._step_of_world or signal.step > self._step:
            self._step = max(self._step, signal.step)
            self._step_of_world = max(self._step_of_world, signal.step)

    def _refused(self, signal: s.Signal) -> list[Incident]:
        return self._saves.see(signal, world=self._world, step=self._step)


def _world_of(kind: type) -> Callable[[s.Signal], int | None] | None:
    """How signals of a class say their world; None where they are no history in another one."""
    # An agent is there whatever world it has; and what it says of a checkpoint is true in any.
    told = kind is not s.NodeSeen and any(field.name == "world" for field in fields(kind))
    return attrgetter("world") if told else None

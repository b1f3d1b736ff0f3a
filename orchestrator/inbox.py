"""What do the signals of a run mean for the core? Signals of many ranks in, events of one run out.

Pure: time comes with the calls. The detectors live in `monitors.watch`; this file adds up what ranks and nodes report
until it is true of the whole world.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from monitors import signals as s
from monitors.detect.energy import Energy
from monitors.detect.probes import ProbeWanted
from monitors.detect.recovery import Resumption
from monitors.detect.running_median import RunningMedian
from monitors.hardware import GpuLooked, PowerCapped
from monitors.incidents import Incident, Kind
from monitors.watch import Watch
from orchestrator.core import events as e
from orchestrator.readings import SEEN, Readings
from orchestrator.roster import Roster

PROGRESS_EVERY_S = 1.0
"""how often progress becomes an event: often enough for a ledger to the second, too rare to fill a journal"""
QUIET_START_S = 30.0
"""a script that moves for this long without a step or the SDK, and never spoke of a step before, speaks of none: its
movement is its progress"""
_PHASES = tuple(map(str, s.PHASES))
_BEFORE_ENTRY = frozenset({s.Phase.STARTING})
_BEFORE_STEPS = frozenset({s.Phase.STARTING, s.Phase.RESTORING})
ROWS_KEPT = 64
"""step times for the median"""


@dataclass(slots=True)
class _World:
    number: int = 0
    began: float = 0.0
    speaks: bool = False
    """its ranks use the SDK"""
    spoke: bool = False
    """worlds before it spoke of steps: until this one does, it is starting, however long that takes"""
    progress: dict[int, s.RankProgress] = field(default_factory=dict)
    started: set[int] = field(default_factory=set)
    entered: set[int] = field(default_factory=set)
    restored: dict[int, s.RankRestored] = field(default_factory=dict)
    until: int | None = None
    """step after which its ranks are complete, as the first one said"""
    told_entered: bool = False
    told_restored: bool = False
    base_step: int | None = None
    """where it began: the step restored, or the first one heard when a supervisor before us heard the restore"""
    told_step: int = -1
    told_at: float = 0.0


class Inbox:
    """Everything heard about one run, added up."""

    def __init__(
        self, *, nodes: int, ranks_per_node: int, watch: Watch, folder: str, energy_until: float | None = None
    ) -> None:
        """`energy_until`: the newest reading of energy that the journal has; what is not newer was counted."""
        self._nodes = nodes
        self._ranks = nodes * ranks_per_node
        self._watch = watch
        self._folder = folder
        self._world = _World()
        self._energy = Energy(rank_of=watch.placement.rank_of_index, counted_until=energy_until)
        self._step_s = RunningMedian(ROWS_KEPT)
        self.roster = Roster(ranks=self._ranks, ranks_per_node=ranks_per_node, rank_of=watch.placement.likely_rank)
        self.readings = Readings(rank_of=watch.placement.likely_rank)
        self.rows: list[s.StepReported] = []
        """steps heard and not yet taken by the journal"""
        self._facts = self._table()
        kept = [*self.roster.readers.items(), *((kind, self.readings.see) for kind in SEEN)]
        self._keepers = {kind: tuple(keep for of, keep in kept if of is kind) for kind, _ in kept}
        """by class of signals, what keeps the newest of them"""

    def _table(self) -> dict[type, Callable[[Any], list[e.Event]]]:
        """What is read off signals directly; what else they mean, detectors say."""
        return {
            s.RankStarted: self._started,
            s.RankProgress: self._progress,
            s.StepReported: self._row,
            s.RankEntered: self._entered,
            s.RankRestored: self._restored,
            s.RankExited: self._exited,
            s.WorldStopped: self._world_stopped,
            GpuLooked: self._gpu_looked,
            PowerCapped: self._capped,
            s.SaveCommitted: self._committed,
            s.CheckpointVerified: self._verified,
            s.CheckpointRefused: self._refused,
            s.CheckpointDeleted: self._deleted,
            s.DrillDone: self._drilled,
        }

    def began(self, world: int, at: float, how: Resumption | None = None, *, spoke: bool = False) -> None:
        """A world was ordered; what older ones still say is history. `spoke`: one of them spoke of steps."""
        if world > self._world.number:
            self._world = _World(number=world, began=at, spoke=spoke)
            self._watch.world_began(world, at, how)
            self.roster.began(world)

    def adopted(self, world: int, at: float, *, speaks: bool, trains: bool, spoke: bool = False) -> None:
        """A supervisor before us ordered this world, and heard of it what will not be said again.

        `speaks`: worlds of this run use the SDK; `trains`: this one took its first step; `spoke`: as above.
        """
        self.began(world, at, spoke=spoke)
        self._world.speaks = speaks
        self._world.told_entered = self._world.told_restored = trains

    def resolved(self, kind: Kind) -> None:
        """A person called an incident of this kind over."""
        self._watch.resolved(kind)

    def launched(self) -> None:
        """Another attempt begins, on the same nodes or on others."""
        self._energy.launched()
        self.readings.forget()

    def has_started(self, rank: int) -> bool:
        """Whether an agent told that the process of this rank is there, in the newest world."""
        return rank in self._world.started

    @property
    def deadline(self) -> float | None:
        """When `silent` should be called next."""
        return self._watch.deadline

    @property
    def step(self) -> int:
        """The step furthest ahead, from the freshest looks."""
        return max((p.step for p in self._world.progress.values()), default=0)

    @property
    def step_s(self) -> float | None:
        """Median seconds of a step lately."""
        return self._step_s.median if self._step_s.rows else None

    @property
    def asks(self) -> bool:
        """Whether a detector would like anything to be looked at or measured."""
        return self._watch.asks

    @property
    def looks(self) -> tuple[int, ...]:
        """Ranks that a detector would like to be looked at."""
        return self._watch.looks

    @property
    def probes(self) -> tuple[ProbeWanted, ...]:
        """Devices that a detector would like to be measured."""
        return self._watch.probes

    def see(self, signal: s.Signal) -> list[e.Event]:
        """What the signal makes known, oldest first."""
        kind = type(signal)
        for keep in self._keepers.get(kind, ()):
            keep(signal)
        read = self._facts.get(kind)
        facts = read(signal) if read is not None else []
        told = self._concluded(self._watch.see(signal))
        return facts + told if told else facts

    def silent(self, now: float) -> list[e.Event]:
        """What it means that nothing was heard until now."""
        return self._concluded(self._watch.silent(now))

    def _concluded(self, incidents: list[Incident]) -> list[e.Event]:
        notes = self._watch.notes()
        if not incidents and not notes:
            return []
        told: list[e.Event] = [e.IncidentDetected(at=incident.at, incident=incident) for incident in incidents]
        return told + [
            (e.RecoveryProved if note.proof else e.DeviceProbed)(at=note.at, world=note.world, sentence=note.sentence)
            for note in notes
        ]

    def _started(self, signal: s.RankStarted) -> list[e.Event]:
        if signal.world == self._world.number:
            self._world.started.add(signal.rank)
        return []

    def _exited(self, signal: s.RankExited) -> list[e.Event]:
        if signal.code != 0 or signal.ordered:
            return []
        return [e.RankFinished(at=signal.at, world=signal.world, rank=signal.rank)]

    def _world_stopped(self, signal: s.WorldStopped) -> list[e.Event]:
        return [*self._last_progress(signal), self._stopped(signal)]

    def _gpu_looked(self, signal: GpuLooked) -> list[e.Event]:
        self._energy.see(signal)
        return []

    def _drilled(self, signal: s.DrillDone) -> list[e.Event]:
        return [e.DrillDone(at=signal.at, world=signal.world, drill=signal.drill, rank=signal.rank)]

    def _row(self, signal: s.StepReported) -> list[e.Event]:
        self.rows.append(signal)
        if signal.world != self._world.number:
            return []
        self._energy.see(signal)
        if signal.step_s is not None and isfinite(signal.step_s):
            self._step_s.append(signal.step_s)
        return []

    def _entered(self, signal: s.RankEntered) -> list[e.Event]:
        world = self._world
        if signal.world != world.number:
            return []
        world.speaks = True
        world.entered.add(signal.rank)
        world.until = signal.until if world.until is None else world.until
        return self._milestones(signal.at)

    def _restored(self, signal: s.RankRestored) -> list[e.Event]:
        world = self._world
        if signal.world != world.number:
            return []
        world.speaks = True
        world.restored.setdefault(signal.rank, signal)
        return self._milestones(signal.at)

    def _milestones(self, at: float) -> list[e.Event]:
        """What every rank has reached by now, by its own word or because it is already past it."""
        world, found = self._world, list[e.Event]()
        if not world.told_entered and world.entered and self._all_past(world.entered, _BEFORE_ENTRY):
            world.told_entered = True
            found.append(e.WorldEntered(at=at, world=world.number, until=world.until))
        if not world.told_restored and world.restored and self._all_past(world.restored, _BEFORE_STEPS):
            world.told_restored = True
            one = next(iter(world.restored.values()))  # a restore is collective: all ranks hold the same
            world.base_step = one.step
            self._watch.rewound(one.step)
            found.append(
                e.WorldRestored(
                    at=at,
                    world=world.number,
                    checkpoint=one.checkpoint,
                    step=one.step,
                    copied_in=one.copied_in,
                    from_peer=sum(restored.from_peer for restored in world.restored.values()),
                )
            )
        return found

    def _all_past(self, said: Container[int], before: frozenset[s.Phase]) -> bool:
        seen = self._world.progress
        return all(rank in said or (rank in seen and seen[rank].phase not in before) for rank in range(self._ranks))

    def _progress(self, signal: s.RankProgress) -> list[e.Event]:
        world = self._world
        if signal.world != world.number:
            return []
        world.progress[signal.rank] = signal
        world.speaks = world.speaks or signal.speaks
        reached = [] if world.told_entered and world.told_restored else self._milestones(signal.at)
        news = self._is_news(signal)
        if world.base_step is not None and not news:
            return reached
        step = self._common_step(signal.at)
        return [*reached, self._tell(step, signal.at)] if news and step is not None else reached

    def _is_news(self, newest: s.RankProgress) -> bool:
        """Progress was not told yet, or not for a while in which some rank moved."""
        world = self._world
        told_at = world.told_at
        if world.told_step < 0:
            return True
        if newest.at - told_at < 0.9 * PROGRESS_EVERY_S:  # looks come once a second, some a hair early
            return False
        return newest.moved_at > told_at or any(p.moved_at > told_at for p in world.progress.values())

    def _common_step(self, at: float) -> int | None:
        """The last step that every rank finished in this world; None while there is none."""
        world = self._world
        if world.speaks:
            return self._common_sdk_step()
        steps = [p.step for p in world.progress.values()]
        if max(steps) > 0:  # read from logs: often only one rank writes any
            return max(steps)
        starting = world.spoke or at - world.began < QUIET_START_S or len(steps) < self._ranks
        return None if starting else 0

    def _common_sdk_step(self) -> int | None:
        world = self._world
        ranks = world.progress.values()
        if len(ranks) < self._ranks or not _BEFORE_STEPS.isdisjoint([rank.phase for rank in ranks]):
            return None
        step = min([rank.step for rank in ranks])
        if world.base_step is None:
            world.base_step = step
        return step if step > world.base_step else None

    def _tell(self, step: int, at: float) -> e.Progressed:
        world = self._world
        world.told_step, world.told_at = step, at
        counted = [progress.spent_s for progress in world.progress.values() if progress.spent_s]
        spent = dict(zip(_PHASES, map(max, zip(*counted, strict=False)), strict=False))
        spread = self.roster.spread
        return e.Progressed(
            at=at,
            world=world.number,
            step=step,
            spent_s=spent or None,
            step_s=self.step_s,
            suspect_since=self._watch.suspicious_since_step,
            energy=self._energy_read(),
            own_s=spread.own_s,
            slowest_s=spread.step_s,
            temperature_c=spread.temperature_c,
        )

    def _stopped(self, signal: s.WorldStopped) -> e.NodeStopped:
        if signal.world == self._world.number:
            self._energy.see(signal)
        return e.NodeStopped(at=signal.at, world=signal.world, node=signal.node, energy=self._energy_read())

    def _energy_read(self) -> e.EnergyRead | None:
        energy = self._energy
        if energy.since is None or energy.until is None:
            return None
        return e.EnergyRead(
            since=energy.since,
            until=energy.until,  # not rounded: what is newer will be counted
            joules=round(energy.joules, 3),
            gpu_s=round(energy.gpu_s, 3),
            step_j=round(energy.step_j, 3),
            steps=energy.steps,
            token_j=round(energy.token_j, 3),
            tokens=energy.tokens,
        )

    def _last_progress(self, signal: s.WorldStopped) -> list[e.Event]:
        if signal.world != self._world.number or not self._world.progress:
            return []
        step = self._common_step(signal.at)
        return [] if step is None or step <= self._world.told_step else [self._tell(step, signal.at)]

    def _committed(self, signal: s.SaveCommitted) -> list[e.Event]:
        return [
            e.CheckpointCommitted(
                at=signal.at,
                checkpoint=signal.checkpoint,
                step=signal.step,
                world=signal.world,
                saved_at=signal.saved_at,
                bytes=signal.bytes,
                path=f"{self._folder}/{signal.checkpoint}",
                stall_s=signal.stall_s,
                write_s=max(0.0, signal.at - signal.saved_at),  # both by the clock of the rank's host
            )
        ]

    def _verified(self, signal: s.CheckpointVerified) -> list[e.Event]:
        return [e.CheckpointVerified(at=signal.at, checkpoint=signal.checkpoint)]

    def _refused(self, signal: s.CheckpointRefused) -> list[e.Event]:
        return [e.CheckpointRefused(at=signal.at, checkpoint=signal.checkpoint, why=signal.why)]

    def _deleted(self, signal: s.CheckpointDeleted) -> list[e.Event]:
        return [e.CheckpointDeleted(at=signal.at, checkpoint=signal.checkpoint)]

    def _capped(self, signal: PowerCapped) -> list[e.Event]:
        return [
            e.PowerCapped(
                at=signal.at,
                node=signal.node,
                watts=signal.watts,
                may_draw_w=signal.may_draw_w,
                least_w=signal.least_w,
                why=signal.why,
            )
        ]

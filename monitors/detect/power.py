"""What does the power of the GPUs say? It is a witness: it names a suspect, and never restarts anything.

Every look at a GPU is compared with its own level in training and with its peers (same model, same role); a picture
counts when it holds over three polls. What pulls all GPUs down together is normal at saves, evaluations, starts and
ends, so a drop is told only when the step clock stands still as well, and where ranks tell no phases, when it lasts
longer than any drop that the run came back from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from monitors.detect.power_brakes import POLLS, Brakes, Held
from monitors.detect.power_clock import StepClock
from monitors.detect.power_level import Gpu
from monitors.detect.power_pattern import Pattern, Picture, pictures
from monitors.hardware import GpuFailed, GpuLooked
from monitors.incidents import Blame, Incident, Kind, Subject
from monitors.placement import RankOf, by_convention
from monitors.signals import RankExited, RankProgress, Signal, StepReported, WorldStopped

RoleOf = Callable[[int], str]


_FOLLOW_POLLS, _FOLLOW_S = 2, 15.0
"""the other GPUs of a hot node are held back within these, and are one incident"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerConfig:
    """How long a picture must hold before it is told. Witnesses stand after POLLS polls in any case."""

    outlier_s: float = 10.0
    """one GPU low while the run goes on: longer than a pipeline's bubble or one rank's part of an evaluation"""
    blind_s: float = 60.0
    """where nothing is known of phases: the saves of most runs are shorter"""
    recovered_factor: float = 2.0
    """times the longest drop that the run came back from by itself, where nothing is known of phases"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """Whom a picture points at, for the attribution of another incident. Not an incident."""

    pattern: Pattern
    subject: Subject
    """empty: it points at nobody"""
    at: float
    since: float
    confidence: float
    sentence: str


@dataclass(slots=True)
class _Streak:
    """One picture, as long as it holds."""

    picture: Picture
    since: float
    at: float
    polls: int = 1
    missed: bool = False
    strange_since: float | None = None
    """since when nothing harmless explains it"""
    strange_polls: int = 0


@dataclass(slots=True)
class _Told:
    brakes: set[tuple[str, str]] = field(default_factory=set)
    """device or node, and reason"""
    outliers: set[Subject] = field(default_factory=set)
    drop: bool = False
    """the drop that goes on now"""


class Power:
    """Sees GPUs and steps; concludes what is only to be observed."""

    deadline: float | None = None
    """never: without a new look nothing new is known"""

    def __init__(
        self,
        config: PowerConfig | None = None,
        *,
        ranks_per_node: int,
        role_of: RoleOf = lambda _: "",
        rank_of: RankOf | None = None,
    ) -> None:
        """GPU i of a node belongs to the node's rank i unless `rank_of` knows better."""
        self.config = config or PowerConfig()
        self._role_of = role_of
        self._rank_of = rank_of or by_convention(ranks_per_node)
        self._gpus: dict[str, Gpu] = {}
        self._brakes = Brakes()
        self.clock = StepClock()
        """what it knows of steps"""
        self._recovered_s = 0.0
        self.world_began(0)

    def world_began(self, world: int) -> None:
        """Ranks are new; the GPUs and their levels stay."""
        self._world = world
        self._over = False
        self.clock.world_began()
        self._streaks: dict[tuple[Pattern, Subject], _Streak] = {}
        self._held: list[Held] = []
        self._told = _Told()
        self._fresh = 0
        self._judged_at = float("-inf")

    @property
    def witnesses(self) -> tuple[Witness, ...]:
        """What held over POLLS polls until now, most telling first."""
        if self._over:
            return ()
        aside = 0.4 if self.clock.aside else 1.0
        standing = [
            Witness(
                pattern=streak.picture.pattern,
                subject=streak.picture.subject,
                at=streak.at,
                since=streak.since,
                confidence=aside * streak.picture.confidence,
                sentence=f"{streak.picture.sentence}, at {streak.polls} polls in a row",
            )
            for streak in self._streaks.values()
            if streak.polls >= POLLS
        ]
        standing += [self._brake_witness(held) for held in self._held]
        return tuple(sorted(standing, key=lambda witness: -witness.confidence))

    def see(self, signal: Signal) -> list[Incident]:
        """A GPU was looked at, or a step ended."""
        match signal:
            case RankProgress():
                self.clock.progress(signal)
            case StepReported():
                self.clock.reported(signal)
            case GpuLooked():
                return self.looked(signal)
            case GpuFailed():
                self._failed(signal)
            case RankExited() | WorldStopped():
                self._over = True
            case _:
                pass
        return []

    def silent(self, now: float) -> list[Incident]:  # noqa: ARG002 - every detector has it
        """Nothing: only a look shows anything."""
        return []

    def _failed(self, signal: GpuFailed) -> None:
        gpu = self._gpus.get(signal.device or "")
        if gpu is not None:
            self._fresh += not gpu.fresh
            gpu.lost, gpu.fresh = True, True

    def looked(self, signal: GpuLooked) -> list[Incident]:
        """A GPU answered."""
        gpu, rank = self._gpus.get(signal.device), self._rank_of(signal.node, signal.index)
        if gpu is not None and gpu.rank != rank:
            self._forget(signal.device)  # it turned out to be another rank's, or none's
            gpu = None
        if gpu is None:
            self._first_look(signal, rank)
            return []
        incidents = self._judge(signal.at) if gpu.fresh and self._is_due(signal.at, gpu) else []
        self._fresh += not gpu.fresh
        gpu.look(signal)
        self._brakes.looked(signal)
        self._learn(gpu, signal.at)
        # As soon as all were looked at; whoever is not heard any more must not hold that up for ever.
        return incidents + self._judge(signal.at) if self._fresh == len(self._gpus) else incidents

    def _first_look(self, signal: GpuLooked, rank: int | None) -> None:
        if rank is None:
            return
        # Another board in its place, or another host in its node's: the one before is gone, not silent.
        place = (signal.node, signal.index)
        for gone in [device for device, gpu in self._gpus.items() if (gpu.node, gpu.index) == place]:
            self._forget(gone)
        self._gpus[signal.device] = Gpu(
            device=signal.device,
            node=signal.node,
            index=signal.index,
            rank=rank,
            role=self._role_of(rank),
            looked=signal,
        )
        self._fresh += 1
        self._brakes.looked(signal)

    def _forget(self, device: str) -> None:
        self._fresh -= self._gpus.pop(device).fresh
        self._brakes.forget(device)
        self._held = [held for held in self._held if held.device in self._gpus]

    def _learn(self, gpu: Gpu, now: float) -> None:
        clock = self.clock
        power_w = gpu.looked.power_w if gpu.level.instants else gpu.looked.power_mean_w
        if power_w is None or power_w <= 0.0 or (gpu.looked.utilisation or 0.0) < 0.5 or self._over:
            return
        if not clock.aside and not clock.stands(now, gpu.every_s):
            gpu.level.learn(power_w)

    def _is_due(self, at: float, gpu: Gpu) -> bool:
        """A GPU that is looked at more often than the others must not make them old news."""
        return self._fresh >= 0.6 * len(self._gpus) or at - self._judged_at > 4 * gpu.every_s > 0.0

    def _judge(self, now: float) -> list[Incident]:
        self._judged_at, self._fresh = now, 0
        incidents: list[Incident] = []
        if not self._over:
            gpus = list(self._gpus.values())
            moves = self.clock.known and not self.clock.stands(now, max(gpu.every_s for gpu in gpus))
            self._follow(pictures(gpus, now, steps=moves), now, moves=moves)
            incidents = [*self._drops(now), *self._degraded(now)]
        for gpu in self._gpus.values():
            gpu.fresh = False
        return incidents

    def _follow(self, seen: list[Picture], now: float, *, moves: bool) -> None:
        """Lengthen the streaks of what is seen; one miss is forgiven."""
        keys = {(picture.pattern, picture.subject): picture for picture in seen}
        for key, streak in list(self._streaks.items()):
            if key in keys:
                continue
            if streak.missed or streak.polls < POLLS:
                self._ended(key, streak)
            streak.missed = True
        for key, picture in keys.items():
            found = self._streaks.get(key)
            if found is None:
                found = self._streaks[key] = _Streak(picture=picture, since=now, at=now)
            else:
                found.picture, found.at, found.missed = picture, now, False
                found.polls += 1
            self._wonder(found, now, moves=moves)

    def _wonder(self, streak: _Streak, now: float, *, moves: bool) -> None:
        """Does anything harmless explain it?"""
        alone = streak.picture.pattern is Pattern.OUTLIER or (moves and streak.picture.subject.node is not None)
        if self.clock.aside or (moves and not alone):
            streak.strange_since, streak.strange_polls = None, 0
            return
        streak.strange_since = now if streak.strange_since is None else streak.strange_since
        streak.strange_polls += 1

    def _ended(self, key: tuple[Pattern, Subject], streak: _Streak) -> None:
        del self._streaks[key]
        if streak.picture.pattern is not Pattern.OUTLIER and streak.polls >= POLLS:
            self._recovered_s = max(self._recovered_s, streak.at - streak.since)
        if not any(pattern is not Pattern.OUTLIER for pattern, _ in self._streaks):
            self._told.drop = False

    def _drops(self, now: float) -> list[Incident]:
        found: list[Incident] = []
        for (pattern, subject), streak in self._streaks.items():
            if pattern is Pattern.OTHERS_WAIT or streak.strange_polls < POLLS or not self._lasts(streak, now):
                continue
            if pattern is Pattern.OUTLIER:
                if subject in self._told.outliers:
                    continue
                self._told.outliers.add(subject)
            elif self._told.drop:
                continue
            else:
                self._told.drop = True
            found.append(self._drop(streak, now))
        return found

    def _lasts(self, streak: _Streak, now: float) -> bool:
        if streak.strange_since is None:
            return False
        lasted_s = now - streak.strange_since
        if self.clock.known and self.clock.phases_known:
            return streak.picture.pattern is not Pattern.OUTLIER or lasted_s >= self.config.outlier_s
        if streak.picture.pattern is Pattern.OUTLIER and self.clock.known:
            return lasted_s >= 3 * self.config.outlier_s
        return lasted_s >= max(self.config.blind_s, self.config.recovered_factor * self._recovered_s)

    def _drop(self, streak: _Streak, now: float) -> Incident:
        picture = streak.picture
        clock = self.clock.explained(now)
        return Incident(
            kind=Kind.POWER_DROP,
            at=now,
            onset=min(streak.since, now),
            world=self._world,
            subject=picture.subject,
            step=self.clock.step,
            confidence=picture.confidence,
            fingerprint=f"power:{picture.pattern}:{picture.subject.rank}:{picture.subject.node}",
            evidence=(f"{picture.sentence}, at {streak.polls} polls in a row", clock),
            senses=("power", "progress") if self.clock.known else ("power",),
        )

    def _degraded(self, now: float) -> list[Incident]:
        waiting = frozenset(
            streak.picture.subject.device
            for streak in self._streaks.values()
            if streak.picture.subject.device is not None
        )
        self._held = self._brakes.held(waiting)
        news = [held for held in self._held if not self._is_told(held)]
        return [self._brake(group, now) for group in self._grouped(news, now)]

    def _is_told(self, held: Held) -> bool:
        told = self._told.brakes
        if held.reason == "clock":  # what is slowed for a known reason has a low clock
            reasons = [reason for where, reason in told if where in (held.device, f"node {held.node}")]
            return bool(reasons) or any(h.device == held.device and h.reason != "clock" for h in self._held)
        return bool(told & {(held.device, held.reason), (f"node {held.node}", held.reason)})

    def _grouped(self, news: list[Held], now: float) -> list[list[Held]]:
        """By node where half of its GPUs are held back for the same reason, else one by one, when others had time to
        follow."""
        groups: list[list[Held]] = []
        for reason, node in sorted({(held.reason, held.node) for held in news}):
            of_node = [held for held in self._held if held.reason == reason and held.node == node]
            there = sum(gpu.node == node for gpu in self._gpus.values())
            if len(of_node) >= max(2, there / 2):
                self._told.brakes.add((f"node {node}", reason))
                groups.append(of_node)
            else:
                alone = [held for held in news if held.reason == reason and held.node == node]
                groups += [[h] for h in alone if h.polls >= POLLS + _FOLLOW_POLLS and now - h.since >= _FOLLOW_S]
        self._told.brakes.update((held.device, held.reason) for group in groups for held in group)
        return groups

    def _brake(self, group: list[Held], now: float) -> Incident:
        first = group[0]
        alone = len(group) == 1
        rank = self._gpus[first.device].rank if alone else None
        return Incident(
            kind=Kind.GPU_DEGRADED,
            at=now,
            onset=min(*(held.since for held in group), now),
            world=self._world,
            subject=Subject(node=first.node, rank=rank, device=first.device if alone else None),
            step=self.clock.step,
            confidence=min(held.confidence for held in group),
            blame=Blame.HARDWARE,
            fingerprint=f"brake:{first.reason}:{first.device if alone else first.node}",
            evidence=tuple(held.sentence for held in group[:8]),
            senses=("nvml",),
        )

    def _brake_witness(self, held: Held) -> Witness:
        return Witness(
            pattern=Pattern.BRAKE,
            subject=Subject(node=held.node, rank=self._gpus[held.device].rank, device=held.device),
            at=self._gpus[held.device].looked.at,
            since=held.since,
            confidence=held.confidence,
            sentence=held.sentence,
        )

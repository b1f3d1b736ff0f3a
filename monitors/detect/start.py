"""Did the world ever come to its first step?

Time counts from when the last node had the order: to a node that is cut off it may come an hour late, and the ranks of
the others wait for those that it starts only then. What is cut off for good, others notice.

The limit holds for a run whose start is known. The first time nobody knows what all a start has to do, which may be an
hour of preparing data: it is stalled when none of its late ranks does anything either. So is, at any time, a script
that tells of no steps.
"""

from __future__ import annotations

from dataclasses import dataclass

from monitors.incidents import Incident, Kind, Subject
from monitors.signals import NodeSeen, Phase, RankEntered, RankExited, RankProgress, RankRestored, Signal

WAITING = (Phase.STARTING, Phase.RESTORING)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartConfig:
    """How long a start may take."""

    start_s: float = 600.0
    """from starting a world to its first step: imports, rendezvous, restore, compilation"""


@dataclass(slots=True)
class _Start:
    """How far one rank came."""

    phase: Phase = Phase.STARTING
    restored_step: int | None = None
    first_step: int | None = None
    """step it stood at when first heard, for a rank whose restore was not heard"""
    speaks: bool = False
    entered: bool = False
    done: bool = False
    moved_at: float = 0.0

    def moved(self, signal: RankProgress) -> bool:
        """True when this finishes its start."""
        self.phase, self.moved_at, self.speaks = signal.phase, signal.moved_at, signal.speaks
        if self.first_step is None:
            self.first_step = signal.step
        base = self.first_step if self.restored_step is None else self.restored_step
        # A script that does not speak through the SDK may have no steps at all: past its start, hang limits judge it.
        speechless = not self.entered and signal.phase not in WAITING
        return signal.step > base or speechless or signal.phase is Phase.DONE


class Start:
    """Concludes once for each world."""

    deadline: float | None = None
    """never: only an agent that looked can tell that nothing began, and its looks are signals"""

    def __init__(self, config: StartConfig, *, nodes: int, ranks_per_node: int) -> None:
        self.config = config
        self._nodes = nodes
        self._ranks_per_node = ranks_per_node
        self._known = False
        """a world of this run came to its first step"""
        self.world_began(0, 0.0)
        self._over = True

    def world_began(self, world: int, at: float) -> None:
        """Every rank has to start anew."""
        self._world = world
        self._began = at
        self._over = False
        self._without_order = set(range(self._nodes))
        self._looked: dict[int, float] = {}
        self._starts = {rank: _Start() for rank in range(self._nodes * self._ranks_per_node)}

    def see(self, signal: Signal) -> list[Incident]:
        """A rank came further, or an agent looked."""
        if self._over:
            return []
        match signal:
            case RankProgress():
                self._progress(signal)
            case RankEntered():
                self._start(signal.rank).entered = True
            case RankRestored():
                self._start(signal.rank).restored_step = signal.step
            case RankExited():
                self._exited(signal)
            case NodeSeen():
                return self._looked_at(signal)
            case _:
                pass
        return []

    def _looked_at(self, signal: NodeSeen) -> list[Incident]:
        if signal.node in self._without_order and signal.world >= self._world:
            self._without_order.discard(signal.node)
            self._began = max(self._began, signal.at)
        first = self._is_first_look(signal)
        return [] if first else self._judge(signal.at, signal.node)

    def silent(self, now: float) -> list[Incident]:  # noqa: ARG002 - every detector has it
        """Nothing: silence of an agent is no proof."""
        return []

    def _is_first_look(self, signal: NodeSeen) -> bool:
        """After a silence: what the ranks did meanwhile is still on its way, for news that is overtaken is not sent."""
        before = self._looked.get(signal.node, self._began)
        self._looked[signal.node] = signal.at
        return signal.at - before > self.config.start_s / 2

    def _start(self, rank: int) -> _Start:
        return self._starts.setdefault(rank, _Start())

    def _progress(self, signal: RankProgress) -> None:
        start = self._start(signal.rank)
        if not start.done and start.moved(signal):
            self._finish(signal.rank)

    def _exited(self, signal: RankExited) -> None:
        if signal.ordered or signal.code != 0:
            self._over = True  # what ended this world has an incident of its own
        self._finish(signal.rank)

    def _finish(self, rank: int) -> None:
        self._start(rank).done = True
        if not self._over and all(start.done for start in self._starts.values()):
            self._over = self._known = True

    def _judge(self, at: float, node: int) -> list[Incident]:
        if self._over or self._without_order or at - self._began <= self.config.start_s:
            return []
        late = {rank: start for rank, start in self._starts.items() if not start.done}
        if all(rank // self._ranks_per_node != node for rank in late):
            return []  # of the ranks that this agent sees all have started
        if any(self._may_take_longer(start, at) for start in late.values()):
            return []
        self._over = True
        return [self._stalled(late, at)]

    def _may_take_longer(self, start: _Start, at: float) -> bool:
        is_told = start.speaks or start.entered
        return not (is_told and self._known) and at - start.moved_at <= self.config.start_s

    def _stalled(self, late: dict[int, _Start], at: float) -> Incident:
        behind = _furthest_behind(late)
        alone = behind[0] if len(behind) == 1 else None
        ranks = ", ".join(str(rank) for rank in sorted(late)[:8])
        return Incident(
            kind=Kind.START_STALLED,
            at=at,
            onset=min(self._began, at),
            world=self._world,
            subject=Subject() if alone is None else Subject(node=alone // self._ranks_per_node, rank=alone),
            confidence=0.9 if alone is not None else 0.6,
            evidence=(
                f"no first step {at - self._began:.0f} s after the start; the limit is {self.config.start_s:.0f} s",
                f"{len(late)} of {len(self._starts)} ranks did not start: {ranks}",
                *(f"rank {rank} is still {late[rank].phase}" for rank in behind[:4]),
            ),
        )


def _furthest_behind(late: dict[int, _Start]) -> list[int]:
    order = list(Phase)
    least = min(order.index(start.phase) for start in late.values())
    return [rank for rank, start in sorted(late.items()) if order.index(start.phase) == least]

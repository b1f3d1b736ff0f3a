"""What is really so? The weights, the disk and the injected faults, as no supervisor can see them.

The checkers here decide by this truth alone and share no code with the core they judge.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from monitors.incidents import Incident, Kind
from monitors.values import quick
from orchestrator.core.actions import StartWorld
from orchestrator.core.state import CheckpointState, Opened, State

Windows = tuple[tuple[int, int], ...]
LATE_S = 60.0
"""senses may tell of a fault when the next world has begun"""


class Violation(Exception):
    """The system did what it must never do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Poison:
    """Why weights are bad: from `step` of `world` on."""

    kind: str
    world: int
    step: int
    number: int


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A model's whole past: the steps 1 to `step`, each once, and which data they were fed."""

    step: int = 0
    jumped: Windows = ()
    """windows of data left out on the way"""
    poison: Poison | None = None


@dataclass(slots=True, kw_only=True)
class Save:
    """A checkpoint on disk, or copies of all ranks in memory."""

    name: str
    weights: Weights
    corrupt: bool = False
    verified: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something of a node broke, in or before a world."""

    what: str
    world: int
    at: float
    node: int
    rank: int | None
    """whose GPU or process it is; None: all ranks of the node alike"""
    kinds: frozenset[Kind]
    """what it may be told as when a world is ended for it"""
    clear: bool
    """the senses of its node see it, and in time"""

    def denies(self, incident: Incident) -> str:
        """Why it cannot be what the incident tells; empty: it may be."""
        subject = incident.subject
        if incident.kind not in self.kinds:
            return f"{incident.kind} instead of {', '.join(sorted(self.kinds))}"
        if subject.node != self.node:
            return f"node {subject.node} is named"
        if None not in (subject.rank, self.rank) and subject.rank != self.rank:
            return f"rank {subject.rank} is named"
        return ""


def merged(windows: Windows) -> Windows:
    """The same data left out, in windows that do not touch."""
    result: list[tuple[int, int]] = []
    for first, end in sorted(windows):
        if result and first <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((first, end))
    return tuple(result)


def fed(windows: Windows, step: int) -> int:
    """Index of the batch of a step (from 1), with these merged windows left out: the n-th that lies in none."""
    index = step - 1
    for first, end in windows:
        if index < first:
            break
        index += end - first
    return index


def jumped_before(windows: Windows, step: int) -> Windows:
    """The merged windows that a model trained to `step` has left out."""
    if step == 0:
        return ()
    last = fed(windows, step)
    return windows[: bisect_right(windows, (last, last))]


@dataclass(slots=True)
class Truth:
    """Everything that is known to be true of one simulated run."""

    saves: dict[str, Save] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    faults: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    """by world: what was done to it"""
    culprits: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    """by world: ranks that failed by themselves, not as victims"""
    attempt_faults: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    known_poisons: set[int] = field(default_factory=set)
    """poisons that were reported by an incident"""
    poison_of: dict[int, Poison] = field(default_factory=dict)
    """by world: what its weights hold"""
    poisons: int = 0
    slowed: set[int] = field(default_factory=set)
    """worlds of which some steps took longer"""
    lost_links: set[int] = field(default_factory=set)
    """attempts of which a node was not heard for a while"""
    hosts: dict[int, dict[int, str]] = field(default_factory=dict)
    """by attempt: the host of each node"""
    cordoned: set[str] = field(default_factory=set)
    """hosts that people want no ranks on"""
    pinned: set[str] = field(default_factory=set)
    """saves that people want kept"""
    troubles: dict[int, Trouble] = field(default_factory=dict)
    """by world: what broke in it, or was broken when it began"""
    odd_nodes: set[int] = field(default_factory=set)
    """whose senses had something to tell, innocent or not"""
    answered: dict[int, list[Opened]] = field(default_factory=lambda: defaultdict(list))
    """by world: incidents that ended it"""
    _judged: tuple[object, ...] = ()

    def poisoned(self, kind: str, world: int, step: int) -> Poison:
        """Weights of a world go bad."""
        self.poisons += 1
        self.faults[world].append(kind)
        return Poison(kind=kind, world=world, step=step, number=self.poisons)

    def holds(self, world: int, poison: Poison | None) -> None:
        """What the weights hold that a world begins with."""
        self.poison_of.pop(world, None)
        if poison is not None:
            self.poison_of[world] = poison

    def none_whole(self, world: int, ranks: Iterable[int]) -> None:
        """A world has nothing to begin with, and every rank of it fails."""
        self.faults[world].append("no candidate was whole")
        self.culprits[world] |= set(ranks)

    def link_lost(self, attempt: int) -> None:
        """A node of an attempt is not heard: what is started or ended meanwhile may fail for it."""
        self.lost_links.add(attempt)

    def may_blame(self, incident: Incident) -> None:
        """A world is ended because of hardware."""
        near = [t for t in self.troubles.values() if t.world <= incident.world and incident.onset <= t.at + LATE_S]
        trouble = self.troubles.get(incident.world) or max(near, key=lambda t: t.at, default=None)
        if trouble is None:
            raise Violation(f"no hardware failed, and a world is ended for it: {incident}")
        if why := trouble.denies(incident):
            raise Violation(f"{why}: {trouble}; {incident}")

    def saved_step(self, order: StartWorld) -> int:
        """The step of the newest checkpoint that a world may restore; 0: it may restore none."""
        return max((self.saves[name].weights.step for name in order.candidates if name in self.saves), default=0)

    def may_restore(self, save: Save, skips: Windows) -> None:
        """A world is about to continue from this save."""
        weights = save.weights
        if save.corrupt:
            raise Violation(f"{save.name} is corrupt and was restored")
        if weights.poison is not None and weights.poison.number in self.known_poisons:
            raise Violation(f"{save.name} holds {weights.poison}, which was detected, and was restored")
        wanted = jumped_before(skips, weights.step)
        if wanted != weights.jumped:
            raise Violation(f"{save.name} was fed without {weights.jumped}, and is continued with {wanted} left out")

    def may_delete(self, name: str) -> None:
        """Retention takes a save."""
        if name in self.pinned:
            raise Violation(f"{name} was to be kept, and is deleted")
        left = [s for s in self.saves.values() if s.name != name]
        if name not in self.saves or any(s.verified and s.weights.poison is None for s in left):
            return
        save = self.saves[name]
        if save.verified and not save.corrupt and save.weights.poison is None:
            raise Violation(f"the last good checkpoint {name} was deleted; left: {[s.name for s in left]}")

    def may_decide(self, state: State) -> None:
        """A state was decided on: nothing bad may count as good."""
        if state.checkpoints is self._judged:
            return
        self._judged = state.checkpoints
        for checkpoint in state.checkpoints:
            save = self.saves.get(checkpoint.name)
            if checkpoint.state is CheckpointState.GOOD and save is not None and save.weights.poison is not None:
                raise Violation(f"{checkpoint.name} holds {save.weights.poison} and counts as good")


def trained_on(step: int, skips: Windows, poison: Poison | None) -> Weights:
    """The weights of a model that was trained to this step."""
    return Weights(step=step, jumped=jumped_before(skips, step), poison=poison)

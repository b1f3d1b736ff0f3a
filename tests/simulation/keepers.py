"""What is left in memory of a world that is gone? The keepers of the nodes, and what they hold of each other's ranks.

A keeper outlives its agent, not its node; what it sent to the next node outlives that one too. A copy that was sent
arrives at once, or when the next one is made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

from orchestrator.core.actions import StartWorld
from tests.simulation.knobs import Knobs
from tests.simulation.truth import Save, Violation, Weights

Copied = tuple[int, Save]
"""world that made it, and what it is of"""


def _two() -> deque[Copied]:
    return deque(maxlen=2)


@dataclass(slots=True)
class _Keeper:
    own: deque[Copied] = field(default_factory=_two)
    others: deque[Copied] = field(default_factory=_two)
    """of the node before it"""
    coming: list[Copied] = field(default_factory=list)


class Keepers:
    """Those of all nodes."""

    def __init__(self, knobs: Knobs) -> None:
        self._knobs = knobs
        self._dice = Random(f"keepers {knobs.seed}")
        self._of = {node: _Keeper() for node in range(knobs.nodes)}
        self.trusted_from = 1
        """the first world whose copies may be taken, as the truth has it"""

    def copied(self, world: int, weights: Weights) -> None:
        """The ranks of a world hold copies of a step in memory, and send them."""
        copy = world, Save(name=f"the copy of step {weights.step} that world {world} made", weights=weights)
        for keeper in self._of.values():
            keeper.own.append(copy)
            if self._knobs.nodes > 1:
                keeper.coming.append(copy)
                self._arrive(keeper, 1 if self._dice.random() < self._knobs.copy_late else 0)

    def _arrive(self, keeper: _Keeper, under_way: int) -> None:
        while len(keeper.coming) > under_way:
            keeper.others.append(keeper.coming.pop(0))

    def lost(self, node: int) -> None:
        """A keeper is gone: with its node, or by itself. What was on its way to it, or from it, never arrives."""
        self._of[node] = _Keeper()
        self._of[(node + 1) % self._knobs.nodes].coming.clear()

    def ended(self, *, relaunch: bool) -> None:
        """An attempt is over. A keeper whose agent has died is not told that the run is."""
        for keeper in self._of.values():
            keeper.coming.clear()
        for node in self._of:
            if self._dice.random() < (self._knobs.keeper_lost if relaunch else 0.5):
                self.lost(node)

    def doubted(self, world: int) -> None:
        """From now on nothing may be taken that this world made, or one before it."""
        self.trusted_from = max(self.trusted_from, world + 1)

    def newest(self, order: StartWorld, saved_step: int) -> tuple[int, Save, frozenset[int]] | None:
        """As the ranks choose: what all of them have, and may take, the newest, unless a checkpoint is newer still.

        With the nodes to which it is brought from another one.
        """
        since = order.memory_since
        held = {node: {copy.name: (world, copy) for world, copy in self._held(node)} for node in self._of}
        common = set.intersection(*(set(names) for names in held.values()))
        fit = [
            (world, copy)
            for name, (world, copy) in held[0].items()
            if name in common and since is not None and since <= world < order.world
            and copy.weights.step >= saved_step
        ]  # fmt: skip
        if not fit:
            return None
        world, copy = max(fit, key=lambda one: (one[0], one[1].weights.step))
        if world < self.trusted_from:
            raise Violation(
                f"world {order.world} takes copies of world {world}; {self.trusted_from} is the first trusted"
            )
        brought = {node for node, keeper in self._of.items() if all(copy is not kept for _, kept in keeper.own)}
        return world, copy, frozenset(brought)

    def _held(self, node: int) -> Iterable[Copied]:
        if self._knobs.nodes == 1:
            return self._of[node].own
        return [*self._of[node].own, *self._of[(node + 1) % self._knobs.nodes].others]

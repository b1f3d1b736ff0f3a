"""When does a simulated world save? By the ranks' own rule; what the agent of rank 0 was told counts from a save on."""

from __future__ import annotations

from lastgood.interval import Interval
from lastgood.peers import Peers
from orchestrator.core.actions import StartWorld
from tests.simulation.knobs import Knobs


class Saves(Interval):
    """Of one world, whose ranks hear each other at once."""

    def __init__(self, order: StartWorld, knobs: Knobs) -> None:
        super().__init__(order.save_every or knobs.save_every)
        self.said = 0
        """steps between saves, by the newest order"""
        self._peers = Peers(0, 1)

    def began(self, step: int) -> None:
        """A save of this step begins."""
        self.agree(step, self.said, self._peers)

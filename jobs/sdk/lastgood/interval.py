"""After which steps does a world save, when the interval may change while it trains?

Ranks that saved different steps would wait for each other, or mix them. So a new interval, which the agent of each rank
writes into its progress file at a time of its own, counts from a save on, for that is where all ranks meet: each hears
what rank 0 has read. A rank whose file says something else, or nothing yet, does as rank 0 does.
"""

from __future__ import annotations

from lastgood.peers import Peers


class Interval:
    """Steps between the durable saves of one world, the same on every rank of it."""

    def __init__(self, every: int) -> None:
        """`every`: what the world was started with."""
        self.every = every
        self._agreed_at: int | None = None
        """step of the last save"""

    def is_due(self, step: int) -> bool:
        """Whether a save is due after this step: every so many, at the same steps whatever world trains them.

        After a change these may lie just behind the last save; one that comes after less than half an interval is left
        out, so that none is due before the one before it is written.
        """
        if step % self.every:
            return False
        return self._agreed_at is None or 2 * (step - self._agreed_at) >= self.every

    def agree(self, step: int, said: int, peers: Peers) -> None:
        """A collective, at the save of this step. `said`: what the agent of this rank wants, 0 for nothing yet."""
        self._agreed_at = step
        self.every = peers.first(max(said, 0)) or self.every

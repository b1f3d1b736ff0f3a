"""Which node does nobody hear? Unheard is not dead: it may well be training."""

from __future__ import annotations

from dataclasses import dataclass

from monitors.incidents import Incident, Kind, Subject
from monitors.signals import NodeSeen, Signal, WorldStopped


@dataclass(frozen=True, slots=True, kw_only=True)
class UnseenConfig:
    """When silence is worth a word."""

    silence_s: float = 30.0
    """a restart of the supervisor or a lost link is over by then: the agent dials again within seconds"""


class Unseen:
    """Says once for each silence that a node is not heard."""

    def __init__(self, config: UnseenConfig, *, nodes: int) -> None:
        self.config = config
        self._nodes = nodes
        self._world = 0
        # Ordered by time: whoever was heard is put last, so the first is the deadline.
        self._seen: dict[int, float] = {}
        self._stopped: set[int] = set()
        self.deadline: float | None = None
        """when the node heard longest ago has been silent for too long"""

    def _next(self) -> float | None:
        oldest = next(iter(self._seen.values()), None)
        return None if oldest is None else oldest + self.config.silence_s

    def world_began(self, world: int, at: float) -> None:
        """Every node should be heard from now on."""
        self._world = world
        self._stopped.clear()
        self._seen = {node: max(at, self._seen.get(node, at)) for node in range(self._nodes)}
        self._seen = dict(sorted(self._seen.items(), key=lambda item: item[1]))
        self.deadline = self._next()

    def see(self, signal: Signal) -> list[Incident]:
        """A sign of life, or the end of a world, after which a node owes none."""
        match signal:
            case NodeSeen() if self._world and signal.node not in self._stopped:
                self._seen[signal.node] = max(signal.at, self._seen.pop(signal.node, signal.at))
            case WorldStopped(world=self._world):
                self._stopped.add(signal.node)
                self._seen.pop(signal.node, None)
            case _:
                pass
        self.deadline = self._next()
        return []

    def silent(self, now: float) -> list[Incident]:
        """The nodes that have been silent for too long, each once."""
        incidents = []
        while self.deadline is not None and now >= self.deadline:
            node = next(iter(self._seen))
            incidents.append(self._unseen(node, self._seen.pop(node), now))
            self.deadline = self._next()
        return incidents

    def _unseen(self, node: int, since: float, now: float) -> Incident:
        return Incident(
            kind=Kind.NODE_UNSEEN,
            at=now,
            onset=min(since, now),
            world=self._world,
            subject=Subject(node=node),
            evidence=(
                f"the agent of node {node} was last heard {now - since:.0f} s ago",
                "its ranks may well be training: nothing is ended for this",
            ),
        )

"""A collective timed out and its victims die: what do the flight recorders say, and who has not been heard yet?

Whoever waits for a rank that does not come is ended by its time-out, NCCL's watchdog or gloo's, so the first rank to
die is a victim. What it had recorded, it left in a file; the ranks that live are asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from monitors.detect.collectives import Blocked, blocked
from monitors.incidents import Subject
from monitors.signals import CollectivesLooked, RankExited, Signal, WorldStopped

TIMEOUTS = frozenset({"nccl_timeout", "gloo_timeout"})
"""classes of last words that tell of it"""


@dataclass(slots=True)
class Records:
    """What is known of a world that ends, from its first death on."""

    ranks: int
    """0: not known, and then nobody is asked"""
    ranks_per_node: int
    _nodes: dict[int, int] = field(default_factory=dict)
    """of the ranks that were heard of"""
    _gone: dict[int, RankExited] = field(default_factory=dict)
    _coming: set[int] = field(default_factory=set)
    """ranks whose recorders wrote something that is not here yet"""
    _looks: dict[int, CollectivesLooked] = field(default_factory=dict)
    left: bool = False
    """some recorder wrote by itself, which it does after a time-out"""
    _over: set[int] = field(default_factory=set)
    """nodes of which nobody says any more"""

    @property
    def coming(self) -> bool:
        """A dump that was written, or begun, is yet to be read."""
        return bool(self._coming)

    @property
    def unasked(self) -> tuple[int, ...]:
        """Ranks that live, as far as is known, and have not told where they stand."""
        silent = set(range(self.ranks)) - self._gone.keys() - self._looks.keys()
        return tuple(sorted(rank for rank in silent if self._node(rank) not in self._over))

    def see(self, signal: Signal) -> None:
        """A rank ended, its recorder was read, or a node has no ranks any more."""
        match signal:
            case RankExited():
                self._gone[signal.rank], self._nodes[signal.rank] = signal, signal.node
                self._coming |= set(signal.recording) - self._looks.keys()
                self._nodes.update(dict.fromkeys(signal.recording, signal.node))
                self.left = self.left or bool(signal.recording)
            case CollectivesLooked():
                self._nodes[signal.rank] = signal.node
                self._coming.discard(signal.rank)
                self._keep(signal)
            case WorldStopped():
                self._over.add(signal.node)
                self._coming = {rank for rank in self._coming if self._node(rank) != signal.node}
            case _:
                pass

    def verdict(self) -> Blocked | None:
        """Whom they waited for. A rank that failed and left nothing waited too: it is nobody's culprit."""
        if not self._looks:
            return None
        failed = {rank for rank, exited in self._gone.items() if exited.code != 0}
        asked = set(range(self.ranks)) if self.ranks else {*self._looks, *self._gone}
        return blocked(self._looks, asked - (failed - self._looks.keys()), timed_out=True)

    def evidence(self, found: Blocked) -> tuple[str, ...]:
        """What the verdict rests on; a rank that ended well does not answer for another reason than a stopped one."""
        exited = None if found.rank is None else self._gone.get(found.rank)
        if exited is None or exited.code != 0 or found.rank in self._looks:
            return found.evidence
        said = tuple(one for one in found.evidence if not one.startswith(f"rank {found.rank} does not answer"))
        return (*said, f"rank {found.rank} had ended with status 0 after step {exited.step}, and takes part no more")

    def subject(self, rank: int) -> Subject:
        """Where a rank is."""
        return Subject(node=self._node(rank), rank=rank)

    def _node(self, rank: int) -> int:
        return self._nodes.get(rank, rank // self.ranks_per_node)

    def _keep(self, look: CollectivesLooked) -> None:
        """The oldest that says something: later the time-out itself has wiped out who was in which collective."""
        known = self._looks.get(look.rank)
        if known is None or known.said or (not look.said and look.at < known.at):
            self._looks[look.rank] = look

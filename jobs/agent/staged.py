"""Which copies of this node has the saver still to write? One save at a time, and one that waits: the newest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A copy that a rank made to be saved."""

    rank: int
    world: int
    step: int
    path: str
    data_index: int
    """of the next batch"""
    saved_at: float
    """when the state was copied"""
    stall_s: float = 0.0


Save = tuple[Staged, ...]
"""that of each rank of the node, in their order"""


@dataclass(slots=True, kw_only=True)
class Queue:
    """The saves of one node, from their first rank's copy to their end."""

    ranks: int
    """of the node"""
    writing: Save | None = None
    waiting: Save | None = None
    _part: dict[tuple[int, int], dict[int, Staged]] = field(default_factory=dict)
    """by world and step, while ranks are missing"""

    def put(self, staged: Staged) -> Save | None:
        """One more rank is done; the save that is given up for the one that is now complete, if there was one."""
        part = self._part.setdefault((staged.world, staged.step), {})
        part[staged.rank] = staged
        if len(part) < self.ranks:
            return None
        del self._part[staged.world, staged.step]
        replaced, self.waiting = self.waiting, tuple(part[rank] for rank in sorted(part))
        return replaced

    def begin(self) -> Save | None:
        """The save to be written now; None while there is none, or another is being written."""
        if self.writing is not None or self.waiting is None:
            return None
        self.writing, self.waiting = self.waiting, None
        return self.writing

    def end(self) -> Save | None:
        """The one that was being written is over."""
        ended, self.writing = self.writing, None
        return ended

    def give_up(self) -> Save | None:
        """The one that waits will not be written."""
        dropped, self.waiting = self.waiting, None
        return dropped

    def world_over(self) -> None:
        """The ranks that are missing will never be heard."""
        self._part.clear()

    @property
    def known(self) -> tuple[Save, ...]:
        """What is complete and not over."""
        return tuple(save for save in (self.writing, self.waiting) if save is not None)

    def free(self, paths: Iterable[str]) -> list[str]:
        """Those of the paths that no save is made of."""
        parts = [one for part in self._part.values() for one in part.values()]
        held = {one.path for save in (*self.known, parts) for one in save}
        return [path for path in paths if path not in held]

"""What stands in for the supervisor when nobody supervises? A folder: the newest whole checkpoint, and the last few."""

from __future__ import annotations

from typing import Any

from lastgood.notes import Note
from lastgood.place import Place

KEEP = 2
"""Checkpoints kept: the newest may turn out damaged. The default of the spec's `checkpoint.keep`."""


def candidates(here: Place) -> tuple[tuple[str, int], ...]:
    """(name, step) of the whole checkpoints in the folder, newest first, the same on every rank.

    Rank 0 looks and tells the others: on shared storage they might not all see the newest one yet.
    """
    found = _newest_first(here.checkpoints) if here.rank == 0 else ()
    if here.world_size == 1:
        return found
    import torch.distributed as dist

    told = [found]
    dist.broadcast_object_list(told, src=0)
    return told[0]


class Retention:
    """Passes notes on, and deletes the older checkpoints when a new one is committed."""

    def __init__(self, folder: str, note: Note) -> None:
        self._folder = folder
        self._note = note

    def __call__(self, note: str, /, **fields: Any) -> None:
        """Take one note."""
        self._note(note, **fields)
        if note == "committed":
            self._delete_old()

    def _delete_old(self) -> None:
        from lastgood import manifest

        for name, _ in _newest_first(self._folder)[KEEP:]:
            manifest.delete(self._folder, name)


def _newest_first(folder: str) -> tuple[tuple[str, int], ...]:
    from lastgood import manifest

    return tuple(manifest.whole(folder))

"""What stands in for the supervisor when nobody supervises? A folder: the newest whole checkpoint, and the last few."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lastgood import manifest
from lastgood.notes import Note
from lastgood.place import Place

KEEP = 2
"""Checkpoints kept: the newest may turn out damaged. The default of the spec's `checkpoint.keep`."""
DAMAGED = ".damaged"


def candidates(here: Place) -> tuple[tuple[str, int], ...]:
    """(name, step) of the whole checkpoints in the folder, newest first, the same on every rank.

    Rank 0 looks and tells the others: on shared storage they might not all see the newest one yet.
    """
    from lastgood.peers import Peers

    with Peers(here.rank, here.world_size) as peers:
        looks = peers.all(lambda: _newest_first(here.checkpoints) if here.rank == 0 else ())
        return looks[0]


def set_aside(here: Place, refused: Sequence[str]) -> None:
    """Rename damaged checkpoints: their names are needed when their steps are saved again. Rank 0 does it."""
    for name in refused if here.rank == 0 else ():
        path = Path(here.checkpoints, name)
        with suppress(FileNotFoundError):
            path.replace(path.with_name(name + DAMAGED))


class Retention:
    """Passes notes on, and deletes the older checkpoints when a new one is committed."""

    def __init__(self, folder: str, note: Note) -> None:
        self._folder = Path(folder)
        self._note = note

    def __call__(self, note: dict[str, Any]) -> None:
        """Take one note."""
        self._note(note)
        if note["note"] == "committed":
            with suppress(OSError):  # tried again after the next save; training is worth more than a tidy folder
                self._delete_old()

    def _delete_old(self) -> None:
        for name, _ in _newest_first(str(self._folder))[KEEP:]:
            (self._folder / name).rename(self._folder / (name + manifest.DELETING))
        for leftover in self._folder.glob(f"step-*{manifest.DELETING}"):
            shutil.rmtree(leftover)


def _newest_first(folder: str) -> tuple[tuple[str, int], ...]:
    return tuple((str(name), name.step) for name in reversed(manifest.names(folder)))

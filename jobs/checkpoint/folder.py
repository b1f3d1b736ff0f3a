"""What lies in a run's checkpoint folder, and how is something taken out of it without a reader seeing half of it?"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from lastgood.manifest import DELETING, ROUNDS, WRITING, Name, names

_LEFTOVER = re.compile(
    rf"(?P<name>step-\d{{8,}}\.a\d+w(?P<world>\d+))({re.escape(WRITING)}|{re.escape(DELETING)}|{re.escape(ROUNDS)})+"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One whole checkpoint on storage."""

    name: Name
    path: str
    bytes: int
    """of its files, as they are now"""


def stored(folder: str) -> list[Stored]:
    """The whole checkpoints, oldest step first; none when there is no folder. Raises OSError."""
    found = []
    for name in names(folder):
        path = os.path.join(folder, str(name))
        found.append(Stored(name=name, path=path, bytes=total_bytes(path)))
    return found


def total_bytes(path: str) -> int:
    """Bytes of the files in a folder; 0 when it is gone or goes meanwhile. Raises OSError."""
    try:
        with os.scandir(path) as entries:
            return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
    except FileNotFoundError:
        return 0


def delete(folder: str, checkpoint: str) -> None:
    """Take a whole checkpoint out, atomically for a reader; nothing happens when it is gone. Raises OSError."""
    doomed = os.path.join(folder, checkpoint + DELETING)
    _remove(doomed)  # of an earlier try that was interrupted
    try:
        os.rename(os.path.join(folder, checkpoint), doomed)
    except FileNotFoundError:
        return
    _remove(doomed)


def clean(folder: str, *, before_world: int, spared: Collection[str] = ()) -> list[str]:
    """Remove what dead worlds left half-written, and what was half-deleted; the names removed. Raises OSError.

    A save of `before_world` or a newer one may be on its way and is left alone, and so are the checkpoints `spared`:
    a saver outlives the world whose copies it writes.
    """
    removed = []
    for name in sorted(os.listdir(folder) if os.path.isdir(folder) else ()):
        found = _LEFTOVER.fullmatch(name)
        if found is None or (found["name"] in spared and not name.endswith(DELETING)):
            continue
        if name.endswith(DELETING) or int(found["world"]) < before_world:
            _remove(os.path.join(folder, name))
            removed.append(name)
    return removed


def _remove(path: str) -> None:
    while os.path.lexists(path):
        with suppress(FileNotFoundError):  # somebody else removes it too
            shutil.rmtree(path)

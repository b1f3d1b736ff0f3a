"""The saver of a node without its agent: saves from copies in memory, with the interface of a rank's own saver."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lastgood import hold
from lastgood import saver as node_saver
from lastgood.audience import Nobody
from lastgood.commit import Outcome
from lastgood.files import Files
from lastgood.memory import Memory
from lastgood.notes import made
from lastgood.place import CopyPlace, Place
from lastgood.snapshot import State

GIB = 1 << 30


class Attended(Nobody):
    """A node with a saver."""

    def saver(self) -> str:
        """It has one, until a test says otherwise."""
        return self.has

    has = "there"


def empty_files(folder: str, count: int) -> tuple[str, ...]:
    """What an agent makes for the copies of one rank."""
    paths = [Path(folder, str(turn)) for turn in range(count)]
    for path in paths:
        path.touch()
    return tuple(map(str, paths))


class CopySaver:
    """Stages in the ranks, saves as the saver does."""

    def __init__(
        self,
        folder: Path,
        notes: list[dict[str, Any]],
        files: Files | None = None,
        world: int = 2,
        *,
        rank: int = 0,
        world_size: int = 1,
        copies: int = 3,
    ) -> None:
        self.staged: list[dict[str, Any]] = []
        self.audience = Attended()
        copied = tempfile.mkdtemp(prefix="copies")
        # A saver that dies in a test closes nothing, and a folder that cleans itself up would complain of that.
        self._cleanup = weakref.finalize(self, shutil.rmtree, copied, ignore_errors=True)
        self._folder, self._notes, self._files, self._world = folder, notes, files or Files(), world
        place = CopyPlace(paths=empty_files(copied, copies), since=1, every=1)
        here = Place(
            run="run", attempt=1, world=world, rank=rank, world_size=world_size, memory=place, local_world_size=1
        )
        self.memory = Memory(here, note=self.staged.append, audience=self.audience, available=lambda: GIB)

    def save(self, step: int, state: State, data_index: int) -> None:
        """Stage, and write what was staged before."""
        self.wait()
        assert self.memory.stage(step, state, data_index), self.staged
        self.memory.settle()

    def wait(self) -> None:
        """Write what is staged."""
        for note in [note for note in self.staged if note["note"] == "staged"]:
            self.staged.remove(note)
            self.take(node_saver.save(self.order([note]), self._files), note["step"])
            hold.release(note["path"])

    def take(self, outcome: Outcome, step: int) -> None:
        """Note it as a rank's own saver does."""
        if outcome.committed is not None:
            self._notes.append(outcome.committed)
        if outcome.failure is not None:
            self._notes.append(made("save_failed", step=step, why=outcome.failure.why, errno=outcome.failure.errno))

    def order(self, notes: Sequence[dict[str, Any]], *, node: int = 0, nodes: int = 1) -> dict[str, Any]:
        """As the agent gives it."""
        first = notes[0]
        return {
            **{name: first[name] for name in ("step", "data_index", "saved_at", "stall_s")},
            "folder": str(self._folder),
            "run": "run",
            "attempt": 1,
            "world": self._world,
            "node": node,
            "nodes": nodes,
            "paths": [note["path"] for note in notes],
        }

    def close(self) -> None:
        """Write what is staged, and part."""
        self.wait()
        self.memory.close()
        self._cleanup()

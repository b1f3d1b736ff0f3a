"""Where does everything of one node of an attempt lie?"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One node of one attempt of one run, under one state folder."""

    home: Path
    run: str
    attempt: int
    node: int

    @property
    def run_folder(self) -> Path:
        """Everything of the run."""
        return self.home / "runs" / self.run

    @property
    def folder(self) -> Path:
        """This node's own: agent.json, agent.log, lock, and a folder per world."""
        return self.run_folder / "attempts" / f"{self.attempt:03d}" / f"node{self.node}"

    @property
    def mark(self) -> str:
        """What every process of the attempt carries in its environment."""
        return f"{self.run}:{self.attempt}"

    def checkpoints(self, named: str | None) -> Path:
        """The checkpoint folder: the one that the spec names, or the run's own."""
        return self.run_folder / (named or "checkpoints")

    def rank_folder(self, world: int, rank: int) -> Path:
        """Logs, notes, drill and error of one rank in one world."""
        return self.folder / f"w{world}" / f"rank{rank}"

    def progress_file(self, world: int, rank: int) -> Path:
        """In memory where there is some; where a container has no /dev/shm, beside the logs."""
        name = f"{self._memory_prefix(self.attempt)}w{world}.rank{rank}"
        return MEMORY / name if os.access(MEMORY, os.W_OK) else self.rank_folder(world, rank) / "progress"

    def left_in_memory(self) -> list[Path]:
        """Progress files of this node, of any world of this attempt or an older one: a killed agent leaves them."""
        prefixes = map(self._memory_prefix, range(1, self.attempt + 1))
        return sorted(path for prefix in prefixes for path in MEMORY.glob(f"{prefix}w*"))

    def _memory_prefix(self, attempt: int) -> str:
        # Two state folders of one host may hold runs of the same name (tests do).
        home = hashlib.sha256(str(self.home).encode()).hexdigest()[:8]
        return f"lastgood.{home}.{self.run}.a{attempt}.node{self.node}."

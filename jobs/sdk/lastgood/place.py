"""Where does this process stand? Read once from the environment, in a supervised run, under torchrun, or alone.

`ARCHITECTURE.md` lists the variables; torch's own (RANK, LOCAL_RANK, WORLD_SIZE) mean what torchrun means by them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

SAVE_EVERY = 50
"""Steps between saves when nobody says: outside a supervised run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyPlace:
    """Where a rank's copies in memory lie, and which may be trusted."""

    paths: tuple[str, ...]
    """files of this rank, which the agent owns"""
    since: int | None = None
    """first world whose copies may be restored; None: none may"""
    every: int = 0
    """steps between copies; 0: as their cost allows"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One rank among the ranks of one world."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    """ranks of this node"""
    launched: bool = False
    """a launcher gave this process a rank, so there is (or will be) a process group"""
    run: str = "local"
    attempt: int = 0
    world: int = 0
    checkpoints: str = "checkpoints"
    resume: tuple[tuple[str, int], ...] | None = None
    """(name, step) of the checkpoints that may be restored, newest first; None: look into the folder"""
    skips: tuple[tuple[int, int], ...] = ()
    save_every: int = SAVE_EVERY
    fresh: bool = True
    """it may begin from scratch when there is nothing to restore"""
    memory: CopyPlace | None = None
    """None: no copies in memory are made"""
    progress: str | None = None
    """this rank's progress file; None outside a supervised run"""
    rank_dir: str | None = None
    """this rank's folder for notes, drills and stacks; None outside a supervised run"""

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"RANK {self.rank} is not one of the {self.world_size} ranks of WORLD_SIZE")
        if self.save_every < 1:
            raise ValueError(f"LASTGOOD_SAVE_EVERY is {self.save_every}; steps between saves must be at least 1")

    @property
    def supervised(self) -> bool:
        """An agent watches this rank."""
        return self.progress is not None


def from_environment(env: Mapping[str, str]) -> Place:
    """Raises ValueError when a variable is not what it should be."""
    resume = env.get("LASTGOOD_RESUME")
    return Place(
        rank=int(env.get("RANK", 0)),
        world_size=int(env.get("WORLD_SIZE", 1)),
        local_rank=int(env.get("LOCAL_RANK", 0)),
        local_world_size=int(env.get("LOCAL_WORLD_SIZE", 1)),
        launched="RANK" in env or int(env.get("WORLD_SIZE", 1)) > 1,
        run=env.get("LASTGOOD_RUN", "local"),
        attempt=int(env.get("LASTGOOD_ATTEMPT", 0)),
        world=int(env.get("LASTGOOD_WORLD", 0)),
        checkpoints=env.get("LASTGOOD_CHECKPOINTS", "checkpoints"),
        resume=None if resume is None else tuple((str(name), int(step)) for name, step in json.loads(resume)),
        skips=tuple((int(first), int(end)) for first, end in json.loads(env.get("LASTGOOD_SKIPS", "[]"))),
        save_every=int(env.get("LASTGOOD_SAVE_EVERY", SAVE_EVERY)),
        fresh=env.get("LASTGOOD_FRESH", "1") != "0",
        memory=_copy_place(env.get("LASTGOOD_MEMORY")),
        progress=env.get("LASTGOOD_PROGRESS"),
        rank_dir=env.get("LASTGOOD_RANK_DIR"),
    )


def _copy_place(said: str | None) -> CopyPlace | None:
    if said is None:
        return None
    body = json.loads(said)
    return CopyPlace(paths=tuple(body["paths"]), since=body["since"], every=int(body["every"]))

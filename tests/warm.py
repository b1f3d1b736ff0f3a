"""What has a process of its own without importing torch again? One that is forked from a process which did it once.

For a rank that imports torch, trains a few steps, checkpoints and ends, the imports are nine tenths of what it costs.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

IMPORTED = [
    "lastgood.restoring",
    "lastgood.saving",
    "torch._dynamo",  # the first optimizer imports it
    "torch.distributed.fsdp",
    "torch.testing._internal.distributed.fake_pg",
]
DEADLINE_S = 120.0

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(IMPORTED)


def run(play: Callable[..., None], *cases: tuple[Any, ...], folder: Path, within_s: float | None = DEADLINE_S) -> None:
    """Play all cases at once, each in its own process, with one thread; raises with what they printed if one fails."""
    files = [folder / f"said.{number}" for number in range(len(cases))]
    ranks = [_forks.Process(target=_played, args=(file, play, *case)) for file, case in zip(files, cases, strict=True)]
    try:
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join(within_s)
        codes = [rank.exitcode for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert codes == [0] * len(codes), "\n".join([str(codes), *(file.read_text() for file in files)])


def module(name: str, words: list[str], env: Mapping[str, str]) -> None:
    """A case: `python -m NAME WORDS` in this environment."""
    os.environ.update(env)
    sys.argv = [name, *words]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _played(file: Path, play: Callable[..., None], *case: Any) -> None:
    with file.open("wb") as said:
        os.dup2(said.fileno(), sys.stdout.fileno())
        os.dup2(said.fileno(), sys.stderr.fileno())
    import torch

    torch.set_num_threads(1)
    play(*case)

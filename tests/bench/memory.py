"""What do a copy in memory and a save cost a step, and how fast does a copy come back? `python -m tests.bench memory`

Each beside plain copies of the same tensors into such memory, written before, in the same run.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from lastgood import hold, pieces
from lastgood.memory import Memory
from lastgood.place import CopyPlace, Place
from lastgood.saving import Saver
from lastgood.snapshot import State
from tests.bench import figures
from tests.checkpoint.copied import Attended

LAYERS, DIM = 17, 1024
"""200 MB with AdamW's two moments"""
COPY, SAVE, RESTORE = "a copy, in the step", "a save, in the step", "a restore, checked"
MOST = {COPY: 1.2, SAVE: 1.5, RESTORE: 3.0}
"""of plain copies. A rank saves by itself only where nobody holds its copies, so for that nothing is promised"""


def _state() -> State:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(DIM, DIM) for _ in range(LAYERS)))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(4, DIM)).sum().backward()
    optimizer.step()
    return {"model": model, "optimizer": optimizer}


def _median_s(what: Callable[[], object], trials: int) -> float:
    took = []
    for _ in range(trials):
        began = time.perf_counter()
        what()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def _stage_s(copies: Memory, step: int, state: State) -> float:
    began = time.perf_counter()
    assert copies.stage(step, state, step)
    took_s = time.perf_counter() - began
    copies.settle()
    for copy in copies._copies:
        hold.release(copy.path)  # as the agent does once it is saved
    return took_s


def _own_saves_s(folder: Path, state: State, trials: int) -> float:
    """As long as the step waits, not the disk: each save is there before the next one is due."""
    saver = Saver(str(folder), run="run", attempt=1, world=1, rank=0, world_size=1, note=lambda _: None)
    took = []
    for step in range(trials):
        took.append(saver.save(step, state, step))
        saver.wait()
        shutil.rmtree(folder)
    saver.close()
    return statistics.median(took)


def main(trials: int) -> bool:
    """Print medians in milliseconds and their ratios, and whether those are within their targets."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        paths = tuple(str(Path(folder, f"copy.{turn}")) for turn in range(3))
        for path in paths:
            Path(path).touch()
        place = Place(world=1, memory=CopyPlace(paths=paths, since=1, every=1))
        state, other = _state(), _state()
        copies = Memory(place, note=lambda _: None, audience=Attended())
        for warm in (1, 2, 3):
            copies.copy(warm, state, warm, 1.0)
        copies.settle()
        taken, places = pieces.apart(state).tensors, copies._copies[0].read()[0]
        size = sum(tensor.nbytes for tensor in taken.values())

        def plain() -> None:
            for name, tensor in taken.items():
                places[name].copy_(tensor)

        plain_s = _median_s(plain, trials)
        copy_s, seal_s = [], []
        for step in range(4, 4 + trials):
            copy_s.append(_median_s(lambda step=step: copies.copy(step, state, step, 1.0), 1))
            seal_s.append(_median_s(copies.settle, 1))
        stage_s = [_stage_s(copies, step, state) for step in range(100, 100 + trials)]
        own_s = _own_saves_s(Path(folder, "checkpoints"), state, trials)
        later = replace(place, world=2)
        restore_s = _median_s(lambda: Memory(later, note=lambda _: None).restore(other), trials)
        copies.close()
    print(f"{size / 1e6:.0f} MB a rank: plain copies take {1e3 * plain_s:.1f} ms")
    took = {
        COPY: statistics.median(copy_s),
        "its digest, beside it": statistics.median(seal_s),
        RESTORE: restore_s,
        SAVE: statistics.median(stage_s),
        "a save of the rank's own": own_s,
    }
    for name, took_s in took.items():
        print(f"{name:24} {1e3 * took_s:6.1f} ms, {took_s / plain_s:.2f} of plain copies")
    missed = figures.above({name: took_s / plain_s for name, took_s in took.items()}, MOST, " of plain copies")
    print(figures.verdict(missed))
    return not missed

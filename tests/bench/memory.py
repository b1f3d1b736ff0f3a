"""What does a copy in memory cost a step, and how fast does it come back? `python -m tests.bench memory`

Each beside plain copies of the same tensors into such memory, written before, in the same run.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from lastgood import pieces
from lastgood.memory import Memory
from lastgood.place import CopyPlace, Place

LAYERS, DIM = 17, 1024
"""200 MB with AdamW's two moments"""


def _state() -> dict[str, object]:
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


def main(trials: int) -> None:
    """Print medians in milliseconds, and their ratios."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        paths = tuple(str(Path(folder, f"copy.{turn}")) for turn in range(2))
        for path in paths:
            Path(path).touch()
        place = Place(world=1, memory=CopyPlace(paths=paths, since=1, every=1))
        state, other = _state(), _state()
        copies = Memory(place, note=lambda _: None)
        for warm in (1, 2):
            copies.copy(warm, state, warm, 1.0)
        copies.settle()
        taken, places = pieces.apart(state).tensors, copies._copies[0].read()[0]
        size = sum(tensor.nbytes for tensor in taken.values())

        def plain() -> None:
            for name, tensor in taken.items():
                places[name].copy_(tensor)

        plain_s = _median_s(plain, trials)
        copy_s, seal_s = [], []
        for step in range(3, 3 + trials):
            copy_s.append(_median_s(lambda step=step: copies.copy(step, state, step, 1.0), 1))
            seal_s.append(_median_s(copies.settle, 1))
        later = replace(place, world=2)
        restore_s = _median_s(lambda: Memory(later, note=lambda _: None).restore(other), trials)
        copies.close()
    print(f"{size / 1e6:.0f} MB a rank: plain copies take {1e3 * plain_s:.1f} ms")
    for name, took_s in (
        ("a copy, in the step", statistics.median(copy_s)),
        ("its digest, beside it", statistics.median(seal_s)),
        ("a restore, checked", restore_s),
    ):
        print(f"{name:24} {1e3 * took_s:6.1f} ms, {took_s / plain_s:.2f} of plain copies")

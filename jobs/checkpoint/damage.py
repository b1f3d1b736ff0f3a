"""How is a checkpoint broken on purpose? For drills and tests: one seed, one damage, told exactly.

python -P -m jobs.checkpoint.damage PATH SEED [flip|cut|delete|swap]
"""

from __future__ import annotations

import filecmp
import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What was done."""

    kind: str
    files: tuple[str, ...]
    """names within the checkpoint"""
    detail: str

    def __str__(self) -> str:
        return f"{self.kind} {' and '.join(self.files)}: {self.detail}"


def damage(path: str, seed: int, kind: str | None = None) -> Damage:
    """Break the checkpoint folder `path` in one way; `kind` is one of KINDS, drawn from the seed when None.

    Raises KeyError for another kind, and ValueError when the checkpoint has nothing to be broken that way.
    """
    draw = random.Random(seed)
    files = sorted(file for file in Path(path).iterdir() if file.stat().st_size > 0)
    if not files:
        raise ValueError(f"{path} holds no byte")
    return KINDS[kind or draw.choice(sorted(KINDS))](files, draw)


def _flip(files: list[Path], draw: random.Random) -> Damage:
    file = draw.choice(files)
    at, bit = draw.randrange(file.stat().st_size), draw.randrange(8)
    with file.open("r+b") as opened:
        opened.seek(at)
        old = opened.read(1)[0]
        opened.seek(at)
        opened.write(bytes([old ^ 1 << bit]))
        os.fsync(opened.fileno())
    return Damage(kind="flip", files=(file.name,), detail=f"bit {bit} of byte {at}")


def _cut(files: list[Path], draw: random.Random) -> Damage:
    file = draw.choice(files)
    size = file.stat().st_size
    kept = draw.randrange(size)
    os.truncate(file, kept)
    return Damage(kind="cut", files=(file.name,), detail=f"{kept} of {size} bytes kept")


def _delete(files: list[Path], draw: random.Random) -> Damage:
    file = draw.choice(files)
    file.unlink()
    return Damage(kind="delete", files=(file.name,), detail="gone")


def _swap(files: list[Path], draw: random.Random) -> Damage:
    shards = [file for file in files if file.suffix == ".distcp"]
    pairs = [(a, b) for a in shards for b in shards if a < b and not filecmp.cmp(a, b, shallow=False)]
    if not pairs:
        raise ValueError("no two shards differ")
    first, second = draw.choice(pairs)
    aside = first.with_name(first.name + ".swap")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
    return Damage(kind="swap", files=(first.name, second.name), detail="each has the other's bytes")


KINDS: dict[str, Callable[[list[Path], random.Random], Damage]] = {
    "flip": _flip,
    "cut": _cut,
    "delete": _delete,
    "swap": _swap,
}


if __name__ == "__main__":
    print(damage(sys.argv[1], int(sys.argv[2]), *sys.argv[3:4]))

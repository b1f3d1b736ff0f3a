"""What do programs print when something fails? The cases of `said.txt`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Said(NamedTuple):
    """One text and what it is."""

    text: str
    fault: str
    role: str
    next: str


def _read(path: Path) -> list[Said]:
    cases = []
    for block in path.read_text().split("\n=== ")[1:]:
        head, _, text = block.partition("\n")
        fault, role, then = head.split()
        cases.append(Said(text=text, fault=fault, role=role, next=then))
    return cases


SAID = _read(Path(__file__).with_suffix(".txt"))

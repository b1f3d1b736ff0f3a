"""Where in the code does each rank stand? Equal stacks together, the fewest ranks first: they are the odd ones out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from monitors.detect.collectives_groups import listed

FRAMES = 5
"""innermost ones: below them all ranks came the same way"""
GROUPS = 4
OURS = "/lastgood/worker.py"
"""below a user's own frames, on every rank"""


def grouped(stacks: Mapping[int, Sequence[str]], culprit: int | None = None) -> tuple[str, ...]:
    """One sentence for each place in the code, from stacks by rank, innermost frame last; empty stacks say nothing.

    Of equally many ranks, those with the culprit come first.
    """
    places: dict[tuple[str, ...], list[int]] = {}
    for rank, stack in sorted(stacks.items()):
        theirs = tuple(frame.strip() for frame in stack if OURS not in frame)
        if theirs:
            places.setdefault(theirs[-FRAMES:], []).append(rank)
    ordered = sorted(places.items(), key=lambda item: (len(item[1]), culprit not in item[1], item[1]))
    if len(ordered) > GROUPS:
        ordered = [*ordered[: GROUPS - 1], ordered[-1]]
    return tuple(f"stack of {_who(ranks)}: {' < '.join(reversed(frames))}" for frames, ranks in ordered)


def _who(ranks: Sequence[int]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"{len(ranks)} ranks ({listed(ranks)})"

"""What do the lines of a job say about how it came back, and is a figure what it should be?

Pure: the referee reads the file, this judges it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing that a rank told."""

    at: float
    """seconds since the epoch"""
    event: str
    """entered, step, fault, done; of the overhead job also bare_step"""
    rank: int
    size: int
    """ranks in the world that the rank believes in"""
    pid: int
    life: str
    """one entry into the training function: a rank that is started or called again has another"""
    step: int = 0
    loss: str = ""
    """hexadecimal"""
    weights: str = ""
    """digest, of the last line"""
    fault: str = ""


def read(text: str) -> list[Line]:
    """Lines from JSON lines; one that is not whole yet is left out."""
    whole = text[: text.rfind("\n") + 1]
    return [Line(**json.loads(line)) for line in whole.splitlines()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """Seconds from the fault; None: has not happened."""

    last_step: int
    """the last one that every rank had told before the fault"""
    first_s: float | None
    """until each rank of the whole world has done a step again"""
    new_s: float | None
    """until each has done one that had not been done before"""
    shrunk_s: float | None
    """until a world of fewer ranks did a new step, where there was one"""
    lost: int | None
    """steps that had to be done again"""


def whole(lines: Iterable[Line], ranks: int) -> int:
    """The last step that every rank has told; 0 while one has told none."""
    newest = dict.fromkeys(range(ranks), 0)
    for line in lines:
        if line.event == "step" and line.rank in newest:
            newest[line.rank] = max(newest[line.rank], line.step)
    return min(newest.values())


def recovery(lines: Sequence[Line], fault_at: float, victims: Collection[int], ranks: int) -> Recovery:
    """How the world came back. A victim is back in a new life only; so is everybody who got one."""
    last_step = whole((line for line in lines if line.at <= fault_at), ranks)
    born = {life: min(line.at for line in lines if line.life == life) for life in {line.life for line in lines}}
    after = [line for line in lines if line.event == "step" and line.at > fault_at]
    new = [line for line in after if born[line.life] > fault_at]
    must = {line.rank for line in lines if born[line.life] > fault_at} | set(victims)
    counts = new + [line for line in after if line.rank not in must]
    full = [line for line in counts if line.size == ranks]
    small = [line.at for line in counts if line.size < ranks and line.step > last_step]
    new_at = _last_first(full, ranks, above=last_step)
    again = [line.step for line in new if line.size == ranks or new_at is None]
    return Recovery(
        last_step=last_step,
        first_s=_since(fault_at, _last_first(full, ranks, above=0)),
        new_s=_since(fault_at, new_at),
        shrunk_s=_since(fault_at, min(small, default=None)),
        lost=max(0, last_step - min(again) + 1) if again else None if must else 0,
    )


def _last_first(steps: Iterable[Line], ranks: int, *, above: int) -> float | None:
    """When the last rank told its first step above a number."""
    first: dict[int, float] = {}
    for line in steps:
        if line.step > above:
            first[line.rank] = min(line.at, first.get(line.rank, line.at))
    return max(first.values()) if len(first) == ranks else None


def _since(fault_at: float, at: float | None) -> float | None:
    return None if at is None else round(at - fault_at, 3)


def outcome(lines: Sequence[Line], ranks: int) -> tuple[str, str] | None:
    """Last loss and digest of the weights, once every rank is done; ranks that differ have none."""
    done = {line.rank: line.weights for line in lines if line.event == "done"}
    steps = [line for line in lines if line.event == "step"]
    if len(done) < ranks or len(set(done.values())) > 1 or not steps:
        return None
    return max(steps, key=lambda line: (line.step, line.at)).loss, done[0]


def losses(lines: Iterable[Line]) -> dict[int, str]:
    """Step to loss, as it counted in the end."""
    return {line.step: line.loss for line in sorted(lines, key=lambda line: line.at) if line.event == "step"}


def gap_s(lines: Iterable[Line], since: float) -> float:
    """The longest time that rank 0 told no step, from a moment on."""
    told = [since, *sorted(line.at for line in lines if line.event == "step" and line.rank == 0 and line.at > since)]
    return round(max((later - at for at, later in pairwise(told)), default=0.0), 3)


def step_s(lines: Iterable[Line], until: float) -> float:
    """Median time of a step before the fault, by rank 0."""
    told = [line.at for line in lines if line.event == "step" and line.rank == 0 and line.at <= until]
    return round(statistics.median(later - at for at, later in pairwise(told)), 4)


def blocks(lines: Iterable[Line], steps: int) -> list[tuple[str, float]]:
    """Of the overhead job, by rank 0: (with or without, seconds of a step) for each block in its order.

    The last `steps` of a block count but for the first of them, which may also pay for the change; shorter blocks are
    left out.
    """
    found: list[tuple[str, list[float]]] = []
    for line in sorted((line for line in lines if line.rank == 0), key=lambda line: line.at):
        kind = {"step": "with", "bare_step": "without"}.get(line.event)
        if kind is None:
            continue
        if not found or found[-1][0] != kind:
            found.append((kind, []))
        found[-1][1].append(line.at)
    return [(kind, (told[-1] - told[-steps]) / (steps - 1)) for kind, told in found if len(told) >= steps]


def overhead(found: Sequence[tuple[str, float]]) -> list[float]:
    """For each block with and the one without after it: what a step costs more, as a share of the usual."""
    usual_s = statistics.mean(step_s for kind, step_s in found if kind == "without")
    pairs = [(a[1], b[1]) for a, b in pairwise(found) if (a[0], b[0]) == ("with", "without")]
    return [(step_s - without_s) / usual_s for step_s, without_s in pairs]


def above(found: Mapping[str, float], most: Mapping[str, float], unit: str) -> list[str]:
    """Targets that are missed, a sentence each. What was not measured, or is no number, is missed too."""
    missed = []
    for what, limit in most.items():
        if what not in found:
            missed.append(f"{what}: not measured")
        elif not found[what] <= limit:
            missed.append(f"{what}: {found[what]:.2f}{unit}, wanted at most {limit:g}")
    return missed


def verdict(missed: Sequence[str]) -> str:
    """One line for people."""
    return "MISSED: " + "; ".join(missed) if missed else "within its targets"

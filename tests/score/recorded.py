"""Which recorded power traces and stragglers does a folder hold? Read with as few demands on their layout as can be.

A line of `stragglers.jsonl` or `power*.jsonl` is one case. `signals` holds values in the format of `monitors.wire`;
without it, a straggler's line may hold a matrix of seconds, a row for each step (or each rank, when that is the longer
way to be square). The truth is in `rank` (or `culprit`, `suspect`), `node`, `onset` (a step, or seconds), `fault`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jobs.agent.orders import SIGNALS
from monitors import wire
from monitors.detect.straggler import Straggler
from monitors.signals import Signal, StepReported
from tests.score.power_traces import Trace
from tests.score.straggler_scenes import Case

_MATRIX = ("step_s", "step_times", "steps", "times", "per_rank", "durations", "compute_s")
_RANK = ("rank", "culprit", "culprit_rank", "suspect", "straggler", "slow_rank")
_ONSET = ("onset", "onset_step", "since", "fault_step", "start")
_INNOCENT = (None, "", "none", "innocent", "healthy", "clean")


def straggler_cases(folder: Path) -> list[Case]:
    """Cases of `stragglers*.jsonl` as the detector judged them."""
    return [case for body in _lines(folder, "straggler*.jsonl") if (case := _straggler(body)) is not None]


def power_traces(folder: Path) -> list[Trace]:
    """Traces of `power*.jsonl`."""
    return [trace for body in _lines(folder, "power*.jsonl") if (trace := _power(body)) is not None]


def _lines(folder: Path, pattern: str) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob(pattern)):
        for line in file.read_text().splitlines():
            if line.strip():
                yield json.loads(line)


def _first(body: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    truth = body.get("label") if isinstance(body.get("label"), dict) else body.get("truth")
    both = {**body, **(truth if isinstance(truth, dict) else {})}
    return next((both[name] for name in names if name in both), None)


def _is_fault(body: Mapping[str, Any]) -> bool:
    said = _first(body, ("fault", "label", "class", "fault_class", "kind"))
    if isinstance(said, bool):
        return said
    if isinstance(said, dict):
        return _first(body, _RANK) is not None
    return (said not in _INNOCENT) or (said is None and _first(body, _RANK) is not None)


def _signals(body: Mapping[str, Any]) -> list[Signal]:
    return [wire.decode(one, SIGNALS) for one in body.get("signals", ())]


def _straggler(body: Mapping[str, Any]) -> Case | None:
    signals = _signals(body) or _matrix(_first(body, _MATRIX))
    if not signals:
        return None
    ranks = 1 + max(getattr(signal, "rank", 0) or 0 for signal in signals)
    per_node = int(_first(body, ("ranks_per_node", "gpus_per_node")) or min(8, ranks))
    rank = _first(body, _RANK)
    node = _first(body, ("node", "culprit_node"))
    fault = _is_fault(body)
    case = Case(str(_first(body, ("name", "id")) or "recorded"), fault=fault, onset=int(_first(body, _ONSET) or 0))
    case.rank = int(rank) if fault and rank is not None else None
    case.node = int(node) if node is not None else (case.rank // per_node if case.rank is not None else None)
    detector = Straggler(ranks=ranks, ranks_per_node=per_node)
    detector.world_began(1)
    step = 0
    for signal in signals:
        step = max(step, getattr(signal, "step", 0) or 0)
        case.incidents += [(step, incident) for incident in detector.see(signal)]
    return case


def _matrix(rows: Any) -> list[Signal]:
    """Every rank's own time of every step."""
    if not isinstance(rows, list) or not rows or not isinstance(rows[0], list):
        return []
    steps = rows if len(rows) >= len(rows[0]) else [list(column) for column in zip(*rows, strict=True)]
    at, signals = 0.0, []
    for number, times in enumerate(steps, start=1):
        at += max(times)
        for rank, seconds in enumerate(times):
            signals.append(StepReported(at=at, node=rank // 8, world=1, rank=rank, step=number, step_s=float(seconds)))
    return list(signals)


def _power(body: Mapping[str, Any]) -> Trace | None:
    signals = _signals(body)
    if not signals:
        return None
    fault, rank, node = _is_fault(body), _first(body, _RANK), _first(body, ("node", "culprit_node"))
    return Trace(
        name=str(_first(body, ("name", "id")) or "recorded"),
        fault=fault,
        kind=str(_first(body, ("kind", "incident")) or "power_drop") if fault else None,
        onset=float(_first(body, _ONSET) or signals[0].at),
        node=int(node) if node is not None else (int(rank) // 8 if rank is not None else None),
        rank=int(rank) if rank is not None else None,
        signals=signals,
    )

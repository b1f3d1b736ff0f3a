"""How do an incident and a checkpoint stand in the JSON of `contract.py`? Fields and units are in docs/contract.md."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from orchestrator import phases
from orchestrator import story as telling
from orchestrator.core.state import Checkpoint, State
from orchestrator.timeline import Case, Timeline


def plain_incident(case: Case, course: Timeline, state: State | None) -> dict[str, Any]:
    """One of `incidents`, without its cost."""
    incident = case.incident
    world = course.worlds.get(case.world) if case.world is not None else None
    blame = incident.blame or (state.policy.responses[incident.kind].blame if state else None)
    spent = phases.of(case, course)
    return {
        "id": case.id,
        "kind": incident.kind,
        "blame": blame,
        "subject": asdict(incident.subject),
        "confidence": incident.confidence,
        "onset": incident.onset,
        "detected": incident.at,
        "resolved": case.resolved_at,
        "response": case.rung,
        "evidence": list(incident.evidence),
        "actions": [text for _, action in case.actions if (text := telling.describe(action)) is not None],
        "world": incident.world,
        "step": incident.step,
        "onset_step": incident.onset_step,
        "checkpoint": incident.checkpoint,
        "resumed_world": case.world,
        "resumed_from_step": world.from_step if world else None,
        "steps_lost": case.steps_lost,
        "phases_s": {field.name: _rounded(getattr(spent, field.name)) for field in fields(spent)},
        "drill": case.drill,
        **asdict(case.remarks),
    }


def _rounded(value_s: float | None) -> float | None:
    return None if value_s is None else round(value_s, 3)


def plain_checkpoint(save: Checkpoint) -> dict[str, Any]:
    """One of `checkpoints`."""
    return {
        "name": save.name,
        "step": save.step,
        "state": save.state,
        "bytes": save.bytes,
        "tier": "disk",
        "path": save.path,
        "world": save.world,
        "saved_at": save.saved_at,
        "pinned": save.pinned,
    }

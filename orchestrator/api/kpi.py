"""What are the numbers of the strip above a run's page?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from orchestrator.api.desk import Desk
from orchestrator.core.policy import Rung
from orchestrator.timeline import Case, Timeline

JOULES_OF_KWH = 3.6e6
SAME = (
    *("step", "steps", "eta", "loss", "tokens_per_s", "step_s", "restarts", "restarts_24h"),
    *("last_good_step", "last_good_at", "save_every_steps"),
)
"""what the row has already"""


def of(desk: Desk, run: str, row: Mapping[str, Any], now: float) -> dict[str, Any]:
    """A `Kpi` of docs/dashboard.md; called in the desk's thread."""
    course = desk.course(run)
    ledger, line = asdict(course.account.ledger(now)), course.timeline()
    energy_j = ledger["energy_j"]
    return {name: row.get(name) for name in SAME} | {
        "mfu": None,
        "ledger": ledger,
        "automatic_share": automatic_share(line, resumed_at(course.marks)),
        "budget": row.get("budget", []),
        "forecast": row.get("forecast"),
        "currency": row.get("currency"),
        "power_w": course.power(),
        "energy_kwh": energy_j / JOULES_OF_KWH if energy_j is not None else None,
    }


def resumed_at(marks: list[tuple[float, str, str]]) -> list[float]:
    """When a person let the run go on, or asked for new ranks."""
    return [at for at, kind, _ in marks if kind in ("resume", "restart")]


def automatic_share(line: Timeline, helped: list[float]) -> float | None:
    """Of the incidents that needed a recovery and are over, those that no person had to help with."""
    over = [case for case in line.cases if case.rung is not Rung.OBSERVE and case.over_at is not None]
    alone = [case for case in over if not any(_is_during(case, at) for at in helped)]
    return len(alone) / len(over) if over else None


def _is_during(case: Case, at: float) -> bool:
    return case.over_at is not None and case.decided_at <= at <= case.over_at

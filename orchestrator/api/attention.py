"""Why does a run need a person? Reasons with a severity, the worst first. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

STALLED_TIMES, STALLED_LEAST_S = 10.0, 60.0
OLD_INTERVALS = 2.0
GRAVITY = {"critical": 0, "error": 1, "warning": 2, "info": 3}
LIVE = frozenset({"PENDING", "STARTING", "RUNNING", "RECOVERING", "STOPPING"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One thing that a person should see to."""

    code: str
    severity: str
    text: str
    incident: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What `status` does not have."""

    step_at: float | None = None
    """when the newest step was heard of"""
    good_at: float | None = None
    """when the newest good checkpoint was copied"""
    incidents: tuple[tuple[str, str, str], ...] = ()
    """(id, kind, severity) of those that are open and were answered by more than a note"""
    acknowledged: frozenset[str] = frozenset()
    """ids of those that a person sees to"""
    budgets: tuple[tuple[str, float], ...] = ()
    """(what, share that is left) of each budget"""


def reasons(status: Mapping[str, Any], facts: Facts, now: float) -> list[dict[str, Any]]:
    """The reasons, as docs/dashboard.md has them."""
    found = sorted(_found(status, facts, now), key=lambda reason: GRAVITY[reason.severity])
    return [asdict(reason) for reason in found]


def _found(status: Mapping[str, Any], facts: Facts, now: float) -> Iterator[Reason]:
    state = status["state"]
    if state == "HELD":
        yield Reason(code="held", severity="critical", text=str(status["reason"]), incident=_named(status, facts))
    if status["unsupervised"]:
        yield Reason(code="unsupervised", severity="critical", text=str(status["unsupervised"]))
    if state not in LIVE:
        return
    if not status["supervisor"]["alive"]:
        text = "the supervisor is away: ranks train on, and nothing is decided"
        yield Reason(code="unheard", severity="critical", text=text)
    for id_, kind, severity in facts.incidents:
        seen_to = ", and a person sees to it" if id_ in facts.acknowledged else ""
        yield Reason(code="incident", severity=severity, text=f"{id_}: {kind} is open{seen_to}", incident=id_)
    yield from _slow(status, facts, now)
    for what, left in facts.budgets:
        if left < 0.25:
            severity = "critical" if left < 0.05 else "warning"
            yield Reason(code="budget", severity=severity, text=f"{max(0.0, left):.0%} of the budget of {what} is left")


def _slow(status: Mapping[str, Any], facts: Facts, now: float) -> Iterator[Reason]:
    if status["state"] != "RUNNING" or facts.step_at is None or not status["supervisor"]["alive"]:
        return
    step_s = status["step_s"]
    quiet_s = now - facts.step_at
    if quiet_s > max(STALLED_LEAST_S, STALLED_TIMES * (step_s or 0.0)):
        yield Reason(code="stalled", severity="error", text=f"no step for {quiet_s:.0f} s")
    every = status["save_every_steps"]
    if every and step_s and facts.good_at is not None:
        age_s = now - facts.good_at
        if age_s > OLD_INTERVALS * every * step_s + STALLED_LEAST_S:
            text = (
                f"the last good checkpoint is {age_s / 60:.0f} min old; one is due every {every * step_s / 60:.0f} min"
            )
            yield Reason(code="checkpoint_age", severity="warning", text=text)


def _named(status: Mapping[str, Any], facts: Facts) -> str | None:
    for id_, kind, _ in reversed(facts.incidents):
        if kind == status["cause"]:
            return id_
    return None


def order(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Needs attention first, the worst of it first; then what goes on; then what ended; the newest first in each."""

    def place(row: Mapping[str, Any]) -> tuple[int, int, float]:
        worst = min((GRAVITY[reason["severity"]] for reason in row["attention"]), default=9)
        group = 0 if row["attention"] else 1 if row["state"] in LIVE else 2
        return (group, worst, -row["submitted_at"])

    return sorted(rows, key=place)

"""What would have happened under other runbooks? An old journal through the same core, decision by decision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from monitors import wire
from orchestrator import contract, runbooks
from orchestrator.core import decide, events
from orchestrator.core.policy import Policy
from orchestrator.core.state import Decision, State
from orchestrator.home import Home
from orchestrator.journal import Entry, Journal


def replay(home: Path, run: str, folder: Path | None) -> dict[str, Any]:
    """Feed the run's recorded events to the core again.

    Without `folder` the recorded policy is used and every decision must come out as recorded. With it, its runbooks
    are used from the start, and the first and every later difference is listed: what the world answered to other
    actions is unknown, so events after a difference are evidence of the past, not a forecast.
    """
    policy = runbooks.load(folder) if folder else None
    state: State | None = None
    different: list[dict[str, Any]] = []
    with Journal(Home(home).journal, read_only=True) as journal:
        entries = journal.entries(run)
    for entry in entries:
        decision = _decided(state, _under(entry.event, policy))
        state = decision.state
        if decision.reason != entry.reason or decision.actions != entry.actions:
            different.append(_difference(entry, decision))
    return {
        "schema": contract.SCHEMA,
        "run": run,
        "policy": policy.version if policy else "recorded",
        "decisions": len(entries),
        "different": different,
        "end": {"state": contract.STATES[state.phase][0], "reason": state.reason} if state else None,
    }


def _under(event: events.Event, policy: Policy | None) -> events.Event:
    if policy is not None and isinstance(event, events.RunSubmitted | events.PolicyChanged):
        return replace(event, policy=policy)
    return event


def _decided(state: State | None, event: events.Event) -> Decision:
    if state is None:
        assert isinstance(event, events.RunSubmitted), f"a journal that begins with {event}"
        return decide.begin(event)
    return decide.decide(state, event)


def _difference(entry: Entry, decision: Decision) -> dict[str, Any]:
    return {
        "event": entry.id,
        "at": entry.event.at,
        "kind": type(entry.event).__name__,
        "was": entry.reason,
        "would_be": decision.reason,
        "actions_were": [wire.encode(a) for a in entry.actions],
        "actions_would_be": [wire.encode(a) for a in decision.actions],
    }

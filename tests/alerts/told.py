"""What did a service see of each thing that it was told about? One line a thread, to be held against a test's table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from orchestrator.alerts.message import RANK
from orchestrator.core.policy import Severity


def threads(told: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Of the webhook's documents, as they came: dedup key → kind, severity and how it ended, `hang warning over`."""
    found: dict[str, list[dict[str, Any]]] = {}
    for message in told:
        found.setdefault(message["thread"], []).append(message)
    return {key: _line(key, messages) for key, messages in found.items()}


def _line(key: str, messages: Sequence[dict[str, Any]]) -> str:
    """Opened, told again only when it got worse, resolved; what was over before it could be told is one note."""
    acts = [message["act"] for message in messages]
    last = messages[-1]
    whole = ["opened", *["updated"] * (len(acts) - 2), "resolved"]
    assert acts in (["note"], whole, [*whole[:-1], "updated"], ["opened"]), f"{key}: {acts}"
    assert [message["key"] for message in messages] == [f"{key}#{n}" for n in range(1, len(acts) + 1)], messages
    levels = [RANK[Severity(message["severity"])] for message in messages if message["act"] in ("opened", "updated")]
    assert levels == sorted(set(levels)), f"{key}: told again, and nothing was worse: {messages}"
    assert all(message["run"] == last["run"] for message in messages), f"{key} is about one run"
    assert last["run"] is None or key.startswith(f"lastgood/{last['run']}/"), f"{key} is about {last['run']}"
    over = acts[-1] in ("note", "resolved")
    return f"{last['kind']} {last['severity']} {'over' if over else 'stands'}"

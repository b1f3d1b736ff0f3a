"""What happened, page by page? Events with the sentences that the story tells of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator import contract
from orchestrator.journal import Entry, Journal
from orchestrator.journal.pages import ENDLESS
from orchestrator.story import Teller
from orchestrator.timeline import Timeline

LIMIT, LIMIT_MOST = 100, 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which page."""

    after: int = 0
    before: int = ENDLESS
    limit: int = LIMIT
    everything: bool = False
    kinds: Sequence[str] = ()


def page(asked: Asked, run: str, journal: Journal, course: Timeline, newest: int) -> dict[str, Any]:
    """The body of `/api/runs/RUN/events`: forward from `after` when it is given, else back from `before`."""
    forward = asked.after > 0
    found = journal.page(
        run,
        after=asked.after,
        before=asked.before,
        limit=asked.limit,
        newest_first=not forward,
        dull=asked.everything,
        kinds=asked.kinds,
    )
    entries = found if forward else found[::-1]
    older = entries[0].id if entries and len(found) == asked.limit and not forward else None
    return {"events": told(entries, course)[::-1], "older": older, "newest": newest}


def told(entries: Iterable[Entry], course: Timeline) -> list[dict[str, Any]]:
    """Events in their order, each with its sentences."""
    teller = Teller(course)
    return [contract.plain_event(entry) | {"sentences": list(teller.of(entry))} for entry in entries]

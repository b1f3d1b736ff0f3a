"""What is known of each host? The runs that had it, what went wrong there, and who keeps it from being given ranks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from orchestrator.contract import SCHEMA
from orchestrator.core import events as e
from orchestrator.core.state import State
from orchestrator.home import Home
from orchestrator.journal import Entry, Journal


def hosts(root: Path, run: str | None = None) -> dict[str, Any]:
    """Hosts that runs have now, or are not given; of one run, or of all."""
    found: list[dict[str, Any]] = []
    if Home(root).journal.exists():
        with Journal(Home(root).journal, read_only=True) as journal:
            for name in _names(journal, run):
                state = journal.state(name)
                found += _hosts(name, state) if state is not None else []
    return {"schema": SCHEMA, "hosts": sorted(found, key=lambda one: (one["host"], one["run"]))}


def _hosts(run: str, state: State) -> Iterator[dict[str, Any]]:
    here = {host: node for node, host in state.hosts if node in state.joined}
    cordons = {cordon.host: cordon for cordon in state.cordons}
    for host in sorted({*here, *cordons}):
        cordon = cordons.get(host)
        yield {
            "host": host,
            "run": run,
            "node": here.get(host),
            "cordoned": cordon is not None,
            "since": cordon.at if cordon is not None else None,
            "by": cordon.by if cordon is not None else None,
            "why": (cordon.why or None) if cordon is not None else None,
        }


def history(root: Path, host: str, run: str | None = None) -> dict[str, Any]:
    """All that happened on a host, oldest first; of one run, or of all."""
    found: list[dict[str, Any]] = []
    if Home(root).journal.exists():
        with Journal(Home(root).journal, read_only=True) as journal:
            for name in _names(journal, run):
                found += (
                    {"at": at, "run": name, "what": what} for at, what in _on(host, journal.entries(name, thin=True))
                )
    return {"schema": SCHEMA, "host": host, "history": sorted(found, key=lambda one: one["at"])}


def _names(journal: Journal, run: str | None) -> list[str]:
    return [known.run for known in journal.runs() if run in (None, known.run)]


def _on(host: str, entries: Iterable[Entry]) -> Iterator[tuple[float, str]]:
    """What happened there in one run."""
    places: dict[int, str] = {}
    for entry in entries:
        event = entry.event
        match event:
            case e.AgentJoined():
                if event.host == host and places.get(event.node) != host:
                    yield event.at, f"became node {event.node} of attempt {event.attempt}"
                places[event.node] = event.host
            case e.AgentGone() if places.get(event.node) == host:
                yield event.at, f"the agent of node {event.node} was found dead: {'; '.join(event.witnesses)}"
            case e.HostCordoned() if event.host == host:
                yield event.at, entry.reason
            case e.RestartRequested() if event.without is not None and places.get(event.without) == host:
                yield event.at, entry.reason
            case _:
                pass
        for opened in entry.opened:
            node = opened.incident.subject.node
            if node is not None and places.get(node) == host:
                yield event.at, f"{opened.id}: {opened.incident.kind} on node {node}"

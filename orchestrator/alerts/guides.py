"""What do the runbooks say to whoever is told? Title, severity, budget, and the section Mitigation."""

from __future__ import annotations

import json
import re
from pathlib import Path

from jobs.errors import SpecError
from monitors.incidents import Kind
from orchestrator import runbooks
from orchestrator.alerts.rules import Guide
from orchestrator.home import Home

_MITIGATION = re.compile(r"^## Mitigation\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def guide(kind: Kind, folder: Path | None = None) -> Guide:
    """What the page of a kind says. Raises SpecError."""
    front = runbooks.front(kind, folder)
    found = _MITIGATION.search(runbooks.page(kind, folder))
    return Guide(
        title=front.title,
        severity=front.response.severity,
        mitigation=found[1].strip() if found else "",
        strikes_max=front.response.strikes_max,
        window_s=front.response.window_s,
    )


def built_in() -> dict[str, Guide]:
    """Of every kind, for runs that have no runbooks of their own."""
    return {kind.value: guide(kind) for kind in Kind}


def of_run(home: Home, run: str, kind: Kind) -> Guide | None:
    """From the runbooks that a run has of its own; None: it has none, or they cannot be read now."""
    try:
        folder = json.loads((home.run(run) / "spec.json").read_text())["recovery"]["runbooks"]
        return guide(kind, Path(folder)) if folder else None
    except (OSError, ValueError, KeyError, TypeError, SpecError):
        return None

"""Why did a rank end? As it wrote down itself, or as the agent says who ended it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from monitors import wire
from monitors.signals import Failure


def written(folder: Path) -> Failure | None:
    """What the rank left in its folder; None when it wrote nothing, or half of it."""
    try:
        body = json.loads((folder / "error.json").read_text())
        failure: Failure = wire.decode({wire.TAG: Failure.__name__, **body}, wire.by_name(Failure))
        return failure
    except (OSError, ValueError, TypeError):
        return None


def of_agent(kind: str, why: str, at: float) -> Failure:
    """The agent's own words."""
    fingerprint = hashlib.blake2b(f"{kind}\n{why}".encode(), digest_size=8).hexdigest()
    return Failure(kind=kind, message=why, traceback="", raised_at=at, fingerprint=fingerprint)

"""Who saves where? Names of checkpoints repeat from run to run, so no two runs that go on share a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from orchestrator.core.state import ENDED
from orchestrator.home import Home
from orchestrator.journal import Journal
from orchestrator.requests import AskError


def refuse_shared(home: Home, journal: Journal, run: str, spec: Mapping[str, Any]) -> None:
    """Raises AskError when a run that has not ended saves into the folder that `run`, of this spec, would save into.

    Asked when a run begins and when it goes on: another may have taken the folder between the two, while it was empty.
    """
    mine = _folder(home, run, spec)
    for other in journal.runs():
        if other.run == run or _folder(home, other.run, other.spec) != mine or journal.phase(other.run) in ENDED:
            continue
        raise AskError(
            "usage",
            f"checkpoint.folder: {mine} is where {other.run} saves, which has not ended: name another folder, "
            f"or end that run first: lastgood stop {other.run}",
        )


def _folder(home: Home, run: str, spec: Mapping[str, Any]) -> str:
    named = (spec.get("checkpoint") or {}).get("folder")
    # What is named was resolved by whoever submitted it: a mount that hangs must not hold up every other run here.
    return os.path.normpath(named) if named else os.path.join(os.path.realpath(home.run(run)), "checkpoints")

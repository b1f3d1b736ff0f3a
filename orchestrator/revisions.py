"""What may be changed in the spec of a run between two attempts, and where is each revision kept?

`spec.json` is what attempts are started by. The revision that the journal has is kept beside it (`spec.r1.json`; r0 is
the submitted one) before the journal has it, so that whatever dies in between can be made good (`settle`).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from jobs import command, load
from jobs.errors import SpecError
from jobs.registry import replace as put
from jobs.spec import Spec
from orchestrator.requests import AskError

CHANGEABLE = ("command", "detect", "env", "recovery")
"""parts of a spec that the next attempt may have otherwise: all else is its shape, its data, or what it resumes by"""
SETS_MAX = 64


def revised(spec: Spec, sets: tuple[str, ...]) -> Spec:
    """The spec with `a.b=c` of each set put over it. Raises AskError."""
    if len(sets) > SETS_MAX:
        raise AskError("usage", f"{len(sets)} changes are too many at once: at most {SETS_MAX}")
    for text in sets:
        part = text.partition("=")[0].partition(".")[0]
        if part in Spec.model_fields and part not in CHANGEABLE:
            what = f"--set {shown(text)}: {part} stays what it is for as long as the run does"
            raise AskError("usage", f"{what}; what may change between attempts: {', '.join(CHANGEABLE)}")
    try:
        new = load.parse("spec.json", spec.model_dump_json().encode(), sets=sets)
    except SpecError as error:
        raise AskError("usage", str(error)) from None
    if why := _unfit(new):
        raise AskError("usage", f"--set: {why}")
    return new


def _unfit(spec: Spec) -> str | None:
    runbooks = spec.recovery.runbooks
    if runbooks is not None and not (os.path.isabs(runbooks) and Path(runbooks).is_dir()):
        return f"recovery.runbooks: {runbooks} is not the absolute path of a folder"
    return command.problem(spec, Path(spec.workdir))


def shown(text: str) -> str:
    """A change as it may be told: the value of an environment variable may be a secret."""
    name, equals, _ = text.partition("=")
    return name if equals and name.partition(".")[0] == "env" else text


def keep(folder: Path, spec: Spec, revision: int) -> None:
    """Write a revision beside the one in force. Raises OSError."""
    first = folder / _name(0)
    if not first.exists():
        put(first, json.loads((folder / "spec.json").read_text()))
    put(folder / _name(revision), spec.model_dump(mode="json"))


def settle(folder: Path, revision: int) -> None:
    """Put the revision that the journal has in force; nothing when it is. Raises OSError."""
    kept = folder / _name(revision)
    if not kept.exists():
        return
    text = kept.read_text()
    if (folder / "spec.json").read_text() != text:
        put(folder / "spec.json", json.loads(text))


def _name(revision: int) -> str:
    return f"spec.r{revision}.json"

"""Is this checkpoint still what was written? A program of its own, so that reading it back never disturbs training.

    python -P -m jobs.checkpoint.verify PATH [--json]

Exit status 0: every byte matches the manifest. 1: damaged, and one line says which file and why. 2: called wrongly.
3: it cannot be read now, which says nothing about its bytes; one line says which file and why.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from lastgood import background
from lastgood.manifest import CheckpointUnreadable, CheckpointUnusable, verify

DAMAGED, UNREADABLE = 1, 3
NICENESS = 10
"""A tenth of a busy core, and by it the kernel's second-lowest disk priority. Not the idle class: on a node whose cores
all train, a checkpoint would never be verified and so never be used."""


def main(words: Sequence[str] | None = None) -> int:
    """Verify one checkpoint; the exit status."""
    parser = argparse.ArgumentParser(
        prog="jobs.checkpoint.verify", description="Compare a checkpoint with its manifest."
    )
    parser.add_argument("path", help="folder of the checkpoint")
    parser.add_argument("--json", action="store_true", help="say what is wrong as one line of JSON")
    asked = parser.parse_args(words)
    path = os.path.abspath(asked.path)
    try:
        verify(path, from_medium=True)
    except CheckpointUnusable as found:
        _tell(found, as_json=asked.json)
        return UNREADABLE if isinstance(found, CheckpointUnreadable) else DAMAGED
    return 0


def _tell(found: CheckpointUnusable, *, as_json: bool) -> None:
    said = {"checkpoint": found.checkpoint, "file": found.file, "why": found.why}
    print(json.dumps(said) if as_json else found, flush=True)


def finding(out: str | bytes) -> str | None:
    """File and why, from what `--json` printed; None: it came to no verdict."""
    try:
        said = json.loads(out.splitlines()[-1])
        return f"{said['file']}: {said['why']}"
    except (IndexError, KeyError, TypeError, ValueError):
        return None


if __name__ == "__main__":
    background.step_back(NICENESS)
    sys.exit(main())

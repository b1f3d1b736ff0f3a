"""Is this checkpoint still what was written? A program of its own, so that reading it back never disturbs training.

    python -P -m jobs.checkpoint.verify PATH [--json]

Exit status 0: every byte matches the manifest. 1: damaged, and one line says which file and why. 2: called wrongly.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from lastgood import background
from lastgood.manifest import CheckpointDamaged, verify

NICENESS = 10
"""A tenth of a busy core, and by it the kernel's second-lowest disk priority. Not the idle class: on a node whose cores
all train, a checkpoint would never be verified and so never be used."""


def main(words: Sequence[str] | None = None) -> int:
    """Verify one checkpoint; the exit status."""
    parser = argparse.ArgumentParser(
        prog="jobs.checkpoint.verify", description="Compare a checkpoint with its manifest."
    )
    parser.add_argument("path", help="folder of the checkpoint")
    parser.add_argument("--json", action="store_true", help="say what is damaged as one line of JSON")
    asked = parser.parse_args(words)
    path = os.path.abspath(asked.path)
    try:
        verify(path, from_medium=True)
    except CheckpointDamaged as damage:
        _tell(damage, as_json=asked.json)
        return 1
    return 0


def _tell(damage: CheckpointDamaged, *, as_json: bool) -> None:
    said = {"checkpoint": damage.checkpoint, "file": damage.file, "why": damage.why}
    print(json.dumps(said) if as_json else damage, flush=True)


if __name__ == "__main__":
    background.step_back(NICENESS)
    sys.exit(main())

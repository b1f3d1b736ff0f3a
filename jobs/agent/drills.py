"""Was this drill injected already? Each number once, also when the order comes again or to a new agent."""

from __future__ import annotations

import json
import os
from pathlib import Path

from jobs.agent.orders import Inject


class Drills:
    """The numbers that were used up on this node, one a line in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._used = set(path.read_text().split()) if path.exists() else set()

    def use_up(self, number: int) -> bool:
        """False when it was used before. Noted before the fault happens: rather none than two."""
        if str(number) in self._used:
            return False
        self._used.add(str(number))
        with self._path.open("a") as file:
            file.write(f"{number}\n")
            file.flush()
            os.fsync(file.fileno())
        return True


def put(folder: Path, order: Inject) -> None:
    """Lay a drill into a rank's folder, whole or not at all; the number in its progress file makes the rank look."""
    draft = folder / "drill.json.writing"
    draft.write_text(json.dumps({"number": order.number, "drill": order.drill}))
    draft.replace(folder / "drill.json")

"""What does a rank tell besides its steps? Facts that must not be lost, one line of JSON each.

In a supervised run they go to `notes.jsonl` (O_APPEND) and the progress file then says how long it is, so the agent
never reads half a line. Outside of one, a person at the terminal is told what matters to them.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lastgood.progress import Writer

Note = Callable[[dict[str, Any]], None]
"""Takes one note as `ARCHITECTURE.md` lists them; may be called from any thread."""


def made(note: str, **fields: Any) -> dict[str, Any]:
    """A note of now."""
    return {"note": note, "at": time.time(), **fields}


class Written:
    """The notes of a watched rank."""

    def __init__(self, folder: str, writer: Writer) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(Path(folder) / "notes.jsonl", flags, 0o600)
        self._writer = writer
        self._lock = threading.Lock()  # saves are noted from the saving thread

    def __call__(self, note: dict[str, Any]) -> None:
        """Append one note; the agent sees it at its next look."""
        line = json.dumps(note, separators=(",", ":")) + "\n"
        with self._lock:
            os.write(self._fd, line.encode())
            self._writer.noted(os.fstat(self._fd).st_size)


class Spoken:
    """The notes of a rank that nobody watches: a few words on stderr."""

    def __init__(self, rank: int) -> None:
        self._rank = rank

    def __call__(self, note: dict[str, Any]) -> None:
        """Say it when a person would want to know."""
        text = _sentence(note)
        if text and (self._rank == 0 or note["note"] == "save_failed"):
            print(f"lastgood: {text}", file=sys.stderr, flush=True)


def _sentence(note: dict[str, Any]) -> str:
    match note:
        case {"note": "restored", "checkpoint": str(name), "step": step}:
            return f"resumed from {name} (step {step})"
        case {"note": "refused", "checkpoint": name, "why": why}:
            return f"{name} is damaged and was not used: {why}"
        case {"note": "save_failed", "step": step, "why": why}:
            return f"the save of step {step} failed, training goes on: {why}"
        case _:
            return ""

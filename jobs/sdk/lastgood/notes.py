"""What does a rank tell besides its steps? Facts that must not be lost, one line of JSON each.

In a supervised run they go to `notes.jsonl` (O_APPEND) and the progress file then says how long it is, so the agent
never reads half a line. Outside of one, rank 0 tells the person at the terminal what matters to them.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, Protocol

from lastgood.progress import Writer


class Note(Protocol):
    """`note("committed", checkpoint="step-00000040.a1w3", ...)`; callable from any thread."""

    def __call__(self, note: str, /, **fields: Any) -> None: ...


class Written:
    """The notes of a watched rank."""

    def __init__(self, folder: str, writer: Writer) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(Path(folder) / "notes.jsonl", flags, 0o600)
        self._writer = writer
        self._lock = threading.Lock()  # saves are noted from the saving thread

    def __call__(self, note: str, /, **fields: Any) -> None:
        """Append one note; the agent sees it at its next look."""
        line = json.dumps({"note": note, "at": time.time(), **fields}, separators=(",", ":")) + "\n"
        with self._lock:
            os.write(self._fd, line.encode())
            self._writer.noted(os.fstat(self._fd).st_size)


class Spoken:
    """The notes of a rank that nobody watches: a few words on stderr."""

    def __init__(self, rank: int) -> None:
        self._rank = rank

    def __call__(self, note: str, /, **fields: Any) -> None:
        """Say it when a person would want to know."""
        text = _sentence(note, fields)
        if text and (self._rank == 0 or note == "save_failed"):
            print(f"lastgood: {text}", file=sys.stderr, flush=True)


def _sentence(note: str, fields: dict[str, Any]) -> str:
    match note:
        case "restored" if fields["checkpoint"] is not None:
            return f"resumed from {fields['checkpoint']} (step {fields['step']})"
        case "refused":
            return f"{fields['checkpoint']} is damaged and was not used: {fields['why']}"
        case "save_failed":
            return f"the save of step {fields['step']} failed, training goes on: {fields['why']}"
        case _:
            return ""

"""How did it end? Exit statuses, and which exceptions are a sentence to a person instead of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Exit(IntEnum):
    """The numbers that SkyPilot uses for the end of a job, so that scripts written for it go on working."""

    SUCCEEDED = 0
    TOOL = 1
    """lastgood itself could not do it"""
    USAGE = 2
    FAILED = 100
    """the run: user code"""
    NOT_FINISHED = 101
    NOT_FOUND = 102
    STOPPED = 103
    """by a person"""
    BUDGET = 104
    """restarts exhausted"""
    INFRASTRUCTURE = 105
    ATTENTION = 106
    """a critical incident is open"""
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a person is told."""

    text: str
    status: Exit


class Refusal(Exception):
    """A command cannot be done; the text says why and what to do instead."""

    def __init__(self, text: str, status: Exit = Exit.TOOL) -> None:
        super().__init__(text)
        self.status = status


def nearest(word: str, words: Iterable[str], *, unlisted: Iterable[str] = ()) -> str:
    """What to say after a word that is none of these: the one that was probably meant, or all that are listed."""
    import difflib

    listed = list(words)
    near = difflib.get_close_matches(word, [*listed, *unlisted], n=1)
    return f"did you mean {near[0]}?" if near else f"there are: {', '.join(listed)}"


def failure_of(error: Exception) -> Failure | None:
    """The sentence for an exception that is the user's or the world's fault, None for a bug of ours.

    Known by name, because none of the modules that define them may be imported for it: one that was not imported
    has not raised.
    """
    if isinstance(error, Refusal):
        return Failure(text=str(error), status=error.status)
    for module, name, status in _KNOWN:
        known = getattr(sys.modules.get(module), name, None)
        if known is not None and isinstance(error, known):
            return Failure(text=str(error), status=status)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return Failure(text=f"{where}{error.strerror}", status=Exit.TOOL)
    return None


_KNOWN = (
    ("jobs.errors", "SpecError", Exit.USAGE),
    ("orchestrator.home", "HomeError", Exit.TOOL),
    ("orchestrator.client", "NoSupervisor", Exit.TOOL),
    ("orchestrator.journal", "JournalUnavailable", Exit.TOOL),
    ("orchestrator.alerts.outbox", "OutboxUnavailable", Exit.TOOL),
    ("orchestrator.runbooks", "RunbookError", Exit.USAGE),
)

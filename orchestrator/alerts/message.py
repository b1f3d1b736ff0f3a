"""What is told to one channel? A value that says it in words and numbers, and leaves the form to the service's sink."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from orchestrator.core.policy import Severity

RANK = {severity: rank for rank, severity in enumerate(Severity)}
"""info 0, warning 1, error 2, critical 3"""


class Act(StrEnum):
    """What a message does to its thread."""

    OPENED = "opened"
    UPDATED = "updated"
    RESOLVED = "resolved"
    NOTE = "note"
    """all that will ever be said in it: what it tells of is over already, or was a test or a digest"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One thing to tell one channel."""

    channel: str
    thread: str
    """the key by which services know that it is the same thing again; at most 255 characters"""
    number: int
    """of the message within thread and channel, from 1"""
    act: Act
    at: float
    severity: Severity
    title: str
    """one line"""
    run: str = ""
    """empty: it is about lastgood itself"""
    kind: str = ""
    incident: str = ""
    """its id; empty: it is about none"""
    host: str = ""
    since: float | None = None
    facts: tuple[tuple[str, str], ...] = ()
    """(heading, text): what, where, cost, done, do; texts may have several lines"""
    links: tuple[tuple[str, str], ...] = ()
    """(what it shows, address)"""
    acknowledged_by: str = ""

    @property
    def key(self) -> str:
        """Equal for two deliveries of the same message."""
        return f"{self.thread}#{self.number}"

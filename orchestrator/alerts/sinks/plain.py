"""How does a message read as plain text? For mail, for chats, for whatever shows text and nothing else."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from orchestrator.alerts.message import Act, Message
from orchestrator.alerts.wording import length
from orchestrator.core.policy import Severity

MARKS = {Severity.CRITICAL: "CRITICAL", Severity.ERROR: "ERROR", Severity.WARNING: "WARNING", Severity.INFO: "INFO"}
WIDTH = 6


def when(at: float, zone: ZoneInfo) -> str:
    """`2026-11-29 03:12:07 CET`."""
    return datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def headline(message: Message) -> str:
    """The title, with how bad it is in front: never by colour alone."""
    mark = "RESOLVED" if message.act is Act.RESOLVED else MARKS[message.severity]
    return f"[{mark}] {message.title}"


def lines(message: Message, zone: ZoneInfo) -> list[tuple[str, str]]:
    """(heading, text) of everything below the title."""
    found = list(message.facts)
    if message.since is not None:
        text = f"{when(message.since, zone)} ({length(message.at - message.since)} before this message)"
        found.insert(min(2, len(found)), ("since", text))
    if message.acknowledged_by:
        found.append(("known", f"{message.acknowledged_by} sees to it"))
    return [*found, *message.links]


def text(message: Message, zone: ZoneInfo) -> str:
    """The whole message."""
    return "\n".join([message.title, "", *(_line(heading, said) for heading, said in lines(message, zone))])


def _line(heading: str, said: str) -> str:
    return f"{heading + ':':{WIDTH}} {said}".replace("\n", "\n" + " " * (WIDTH + 1))

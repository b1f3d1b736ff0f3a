"""Who wants to be told of what, and when not? Values: `config.py` reads them, the desk decides by them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from monitors.incidents import Kind
from orchestrator.core.policy import Severity

NODE_DOWN = frozenset({Kind.AGENT_LOST, Kind.NODE_UNSEEN, Kind.HOST_FAULT})
"""while one of these stands, what else is wrong on that node is its consequence, or waits until it is back"""
ON_A_NODE = frozenset(
    {Kind.GPU_LOST, Kind.GPU_FAULT, Kind.GPU_MEMORY, Kind.GPU_DEGRADED, Kind.LINK_FAULT, Kind.NIC_FAULT}
    | {Kind.WORKER_KILLED, Kind.WORKER_EXCEPTION, Kind.HANG, Kind.START_STALLED, Kind.STRAGGLER, Kind.POWER_DROP}
    | {Kind.HOST_OOM, Kind.HOST_DEGRADED, Kind.DISK_FULL}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Threads of some runs and kinds go to a channel, from a severity on."""

    to: str
    severity: Severity = Severity.ERROR
    runs: str = "*"
    kinds: str = "*"
    """patterns: * is any text, ? any letter"""
    after_s: float = 0.0
    """only when nobody acknowledged it for so long: the next step of an escalation"""

    def is_for(self, run: str, kind: str) -> bool:
        """Whether these patterns are meant."""
        return matches(self.runs, run) and matches(self.kinds, kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Until a time nothing new is told of some runs and kinds."""

    id: int
    until: float
    run: str = "*"
    kind: str = "*"
    by: str = ""
    why: str = ""
    created_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """What the runbook of a kind says to whoever is told."""

    title: str
    severity: Severity
    mitigation: str = ""
    strikes_max: int = 0
    window_s: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a person decided about alerts. Waits and repeats are Alertmanager's defaults."""

    home: str = "lastgood"
    """where this lastgood runs, for what is about itself"""
    routes: tuple[Route, ...] = ()
    digest_to: tuple[str, ...] = ()
    by_run: bool = True
    """the same cause in two runs is two threads; False: one"""
    wait_s: float = 30.0
    """before anything but a page is told: what recovers within it needs one message, and a cause is better known"""
    interval_s: float = 300.0
    """between updates of a thread that got no worse"""
    repeat_s: float = 4 * 3600.0
    """what still stands and nobody acknowledged is said again"""
    error_s: float = 900.0
    """a recovery that takes so long is an error"""
    page_s: float = 3600.0
    """and one that takes so long wakes a person"""
    lost_s: float = 180.0
    """a supervisor that says nothing for so long: its agents start it anew within two minutes, if they can"""
    channel_s: float = 600.0
    """a service that cannot be reached for so long is told through the others"""
    dashboard: str = ""
    """its address, for links"""
    guides: dict[str, Guide] = field(default_factory=dict)


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern of * and ? means the text."""
    if pattern == "*":
        return True
    parts = (".*" if letter == "*" else "." if letter == "?" else re.escape(letter) for letter in pattern)
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None

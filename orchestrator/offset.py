"""How far is an agent's clock from ours, and when did what it saw happen by ours?

Causes must stay older than effects in the journal, and a save is trusted by whether it was made before a fault: two
hosts' clocks a minute apart would turn that around.
"""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from typing import Any

from monitors.signals import CollectivesLooked, NodeSeen, Signal
from orchestrator.core.replacing import replace

TOLD_S = 0.5
"""less is no more than a busy host's delay, and shorter than the floor of every limit"""
WINDOW_S = 30.0
"""a supervisor that is held up for less mistakes nothing of it for a clock that is behind"""


class Offset:
    """Of one agent's clock. What is sent is never heard earlier: the least difference is nearest to the truth."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """to be added to the agent's times; 0 while it is small, and changed only by as much as is worth a word"""
        self._since = float("-inf")
        self._least_s = float("inf")
        self._before_s = float("inf")

    def heard(self, said_at: float, now: float) -> None:
        """The agent's clock said `said_at` as it was sent, ours `now` as it came in."""
        if now - self._since >= WINDOW_S:
            self._since, self._before_s, self._least_s = now, self._least_s, float("inf")
        self._least_s = min(self._least_s, now - said_at)
        estimate_s = min(self._least_s, self._before_s)
        if abs(estimate_s - self.seconds) > TOLD_S:
            self.seconds = estimate_s if abs(estimate_s) > TOLD_S else 0.0

    def ours(self, signal: Signal, now: float) -> Signal:
        """The signal by our clock. What a node says of itself is also a look at its clock."""
        if isinstance(signal, NodeSeen):
            self.heard(signal.at, now)
        if self.seconds:
            signal = shifted(signal, self.seconds)
        # A program whose own clock is ahead (its host's was set since) must not put off what is waited for.
        return signal if signal.at <= now else shifted(signal, now - signal.at)


def shifted(signal: Signal, seconds: float) -> Signal:
    """The signal with all its times (`at`, `..._at`) moved."""
    moved: Signal = _moved(signal, seconds)
    if isinstance(moved, CollectivesLooked):
        groups = tuple(
            replace(group, arrivals=tuple((seq, at + seconds) for seq, at in group.arrivals)) for group in moved.groups
        )
        return replace(moved, groups=groups)
    return moved


def _moved(value: Any, seconds: float) -> Any:
    times, inner = _WHERE.get(type(value)) or _where(type(value))
    changes = {name: getattr(value, name) + seconds for name in times}
    for name in inner:
        if is_dataclass(within := getattr(value, name)):
            changes[name] = _moved(within, seconds)
    return replace(value, **changes)


_WHERE: dict[type, tuple[tuple[str, ...], tuple[str, ...]]] = {}
"""of each class of signals: it is asked of every signal of a host whose clock is off"""


def _where(kind: type) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Fields that are times, and those that may hold values with times of their own: of a type that has a name."""
    of = fields(kind)
    times = tuple(field.name for field in of if field.name == "at" or field.name.endswith("_at"))
    named = (field.name for field in of if re.search(r"[A-Z]", str(field.type).replace("None", "")))
    _WHERE[kind] = times, tuple(name for name in named if name not in times)
    return _WHERE[kind]

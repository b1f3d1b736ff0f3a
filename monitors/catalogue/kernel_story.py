"""What of thousands of kernel lines is worth telling? Each fault at once, its repeats as a count, victims as a cascade.

One broken GPU wrote 800,000 equal lines, and one crash 170,000 of Xid 45: what is equal is told once, then after pauses
that double, and what only follows another event on the same GPU is marked.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, replace

from monitors.catalogue.kernel import Catalogue
from monitors.catalogue.kernel_prefix import LINE_CHARS
from monitors.catalogue.kernel_rows import PCI, Finding, address, slot
from monitors.catalogue.xid import SYMPATHETIC

CASCADE_S = 10.0
"""victims are written within milliseconds of their cause, by a driver that may be waiting for the GPU"""
SAME_LOSS_S = 300.0
"""a lost GPU is told with a Xid, and again without one by whoever touches it next"""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 300.0
"""between two tellings of the same: the first repeat may be the next world's failure, the hundredth is not"""
MOST_THREADS, MOST_GPUS, MOST_OVER = 1024, 64, 1024
"""what is remembered at once"""

_NAMED = re.compile(rf"NVRM: The NVIDIA GPU (?P<pci>{PCI})")
_LOST = 79
_AFTER_LOSS = frozenset({119, 120})
"""the processor of a GPU that is gone does not answer either (open-gpu-kernel-modules#461)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A finding that is due, with how many equal lines there were since it was told last."""

    at: float
    """of the first of them"""
    finding: Finding
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    """What makes two findings the same one."""

    fault: str
    code: tuple[int | None, int | None]
    place: str | None
    about: tuple[int | None, str]
    action: str


def _key(found: Finding, xid: int | None) -> _Key:
    lost = found.fault == "gpu_lost"  # whoever noticed
    return _Key(
        fault=found.fault or found.clears,
        code=(xid, found.sxid),
        place=slot(found.pci),
        about=(None if lost else found.pid, found.subject),
        action=found.action,
    )


@dataclass(slots=True, kw_only=True)
class _Thread:
    """Equal findings."""

    finding: Finding
    since: float
    """of the first that was not told"""
    number: int
    """of that line, among all: several are written at the same microsecond"""
    seen_at: float
    untold: int = 0
    told_at: float | None = None
    pause_s: float = FIRST_PAUSE_S

    def due(self, now: float) -> bool:
        """Whether there is something to tell, and it is time."""
        return self.untold > 0 and (self.told_at is None or now - self.told_at >= self.pause_s)

    def told(self, now: float) -> Told:
        """The finding to tell now; the pause doubles while repeats fill it."""
        if self.told_at is not None:
            quiet = self.since - self.told_at > 2 * self.pause_s
            self.pause_s = FIRST_PAUSE_S if quiet else min(2 * self.pause_s, LONGEST_PAUSE_S)
        told = Told(at=self.since, finding=self.finding, count=self.untold)
        self.told_at, self.untold = now, 0
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cause:
    """The last event on a GPU that may have victims."""

    at: float
    xid: int | None
    of_device: bool
    """the GPU itself is broken, not a program on it"""


class Story:
    """The lines of one node, in the order in which they were written."""

    def __init__(self, catalogue: Catalogue | None = None) -> None:
        self._catalogue = catalogue or Catalogue()
        self._threads: dict[_Key, _Thread] = {}
        """the one of which a line was seen last is the last"""
        self._over: list[Told] = []
        self._causes: OrderedDict[str, _Cause] = OrderedDict()
        self._named: tuple[str, float] | None = None
        self._number = 0

    def see(self, line: str, at: float) -> None:
        """Take in a line, in any form that logs have, that was written at `at`."""
        self._number += 1
        line = line[: 2 * LINE_CHARS]
        if "The NVIDIA GPU" in line and (named := _NAMED.search(line)):
            self._named = (named["pci"], at)
        found = self._catalogue.read(line)
        if found is None:
            return
        if found.fault is None:
            self._clear(found, at)
        else:
            self._note(self._judged(self._placed(found, at), at), at)

    def tell(self, now: float) -> list[Told]:
        """What is due, oldest first: what is new, and repeats after their pause."""
        due = sorted((thread for thread in self._threads.values() if thread.due(now)), key=lambda one: one.number)
        told = [*self._over, *(thread.told(now) for thread in due)]
        self._over = []
        return sorted(told, key=lambda one: one.at)

    def _placed(self, found: Finding, at: float) -> Finding:
        """With the GPU that an earlier line of the same message named."""
        if found.fault == "gpu_lost" and found.pci is None and self._named is not None:
            pci, named_at = self._named
            return replace(found, pci=address(pci)) if at - named_at <= 1.0 else found
        return found

    def _judged(self, found: Finding, at: float) -> Finding:
        """Marked as a cascade if it follows another event on the same GPU."""
        place = slot(found.pci)
        if place is None or not (found.xid or found.fault == "gpu_lost"):
            return found
        cause = self._causes.get(place)
        if cause is not None and at - cause.at <= CASCADE_S and _follows(found, cause):
            return replace(found, cascade=True)
        if found.action in ("none", "observe", "reset_gpu_when_idle") or found.xid == 43:
            return found
        xid = _LOST if found.fault == "gpu_lost" else found.xid
        self._causes[place] = _Cause(at=at, xid=xid, of_device=found.action != "restart_app")
        self._causes.move_to_end(place)
        if len(self._causes) > MOST_GPUS:
            self._causes.popitem(last=False)
        return found

    def _note(self, found: Finding, at: float) -> None:
        key = _key(found, found.xid)
        if found.fault == "gpu_lost" and found.xid is None:
            known = self._threads.get(_key(found, _LOST))
            if known is not None and at - known.seen_at <= SAME_LOSS_S:
                key = _key(found, _LOST)
        thread = self._threads.pop(key, None)
        if thread is None:
            thread = _Thread(finding=found, since=at, number=self._number, seen_at=at)
        self._threads[key] = thread
        if not thread.untold:
            thread.since, thread.number = at, self._number
        thread.untold += 1
        thread.seen_at = at
        if len(self._threads) > MOST_THREADS:
            oldest = self._threads.pop(next(iter(self._threads)))
            if oldest.told_at is None:
                self._tell_at_once(oldest.told(at))

    def _clear(self, found: Finding, at: float) -> None:
        """Forget what is over, and say so if anybody was told of it. The driver's own verdict is always passed on."""
        place = slot(found.pci)
        over = [
            key
            for key in self._threads
            if key.fault == found.clears and key.place == place and found.subject in ("", key.about[1])
        ]
        known = [self._threads.pop(key).told_at is not None for key in over]
        if any(known) or found.clears == "gpu_recovery_action":
            self._tell_at_once(Told(at=at, finding=replace(found, fault=found.clears)))

    def _tell_at_once(self, told: Told) -> None:
        if len(self._over) < MOST_OVER:
            self._over.append(told)


def _follows(found: Finding, cause: _Cause) -> bool:
    if found.xid == 94:  # broken memory is no program's fault
        return cause.of_device and cause.xid != 94
    return found.xid != cause.xid and (found.xid in SYMPATHETIC or (cause.xid == _LOST and found.xid in _AFTER_LOSS))

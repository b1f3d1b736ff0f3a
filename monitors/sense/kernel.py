"""What did the kernel write that matters: to hardware, to the host, to a process of ours?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from monitors.catalogue.kernel_story import Story, Told
from monitors.hardware import KernelSaw
from monitors.sense import site
from monitors.sense.kernel_journal import Journal
from monitors.sense.kernel_sources import File, Kmsg, Source
from monitors.signals import Blind, Signal

EVERY_S, HURRY_S = 0.5, 0.05
"""between looks; while there is more to read than a look takes"""
LOOKBACK_S = 60.0
"""at the start: what broke the last world was written before this sense was started"""
RETRY_S, RETRY_FILE_S = 30.0, 1.0
"""before a shut door is tried again; a file that was named may only not be there yet"""
RESTRICTED = Path("/proc/sys/kernel/dmesg_restrict")


def sources(source: Path | None, lookback_s: float = LOOKBACK_S) -> list[Source]:
    """Where to read, best first: a file that was named, or the kernel itself, then its journal."""
    if source is None:
        return [Kmsg(lookback_s=lookback_s), Journal(lookback_s=lookback_s)]
    if source.is_char_device():
        return [Kmsg(source, lookback_s=lookback_s)]
    return [File(source, lookback_s=lookback_s)]


class Kernel:
    """The kernel's log of one node."""

    def __init__(
        self,
        *,
        node: int,
        source: Path | None = None,
        overrides: Path | None = None,
        device_of: Callable[[str], str | None] = lambda pci: None,  # noqa: ARG005
        doors: Sequence[Source] | None = None,
    ) -> None:
        """`overrides` is what a site changed (`site.catalogue`); `device_of` knows the UUID of a PCI address.

        Raises ValueError that names what is wrong in the overrides, and OSError when they cannot be read.
        """
        self.every_s = EVERY_S
        self._node = node
        self._story = Story(site.catalogue(overrides))
        self._device_of = device_of
        self._doors = sources(source) if doors is None else doors
        self._source: Source | None = None
        self._retry_s = RETRY_S if source is None else RETRY_FILE_S
        self._retry_at = float("-inf")
        self._blind = False
        self._lost = 0

    def look(self, now: float) -> list[Signal]:
        """What was written since; Blind once when nothing can be read, and when records were lost."""
        said: list[Signal] = []
        if self._source is None and now >= self._retry_at:
            said += self._open(now)
        if self._source is not None:
            said += self._read(self._source, now)
        return [*said, *map(self._signal, self._story.tell(now))]

    def feed(self, line: str, now: float) -> list[Signal]:
        """As though the kernel had written the line now."""
        self._story.see(line, now)
        return [self._signal(told) for told in self._story.tell(now)]

    def close(self) -> None:
        """Let go of the log."""
        if self._source is not None:
            self._source.close()
            self._source = None

    def _open(self, now: float) -> list[Signal]:
        refusals = []
        for door in self._doors:
            try:
                door.open(now)
            except OSError as error:
                refusals.append(f"{door.name}: {error.strerror or error}")
                continue
            self._source, self._lost = door, door.lost
            was_blind, self._blind = self._blind, False
            return [self._sees(now, "")] if was_blind else []
        return self._shut(now, f"{'; '.join(refusals)}. {remedy()}")

    def _read(self, source: Source, now: float) -> list[Signal]:
        try:
            lines = source.read(now)
        except OSError as error:
            self.close()
            return self._shut(now, f"{source.name}: {error.strerror or error}")
        for line in lines:
            self._story.see(line.text, line.at)
        self.every_s = HURRY_S if source.more else EVERY_S
        if source.lost == self._lost:
            return []
        missed, self._lost = source.lost - self._lost, source.lost
        return [self._sees(now, f"{missed} lines were overwritten before they were read"), self._sees(now, "")]

    def _shut(self, now: float, why: str) -> list[Signal]:
        self._retry_at, self.every_s = now + self._retry_s, EVERY_S
        was_blind, self._blind = self._blind, True
        return [] if was_blind else [self._sees(now, why)]

    def _sees(self, now: float, why: str) -> Blind:
        return Blind(at=now, node=self._node, sense="kernel", why=why)

    def _signal(self, told: Told) -> Signal:
        found = told.finding
        return KernelSaw(
            at=told.at,
            node=self._node,
            fault=found.fault or found.clears,
            action=found.action,
            cascade=found.cascade,
            xid=found.xid,
            sxid=found.sxid,
            pci=found.pci,
            device=None if found.pci is None else self._device_of(found.pci),
            pid=found.pid,
            text=found.text,
            count=told.count,
        )


def remedy() -> str:
    """The command that opens the log for this user."""
    journal = "`sudo usermod -aG systemd-journal $USER` (and a new login) opens the journal"
    try:
        restricted = RESTRICTED.read_text().strip() != "0"
    except OSError:
        restricted = False
    if restricted:
        return f"{journal}, `sudo sysctl kernel.dmesg_restrict=0` the kernel's own log"
    if not Path("/dev/kmsg").exists():
        return f"In a container, `--device /dev/kmsg --cap-add SYSLOG` brings it in; else {journal}"
    return journal

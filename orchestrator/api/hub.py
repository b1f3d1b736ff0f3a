"""Who listens, and what were they told? One line of bytes for all viewers, and a bounded queue for each.

A viewer that does not read is let go when its queue is full: it comes back, and is told what it missed, as long as that
is remembered. What moves all the time is not: the next line of it says all there is to say.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterable
from typing import Any

from orchestrator.contract import plain

EVERYBODY = ""
"""the topic of all runs; other topics are ids of runs, and `RUN/ranks`"""
QUEUE_BYTES = 4 << 20
REMEMBERED, REMEMBERED_BYTES = 2000, 8 << 20
VIEWERS = 64
PASSING = frozenset({"progress", "kpi", "ranks", "supervisor"})


class Crowded(Exception):
    """There are as many viewers as there may be."""


class Viewer:
    """One open stream."""

    def __init__(self, topics: Iterable[str]) -> None:
        self.topics = frozenset(topics)
        self.gone = False
        """it does not read: whoever writes to it ends"""
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._ready = asyncio.Event()

    @property
    def waiting_bytes(self) -> int:
        """Told and not taken yet."""
        return self._bytes

    def tell(self, line: bytes) -> None:
        """One event more, or the end."""
        if self.gone:
            return
        self._lines.append(line)
        self._bytes += len(line)
        self.gone = self._bytes > QUEUE_BYTES
        self._ready.set()

    async def told(self, most_s: float) -> bytes:
        """All that came since the last time; waits for something, for `most_s` at most: empty then."""
        try:
            async with asyncio.timeout(most_s):
                await self._ready.wait()
        except TimeoutError:
            return b""
        found = b"".join(self._lines)
        self._lines.clear()
        self._bytes = 0
        self._ready.clear()
        return found


class Hub:
    """All viewers of one server."""

    def __init__(self, epoch: str) -> None:
        """`epoch` is another one for each process: what was remembered by the one before is forgotten."""
        self._epoch = epoch
        self._number = 0
        self._viewers: set[Viewer] = set()
        self._remembered: deque[tuple[int, str, bytes]] = deque()
        self._bytes = 0
        self._forgot = False
        """something that was remembered is not any more"""

    @property
    def cursor(self) -> str:
        """The id of the newest event."""
        return f"{self._epoch}-{self._number}"

    @property
    def topics(self) -> frozenset[str]:
        """What somebody listens to."""
        return frozenset(topic for viewer in self._viewers for topic in viewer.topics)

    def publish(self, topic: str, name: str, data: dict[str, Any]) -> None:
        """Tell those who listen to a topic, and remember it for those who will come back."""
        self._number += 1
        if not self._viewers and name in PASSING:
            return
        line = event(name, self.cursor, data)
        for viewer in self._viewers:
            if topic in viewer.topics:
                viewer.tell(line)
        if name not in PASSING:
            self._remember(topic, line)

    def join(self, topics: Iterable[str], since: str | None) -> tuple[Viewer, bool]:
        """A new viewer, and whether it missed more than is remembered. Raises Crowded."""
        if len(self._viewers) >= VIEWERS:
            raise Crowded
        viewer = Viewer(topics)
        missed = self._missed(since) if since else []
        for _, topic, line in missed or ():
            if topic in viewer.topics:
                viewer.tell(line)
        self._viewers.add(viewer)
        return viewer, missed is None

    def leave(self, viewer: Viewer) -> None:
        """It is gone."""
        self._viewers.discard(viewer)

    def _missed(self, since: str) -> list[tuple[int, str, bytes]] | None:
        epoch, _, number = since.rpartition("-")
        known = epoch == self._epoch and number.isascii() and number.isdecimal() and len(number) < 16
        if not known or int(number) > self._number:
            return None
        oldest = self._remembered[0][0] if self._remembered else self._number + 1
        if int(number) + 1 < oldest and self._forgot:
            return None
        return [one for one in self._remembered if one[0] > int(number)]

    def _remember(self, topic: str, line: bytes) -> None:
        self._remembered.append((self._number, topic, line))
        self._bytes += len(line)
        while len(self._remembered) > REMEMBERED or self._bytes > REMEMBERED_BYTES:
            self._bytes -= len(self._remembered.popleft()[2])
            self._forgot = True


def event(name: str, cursor: str, data: dict[str, Any]) -> bytes:
    """One event as it travels."""
    return f"event: {name}\nid: {cursor}\ndata: {json.dumps(plain(data), separators=(',', ':'))}\n\n".encode()

"""What is new in the journal? For who reads along: alerts, the dashboard, the tracker, the metrics.

A reader keeps the id of the last entry it dealt with, and goes on from there after any end of its own. Whether anything
was written at all costs some microseconds to ask, so asking forty times a second is no work, and whoever reads along is
told within 25 ms, without a word of the supervisor.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from orchestrator.journal import Entry, Journal, JournalUnavailable

LOOK_EVERY_S = 0.025
AT_ONCE = 1000
"""entries read at a time, so that a month of a run does not have to fit into memory"""
ABSENT_S = 1.0
"""until a journal that is not there, or cannot be read now, is looked for again"""

New = tuple[int, str, Entry | None]
"""(id, run, entry); None for an entry that a newer lastgood wrote"""


class Tail:
    """The journal of one state folder, read along from entry `since` on. One thread uses one Tail."""

    def __init__(self, path: Path, since: int = 0) -> None:
        self.since = since
        """id of the last entry that was given out"""
        self._path = path
        self._journal: Journal | None = None
        self._version: int | None = None

    @property
    def journal(self) -> Journal:
        """For further questions. Raises JournalUnavailable."""
        if self._journal is None:
            if not self._path.exists():
                raise JournalUnavailable(f"{self._path}: there is no journal yet: nothing was submitted")
            self._journal = Journal(self._path, read_only=True)
        return self._journal

    def changed(self) -> bool:
        """Whether anything was written (entries, steps, a heartbeat) since this was last asked."""
        version = self.journal.version()
        changed = version != self._version
        self._version = version
        return changed

    def batch(self) -> list[New]:
        """The next entries that were not given out yet, some at a time. Raises JournalUnavailable."""
        found = self.journal.after(self.since, AT_ONCE)
        if found:
            self.since = found[-1][0]
        return found

    def close(self) -> None:
        """Let go of the file; it is opened again when it is needed."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    async def follow(self) -> AsyncIterator[list[New]]:
        """What is new, for ever; an empty list when only steps or heartbeats were written.

        A journal that is not there yet, or cannot be read for now, is waited for.
        """
        more = False
        while True:
            try:
                news = self.batch() if self.changed() or more else None
            except JournalUnavailable:
                self.close()
                await asyncio.sleep(ABSENT_S)
                continue
            if news is not None:
                yield news
            more = news is not None and len(news) == AT_ONCE
            if not more:
                await asyncio.sleep(LOOK_EVERY_S)

"""Who answers what takes time? One thread with a journal of its own, so that what is live waits for no chart.

It has a course and the reported rows of each run that was asked for, and reads them along when it is asked again.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Any, TypeVar

from monitors.clock import Clock
from orchestrator.api.course import Course
from orchestrator.api.rows import Rows
from orchestrator.contract import SCHEMA, STATES, plain
from orchestrator.core.state import Phase, State
from orchestrator.home import Home
from orchestrator.journal import Journal, JournalUnavailable, Submission

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")
ROWS_KEPT = 64
"""runs of which the lines of rows are kept: some megabytes each"""
SHARED_S = 0.25
"""an answer so young is everybody's"""
ANSWERS_KEPT = 64


class Missing(LookupError):
    """There is no such run, incident or page; the text says what there is not."""


class Desk:
    """Everything here is called in the desk's own thread, but for `ask`, `shared` and `close`."""

    def __init__(self, home: Home, clock: Clock) -> None:
        self.home = home
        self.clock = clock
        self._journal: Journal | None = None
        self._courses: dict[str, Course] = {}
        self._rows: OrderedDict[str, Rows] = OrderedDict()
        self._submissions: dict[str, Submission] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="desk")
        self._shared: OrderedDict[str, tuple[float, int, asyncio.Future[Body]]] = OrderedDict()

    async def ask(self, work: Callable[[], Answer]) -> Answer:
        """What `work` finds in the desk's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def shared(
        self, key: str, work: Callable[[], dict[str, Any]], *, edition: int = 0, shared_s: float = SHARED_S
    ) -> Body:
        """The same as a body, made once for all who ask at about the same time, and of the same edition."""
        now = self.clock.now()
        known = self._shared.get(key)
        if known is not None and known[1] == edition and (not known[2].done() or now - known[0] < shared_s):
            return await asyncio.shield(known[2])
        made: asyncio.Future[Body] = asyncio.ensure_future(self.ask(lambda: Body(work())))
        made.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._shared[key] = (now, edition, made)
        while len(self._shared) > ANSWERS_KEPT:
            self._shared.popitem(last=False)
        return await asyncio.shield(made)

    def close(self) -> None:
        """Answer no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    # In the thread

    @property
    def journal(self) -> Journal:
        """To read. Raises JournalUnavailable."""
        if self._journal is None:
            if not self.home.journal.exists():
                raise JournalUnavailable(f"no run was ever submitted in {self.home.root}")
            self._journal = Journal(self.home.journal, read_only=True)
        return self._journal

    def submission(self, run: str) -> Submission:
        """A run as it was handed in. Raises Missing."""
        if run not in self._submissions:
            self._submissions = {known.run: known for known in self.journal.runs()}
        if run not in self._submissions:
            raise Missing(f"no run '{run[:60]}'")
        return self._submissions[run]

    def runs(self) -> list[str]:
        """Every run, oldest first."""
        self._submissions = {known.run: known for known in self.journal.runs()}
        return list(self._submissions)

    @staticmethod
    def word(phase: str | None) -> str:
        """The state that people see."""
        return STATES[Phase(phase)][0] if phase in set(Phase) else STATES[Phase.LAUNCHING][0]

    def course(self, run: str) -> Course:
        """What it went through until now. Raises Missing."""
        self.submission(run)
        course = self._courses.setdefault(run, Course(run))
        course.catch_up(self.journal)
        return course

    def rows(self, run: str) -> Rows:
        """What was reported until now. Raises Missing."""
        self.submission(run)
        rows = self._rows.pop(run, None) or Rows(run)
        self._rows[run] = rows
        while len(self._rows) > ROWS_KEPT:
            self._rows.popitem(last=False)
        rows.catch_up(self.journal)
        return rows

    def state(self, run: str) -> State | None:
        """Where it stands. Raises Missing."""
        self.submission(run)
        return self.journal.state(run)


class Body:
    """An answer as it travels, and what tells it from another one: all of it but the time and the cursor."""

    __slots__ = ("etag", "text")

    def __init__(self, parts: dict[str, Any]) -> None:
        """`parts` without `schema`."""
        told = plain(parts)
        lasting = {name: part for name, part in told.items() if name not in ("at", "cursor")}
        said = json.dumps(lasting, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        said = said.encode(errors="replace").decode()
        self.etag = f'W/"{blake2b(said.encode(), digest_size=12).hexdigest()}"'
        passing = {"schema": SCHEMA} | {name: told[name] for name in ("at", "cursor") if name in told}
        head = json.dumps(passing, separators=(",", ":"))
        self.text = (head if said == "{}" else f"{head[:-1]},{said[1:]}").encode()

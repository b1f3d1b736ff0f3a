"""What do viewers hear, and when? Reads the journal along, forty times a second, and tells what changed.

What was decided is told at once, and progress twenty times a second at most; numbers that come with no entry are looked
for now and then, and only of runs that somebody looks at.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from monitors.clock import Clock
from orchestrator.alerts.shown import shown
from orchestrator.api import kpi
from orchestrator.api.board import Board, Books
from orchestrator.api.course import Course, restarts_since
from orchestrator.api.desk import SHARED_S, Body, Desk, Missing
from orchestrator.api.following import Following
from orchestrator.api.hub import EVERYBODY, Hub
from orchestrator.api.ranks import Ranks, Unknown, pause_s
from orchestrator.home import Home
from orchestrator.journal import JournalUnavailable
from orchestrator.journal.file import code_version
from orchestrator.tail import ABSENT_S, AT_ONCE, LOOK_EVERY_S, New, Tail

log = logging.getLogger(__name__)

PROGRESS_EVERY_S = 0.045
"""every other look: no eye sees more, and telling ten viewers is most of the work"""
HEARTBEAT_EVERY_S = 2.0
FOLLOW_EVERY_S = 1.0
KPI_EVERY_S = 5.0
BOOKS_EVERY_S = 60.0
BOOKS_SHARE = 50
"""after books that took a second nothing is reckoned for so many"""
DAY_S = 86400.0


class Live:
    """The stream of one server. Everything here happens on the loop's thread, but for what the desk is asked."""

    def __init__(self, home: Home, clock: Clock, desk: Desk, ranks: Ranks) -> None:
        self.board = Board(home)
        self.hub = Hub(secrets.token_hex(3))
        self.tail = Tail(home.journal)
        self._home = home
        self._clock = clock
        self._desk = desk
        self._ranks = ranks
        self._begun, self._absent = False, False
        self._told_at = 0.0
        self._followed: dict[str, Following] = {}
        self._alerts: tuple[float, ...] = ()
        self._silences: int | None = None
        self._home_body: tuple[float, int, Body] | None = None
        self._editions: Counter[str] = Counter()

    async def run(self) -> None:
        """Tell, for ever."""
        tasks = [asyncio.create_task(work()) for work in (self._read, self._beat, self._reckon, self._follow)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    def row(self, run: str) -> dict[str, Any]:
        """Where a run stands. Raises Missing, and JournalUnavailable."""
        if not self.board.knows(run):
            raise Missing(f"no run '{run[:60]}'")
        return self.board.row(run, self.tail.journal, self._clock.now())

    def edition(self, run: str = EVERYBODY) -> int:
        """Another one since something was decided: whoever was told of that must not be given what was read before."""
        return self._editions[run]

    def home(self) -> Body:
        """`/api/home`, made once for all who ask at about the same time. Raises JournalUnavailable."""
        now, edition = self._clock.now(), self.edition()
        if self._home_body is None or self._home_body[1] != edition or now - self._home_body[0] >= SHARED_S:
            self._home_body = (now, edition, Body(self._home_parts(now)))
        return self._home_body[2]

    def _home_parts(self, now: float) -> dict[str, Any]:
        rows = self.board.rows(self.tail.journal, now) if self._home.journal.exists() else []
        return {
            "at": now,
            "cursor": self.hub.cursor,
            "supervisor": self.supervisor(),
            "runs": rows,
            "attention": sum(1 for row in rows if row["attention"]),
            "silences": self._silences,
        }

    def supervisor(self) -> dict[str, Any]:
        """Its heartbeat."""
        return {"alive": self.board.alive, "seen_at": self.board.seen_at}

    def hello(self) -> dict[str, Any]:
        """The first event of a stream."""
        return {"at": self._clock.now(), "version": code_version(), "cursor": self.hub.cursor}

    def begin(self) -> None:
        """Read where all runs stand; what comes later is told. Raises JournalUnavailable."""
        self.tail.since = self.tail.journal.newest_id()
        self.board.load(self.tail.journal)
        self.board.parts.clear()
        self.board.heard(self.tail.journal, self._clock.now())

    async def _read(self) -> None:
        more = False
        while True:
            try:
                more = self._read_on(more)
            except JournalUnavailable:
                self.tail.close()
                self._absent = True
                await asyncio.sleep(ABSENT_S)
            else:
                await asyncio.sleep(0 if more else LOOK_EVERY_S)

    def _read_on(self, more: bool) -> bool:
        """Read what is new, and tell; whether there is more. Raises JournalUnavailable."""
        if not self._begun:
            self.begin()
            self._begun = True
            if self._absent:  # whoever looked before saw nothing
                self.hub.publish(EVERYBODY, "reset", {"at": self._clock.now(), "cursor": self.hub.cursor})
        news = self.tail.batch() if self.tail.changed() or more else []
        self._take(news)
        self._tell()
        return len(news) == AT_ONCE

    def _take(self, news: list[New]) -> None:
        for _, run, entry in news:
            if not self.board.knows(run):
                self.board.load(self.tail.journal)
            self.board.take(run, entry)
            if entry is not None and run in self._followed:
                self._followed[run].see(entry)
        for run in {run for _, run, _ in news} & self._followed.keys():
            if events := self._followed[run].events():
                self.hub.publish(run, "entries", {"run": run, "events": events})

    def _tell(self) -> None:
        """What was decided, at once; who went on, when it is time."""
        board, now = self.board, self._clock.now()
        if board.parts:
            changed, board.parts = board.parts, {}
            self._editions.update([EVERYBODY, *changed])
            rows = [board.row(run, self.tail.journal, now) for run in changed]
            self.hub.publish(EVERYBODY, "runs", {"at": now, "rows": rows})
            board.moved -= changed.keys()
            for run, parts in changed.items():
                self.hub.publish(run, "run", {"at": now, "run": run, "changed": sorted(parts)})
        if board.moved and now - self._told_at >= PROGRESS_EVERY_S:
            self._told_at = now
            self.hub.publish(EVERYBODY, "progress", {"at": now, "runs": [board.place(run) for run in board.moved]})
            board.moved.clear()

    async def _beat(self) -> None:
        """The supervisor's heartbeat, and what changes with the clock alone."""
        while True:
            try:
                changed = self.board.heard(self.tail.journal, self._clock.now())
            except JournalUnavailable:
                changed = False
            now = self._clock.now()
            self.hub.publish(EVERYBODY, "supervisor", {"at": now, **self.supervisor()})
            self._again(self.board.runs if changed else self.board.turned(now))
            await self._hear_alerts(now)
            await asyncio.sleep(HEARTBEAT_EVERY_S)

    async def _hear_alerts(self, now: float) -> None:
        """Alerts have a file of their own: whether it was written to is all that is looked at."""
        mark = tuple(_written(self._home.root / name) for name in ("alerts.yaml", "alerts.db", "alerts.db-wal"))
        if mark != self._alerts:
            self._alerts = mark
            told = await self._desk.ask(lambda: shown(self._home, now))
            self._silences = len(told["silences"]) if told["configured"] else None
            self._editions[EVERYBODY] += 1
            self.hub.publish(EVERYBODY, "alerts", {"at": now})

    def _again(self, runs: Iterable[str]) -> None:
        """Rows that are told again although nothing was decided."""
        if not self.hub.topics:
            return
        now = self._clock.now()
        try:
            rows = [self.board.row(run, self.tail.journal, now) for run in runs]
        except JournalUnavailable:
            return
        if rows:
            self.hub.publish(EVERYBODY, "runs", {"at": now, "rows": rows})

    async def _follow(self) -> None:
        """What is new of the runs that somebody looks at, each second."""
        while True:
            watched = self.hub.topics.intersection(self.board.runs)
            try:
                self._followed = {run: self._followed.get(run) or Following(run, self.tail.journal) for run in watched}
                for run, following in self._followed.items():
                    await self._go_on(run, following)
            except JournalUnavailable:
                pass
            await asyncio.sleep(FOLLOW_EVERY_S)

    async def _go_on(self, run: str, following: Following) -> None:
        now = self._clock.now()
        if series := following.points(self.tail.journal):
            self.hub.publish(run, "points", {"at": now, "run": run, "series": series})
        if now - following.kpi_at >= KPI_EVERY_S:
            following.kpi_at = now
            self.board.speed([run], self.tail.journal)
            row = self.board.row(run, self.tail.journal, now)
            told = await self._desk.ask(lambda: kpi.of(self._desk, run, row, now))
            self.hub.publish(run, "kpi", {"at": now, "run": run, "kpi": told})
        if f"{run}/ranks" in self.hub.topics and now >= following.ranks_at:
            await self._tell_ranks(run, following, now)

    async def _tell_ranks(self, run: str, following: Following, now: float) -> None:
        try:
            table = await self._ranks.table(run)
        except Unknown as error:
            following.ranks_at = now + KPI_EVERY_S
            self.hub.publish(f"{run}/ranks", "ranks", {"at": now, "run": run, "error": str(error), "code": error.code})
        else:
            following.ranks_at = now + pause_s(table) - FOLLOW_EVERY_S / 2
            self.hub.publish(f"{run}/ranks", "ranks", {**table, "run": run})

    async def _reckon(self) -> None:
        """The books of all runs, one after the other, with long pauses; loss and speed between them."""
        due: dict[str, float] = {}
        while True:
            now = self._clock.now()
            run = min(
                (run for run in self.board.runs if due.get(run, 0.0) <= now),
                key=lambda r: due.get(r, 0.0),
                default=None,
            )
            if run is None or not self.hub.topics:
                await asyncio.sleep(0.5)
                continue
            due[run] = now + BOOKS_EVERY_S
            try:
                books = await self._desk.ask(lambda run=run: self._books(run))  # type: ignore[misc]
                self.board.speed([run], self.tail.journal)
            except (JournalUnavailable, LookupError):
                books = None
            if books is not None and self.board.learn(run, books):
                self._again([run])
            await asyncio.sleep(min(5.0, BOOKS_SHARE * (self._clock.now() - now)))

    def _books(self, run: str) -> Books:
        now = self._clock.now()
        course: Course = self._desk.course(run)
        line = course.timeline()
        return Books(
            goodput=course.account.ledger(now).goodput,
            restarts_24h=restarts_since(line, now - DAY_S),
            sparkline=tuple(self._desk.rows(run).sparkline),
            acknowledged=frozenset(case.id for case in line.cases if case.remarks.acknowledged_at is not None),
        )


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0

"""What is in the file `journal.db`, and what when it cannot be read or written?

SQLite with a write-ahead log, `synchronous = FULL` (a decision that is being acted on survives a power cut) and STRICT
tables. Readers never block the writer, nor it them.
"""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from monitors.signals import StepReported

BUSY_S = 10.0
"""A reader's recovery of the write-ahead log after a crash may hold the file for a moment; nothing else does."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE runs (
            run TEXT PRIMARY KEY, name TEXT NOT NULL, submitted_at REAL NOT NULL, spec TEXT NOT NULL,
            spec_yaml TEXT NOT NULL) STRICT, WITHOUT ROWID""",
        """CREATE TABLE entries (
            id INTEGER PRIMARY KEY, run TEXT NOT NULL REFERENCES runs, at REAL NOT NULL, kind TEXT NOT NULL,
            event TEXT NOT NULL, reason TEXT NOT NULL, phase TEXT NOT NULL, opened TEXT NOT NULL,
            closed TEXT NOT NULL) STRICT""",
        "CREATE INDEX entries_by_run ON entries (run, id)",
        "CREATE INDEX entries_by_kind ON entries (run, kind, id)",
        """CREATE TABLE actions (
            entry INTEGER NOT NULL REFERENCES entries, position INTEGER NOT NULL, run TEXT NOT NULL,
            body TEXT NOT NULL, done_at REAL, PRIMARY KEY (entry, position)) STRICT, WITHOUT ROWID""",
        "CREATE INDEX actions_by_run ON actions (run, entry)",
        "CREATE INDEX actions_undone ON actions (run, entry) WHERE done_at IS NULL",
        """CREATE TABLE snapshots (
            run TEXT NOT NULL REFERENCES runs, entry INTEGER NOT NULL REFERENCES entries, kept INTEGER NOT NULL,
            policy_version TEXT NOT NULL, code_version TEXT NOT NULL, state TEXT NOT NULL,
            PRIMARY KEY (run, entry)) STRICT, WITHOUT ROWID""",
        # Values are ANY: SQLite turns the number NaN into NULL, and a loss of NaN is not a loss unreported.
        """CREATE TABLE steps (
            run TEXT NOT NULL, world INTEGER NOT NULL, step INTEGER NOT NULL, at REAL NOT NULL, node INTEGER NOT NULL,
            rank INTEGER NOT NULL, loss ANY, grad_norm ANY, lr ANY, tokens ANY, data_index INTEGER, step_s ANY,
            PRIMARY KEY (run, world, step)) STRICT, WITHOUT ROWID""",
        "CREATE TABLE alive (who TEXT PRIMARY KEY, at REAL NOT NULL) STRICT, WITHOUT ROWID",
    ),
)
"""Step n takes a journal from version n to n + 1 (`PRAGMA user_version`); append only."""
VERSION = len(MIGRATIONS)

REMEDIES = {
    sqlite3.SQLITE_FULL: "the disk is full: free space in {folder}",
    sqlite3.SQLITE_IOERR: "the storage under {folder} refused to read or write: check the disk (full? dying?)",
    sqlite3.SQLITE_CORRUPT: "it is damaged: stop the supervisor and rescue what can be read with "
    "`sqlite3 {path} .recover | sqlite3 rescued.db`, then put rescued.db in its place",
    sqlite3.SQLITE_NOTADB: "it is not a journal: something else wrote this file; move {path} away",
    sqlite3.SQLITE_READONLY: "no right to write it: check the owner and the rights of {folder}",
    sqlite3.SQLITE_PERM: "no right to open it: check the owner and the rights of {folder}",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check that {folder} exists and its rights",
    sqlite3.SQLITE_BUSY: "another process has held it for too long: see `fuser {path}`",
    sqlite3.SQLITE_LOCKED: "another process has held it for too long: see `fuser {path}`",
}


class JournalUnavailable(Exception):
    """The journal cannot be read or written; the message says why and what to do. Nothing was half written."""


class JournalNewer(JournalUnavailable):
    """A newer lastgood wrote it."""


@cache
def code_version() -> str:
    """The version of lastgood that runs."""
    return metadata.version("lastgood")


def fits(row: StepReported) -> bool:
    """Whether `steps` takes it: a whole number of more than 64 bits is an OverflowError, a time that is NaN is NULL."""
    whole = (row.world, row.step, row.node, row.rank, row.data_index or 0)
    return math.isfinite(row.at) and min(whole) >= -(1 << 63) and max(whole) < 1 << 63


class File:
    """A connection to a journal of the present version; used by one thread."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.path = path
        self._read_only = read_only
        if not read_only and not path.exists():
            with suppress(OSError):  # SQLite will meet it too, and says more of it
                _appear(path)
        with self._explained():
            uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
            self._db = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        """Let go of the file; safe to do twice."""
        self._db.close()

    def _prepare(self) -> None:
        found = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if found > VERSION:
            raise JournalNewer(
                f"{self.path} is of version {found}, written by a newer lastgood; this one ({code_version()}) "
                f"reads up to {VERSION}: upgrade lastgood, or set LASTGOOD_HOME to another folder"
            )
        if self._read_only:
            if found < VERSION:
                raise JournalUnavailable(
                    f"{self.path} is of version {found} and has to be brought to {VERSION}: start `lastgood serve` once"
                )
            return
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._migrate()

    def _migrate(self) -> None:
        with self.transaction():
            # Read again under the lock: two processes may open a new journal at the same moment.
            found = int(self._db.execute("PRAGMA user_version").fetchone()[0])
            for statement in (s for step in MIGRATIONS[found:] for s in step):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {max(found, VERSION)}")

    def select(self, sql: str, *values: object) -> Sequence[tuple[Any, ...]]:
        """Every row of a query. Raises JournalUnavailable."""
        with self._explained():
            return self._db.execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is written inside is kept, or nothing of it. Raises JournalUnavailable.

        One inside another is a part of it.
        """
        if self._db.in_transaction:
            yield self._db
            return
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            # The low byte is the kind; the rest says where inside SQLite (e.g. IOERR_WRITE).
            remedy = REMEDIES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
            if remedy is None:
                raise
            text = remedy.format(path=self.path, folder=self.path.parent)
            raise JournalUnavailable(f"the journal {self.path} is unavailable ({error}): {text}") from error


def _appear(path: Path) -> None:
    """A new journal comes into being whole: a reader that looks while it is made must not meet half of it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.touch()
    try:
        File(draft, read_only=False).close()
        os.link(draft, path)  # refused when another process was as quick: its journal stays
    finally:
        draft.unlink()

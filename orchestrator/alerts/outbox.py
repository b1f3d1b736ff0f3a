"""What is to be delivered, and what was? One SQLite file: the place in the journal, the desk's state, every message.

The state after some entries and the messages that it led to are written in one transaction, so that a crash at any
moment loses no message and makes none twice. What a service was told twice (it took the message, and we died before
noting it) has the same key both times.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from monitors import wire
from orchestrator.alerts.message import Message
from orchestrator.alerts.rules import Silence
from orchestrator.alerts.threads import State

FILE_NAME = "alerts.db"
BUSY_S = 10.0
KEPT_S = 30 * 86400.0
"""what was delivered is shown for so long"""
VERSION = 1
TABLES = (
    "CREATE TABLE desk (one INTEGER PRIMARY KEY CHECK (one = 1), cursor INTEGER NOT NULL, state TEXT NOT NULL) STRICT",
    """CREATE TABLE messages (
        id INTEGER PRIMARY KEY, channel TEXT NOT NULL, key TEXT NOT NULL, thread TEXT NOT NULL, body TEXT NOT NULL,
        at REAL NOT NULL, tries INTEGER NOT NULL DEFAULT 0, done_at REAL, outcome TEXT, error TEXT,
        UNIQUE (channel, key)) STRICT""",
    "CREATE INDEX messages_waiting ON messages (channel, id) WHERE done_at IS NULL",
    """CREATE TABLE refs (
        channel TEXT NOT NULL, thread TEXT NOT NULL, ref TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (channel, thread)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE channels (
        channel TEXT PRIMARY KEY, delivered_at REAL, failing_since REAL, tried_at REAL, error TEXT)
        STRICT, WITHOUT ROWID""",
    """CREATE TABLE silences (
        id INTEGER PRIMARY KEY AUTOINCREMENT, until REAL NOT NULL, run TEXT NOT NULL, kind TEXT NOT NULL,
        by TEXT NOT NULL, why TEXT NOT NULL, created_at REAL NOT NULL) STRICT""",
    "CREATE TABLE notes (name TEXT PRIMARY KEY, text TEXT NOT NULL, at REAL NOT NULL) STRICT, WITHOUT ROWID",
)
STATES = wire.by_name(State)
MESSAGES = wire.by_name(Message)
_MESSAGE = "id, body, tries, done_at, outcome, error"


class OutboxUnavailable(Exception):
    """The file cannot be read or written; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A message in the file."""

    id: int
    message: Message
    tries: int = 0
    done_at: float | None = None
    outcome: str | None = None
    """delivered, refused (by the service), overtaken (a later one says more)"""
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How deliveries to a channel go."""

    channel: str
    delivered_at: float | None = None
    failing_since: float | None = None
    tried_at: float | None = None
    error: str | None = None


class Outbox:
    """The file of one state folder; one thread uses one Outbox. Everything raises OutboxUnavailable."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        with self._explained():
            mode = "ro" if read_only else "rwc"
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=BUSY_S, isolation_level=None
            )
            try:
                self._prepare(read_only)
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; safe to do twice."""
        self._db.close()

    def _prepare(self, read_only: bool) -> None:
        found = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if found > VERSION:
            raise OutboxUnavailable(f"{self._path}: a newer lastgood wrote it: upgrade this one")
        if read_only:
            if found < VERSION:
                raise OutboxUnavailable(f"{self._path}: nothing was written to it yet")
            return
        with suppress(OSError):  # titles and logs of runs are nobody else's affair
            self._path.chmod(0o600)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        with self._transaction():
            # Read again under the lock: two processes may open a new file at the same moment.
            if int(self._db.execute("PRAGMA user_version").fetchone()[0]) < VERSION:
                for statement in TABLES:
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise OutboxUnavailable(f"{self._path} is unavailable: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _select(self, sql: str, *values: object) -> Sequence[tuple[Any, ...]]:
        with self._explained():
            return self._db.execute(sql, values).fetchall()

    # The desk

    def desk(self) -> tuple[State, int] | None:
        """The desk's state, and the last entry of the journal that is in it; None before the first."""
        found = self._select("SELECT state, cursor FROM desk")
        return (wire.loads(found[0][0], STATES), int(found[0][1])) if found else None

    def keep(self, state: State, cursor: int, messages: Sequence[Message]) -> None:
        """Write the state after entry `cursor`, and the messages that it led to: all or nothing."""
        rows = [(m.channel, m.key, m.thread, wire.dumps(m), m.at) for m in messages]
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO desk VALUES (1, ?, ?)", (cursor, wire.dumps(state)))
            db.executemany(
                "INSERT INTO messages (channel, key, thread, body, at) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (channel, key) DO NOTHING",
                rows,
            )

    # Deliveries

    def next(self, channel: str) -> Kept | None:
        """The oldest message that waits for a channel."""
        sql = f"SELECT {_MESSAGE} FROM messages WHERE channel = ? AND done_at IS NULL ORDER BY id LIMIT 1"
        found = self._select(sql, channel)
        return _kept(found[0]) if found else None

    def waiting(self, channel: str) -> int:
        """How many messages wait for a channel."""
        sql = "SELECT COUNT(*) FROM messages WHERE channel = ? AND done_at IS NULL"
        return int(self._select(sql, channel)[0][0])

    def is_overtaken(self, kept: Kept) -> bool:
        """A later message of the same thread waits for the same channel."""
        message = kept.message
        sql = "SELECT 1 FROM messages WHERE channel = ? AND thread = ? AND id > ? AND done_at IS NULL LIMIT 1"
        return bool(self._select(sql, message.channel, message.thread, kept.id))

    def ref(self, channel: str, thread: str) -> str:
        """What a sink returned for the message before; empty: nothing."""
        found = self._select("SELECT ref FROM refs WHERE channel = ? AND thread = ?", channel, thread)
        return str(found[0][0]) if found else ""

    def done(self, kept: Kept, at: float, outcome: str, *, ref: str = "", error: str | None = None) -> None:
        """It needs no more tries."""
        message = kept.message
        with self._transaction() as db:
            db.execute(
                "UPDATE messages SET done_at = ?, outcome = ?, error = ?, tries = tries + 1 WHERE id = ?",
                (at, outcome, error, kept.id),
            )
            if ref:
                db.execute(
                    "INSERT OR REPLACE INTO refs VALUES (?, ?, ?, ?)", (message.channel, message.thread, ref, at)
                )
            if outcome == "delivered":
                db.execute("INSERT OR REPLACE INTO channels VALUES (?, ?, NULL, ?, NULL)", (message.channel, at, at))

    def failed(self, kept: Kept, at: float, error: str) -> None:
        """It did not arrive, and waits for another try."""
        with self._transaction() as db:
            db.execute("UPDATE messages SET tries = tries + 1, error = ? WHERE id = ?", (error, kept.id))
            db.execute(
                "INSERT INTO channels VALUES (?, NULL, ?, ?, ?) ON CONFLICT (channel) DO UPDATE SET"
                " failing_since = COALESCE(failing_since, excluded.failing_since), tried_at = excluded.tried_at,"
                " error = excluded.error",
                (kept.message.channel, at, at, error),
            )

    def health(self) -> dict[str, Health]:
        """By channel, as far as anything was ever sent to it."""
        found = self._select("SELECT channel, delivered_at, failing_since, tried_at, error FROM channels")
        names = ("channel", "delivered_at", "failing_since", "tried_at", "error")
        return {row[0]: Health(**dict(zip(names, row, strict=True))) for row in found}

    def newest(self, limit: int) -> list[Kept]:
        """The newest messages, newest first."""
        return [_kept(row) for row in self._select(f"SELECT {_MESSAGE} FROM messages ORDER BY id DESC LIMIT ?", limit)]

    def last(self, channel: str, thread: str) -> Message | None:
        """What a channel was told last of a thread."""
        sql = (
            f"SELECT {_MESSAGE} FROM messages WHERE channel = ? AND thread = ? AND outcome = 'delivered'"
            " ORDER BY id DESC LIMIT 1"
        )
        found = self._select(sql, channel, thread)
        return _kept(found[0]).message if found else None

    def tidy(self, at: float) -> None:
        """Forget what was delivered long ago."""
        with self._transaction() as db:
            db.execute("DELETE FROM messages WHERE done_at < ?", (at - KEPT_S,))
            db.execute("DELETE FROM refs WHERE at < ?", (at - 12 * KEPT_S,))
            db.execute("DELETE FROM silences WHERE until < ?", (at - KEPT_S,))

    # Silences and notes

    def silence(self, silence: Silence) -> int:
        """Keep a silence; returns its number."""
        values = (silence.until, silence.run, silence.kind, silence.by, silence.why, silence.created_at)
        with self._transaction() as db:
            cursor = db.execute(
                "INSERT INTO silences (until, run, kind, by, why, created_at) VALUES (?, ?, ?, ?, ?, ?)", values
            )
            assert cursor.lastrowid is not None
            return cursor.lastrowid

    def silences(self, at: float) -> tuple[Silence, ...]:
        """Those in force, oldest first."""
        names = ("id", "until", "run", "kind", "by", "why", "created_at")
        found = self._select(f"SELECT {', '.join(names)} FROM silences WHERE until > ? ORDER BY id", at)
        return tuple(Silence(**dict(zip(names, row, strict=True))) for row in found)

    def end_silence(self, id_: int, at: float) -> bool:
        """End it now; False: there is none of that number in force."""
        with self._transaction() as db:
            return db.execute("UPDATE silences SET until = ? WHERE id = ? AND until > ?", (at, id_, at)).rowcount > 0

    def note(self, name: str, text: str, at: float) -> None:
        """Something to be shown until it is empty again: what is wrong with the file of alerts, say."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (name, text, at))

    def noted(self, name: str) -> str:
        """The text of a note; empty: there is none."""
        found = self._select("SELECT text FROM notes WHERE name = ?", name)
        return str(found[0][0]) if found else ""


def _kept(row: Sequence[Any]) -> Kept:
    id_, body, tries, done_at, outcome, error = row
    message: Message = wire.loads(body, MESSAGES)
    return Kept(id=id_, message=message, tries=tries, done_at=done_at, outcome=outcome, error=error)

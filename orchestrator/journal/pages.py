"""Which entries of a run are on this page, and which rows are new? Reads a part of a long journal, by its indices."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from orchestrator.journal.file import File

_DULL = """kind IN ('Progressed', 'TimePassed') AND reason = '' AND opened = '[]' AND closed = '[]'
    AND NOT EXISTS (SELECT 1 FROM actions WHERE entry = entries.id)"""
_PLACE = "SELECT id, event, phase, reason, opened, closed FROM entries WHERE run = ? AND id > ? AND id < ?"
ENDLESS = 2**62
ROWS_AT_ONCE = 20_000

Row = tuple[int, float, float | str | None, float | str | None, float | str | None, float | str | None, Any]
"""step, at, loss, grad_norm, lr, tokens, step_s"""


def entries(
    file: File, run: str, *, after: int, before: int, limit: int, newest_first: bool, dull: bool, kinds: Sequence[str]
) -> Sequence[tuple[Any, ...]]:
    """At most `limit` rows of entries between two ids, neither included; `dull`: also progress nobody decided about."""
    sql = _PLACE + ("" if dull else f" AND NOT ({_DULL})")
    if kinds:
        sql += " AND kind IN (SELECT value FROM json_each(?))"
    sql += f" ORDER BY id {'DESC' if newest_first else ''} LIMIT ?"
    words = (json.dumps(list(kinds)),) if kinds else ()
    return file.select(sql, run, after, before, *words, limit)


def actions(file: File, ids: Sequence[int]) -> Sequence[tuple[Any, ...]]:
    """(entry, body) of what was ordered in these entries."""
    sql = "SELECT entry, body FROM actions WHERE entry IN (SELECT value FROM json_each(?)) ORDER BY entry, position"
    return file.select(sql, json.dumps(list(ids)))


def worlds(file: File, run: str, since: int) -> list[int]:
    """Numbers of the worlds, from `since` on, that have rows."""
    sql = """WITH RECURSIVE seen(world) AS (
        SELECT MIN(world) FROM steps WHERE run = ?1 AND world >= ?2
        UNION ALL SELECT (SELECT MIN(world) FROM steps WHERE run = ?1 AND world > seen.world) FROM seen
        WHERE seen.world IS NOT NULL) SELECT world FROM seen WHERE world IS NOT NULL"""
    return [int(world) for (world,) in file.select(sql, run, since)]


def rows(file: File, run: str, world: int, after: int) -> Sequence[Row]:
    """The next rows of one world, by step; at most ROWS_AT_ONCE."""
    sql = """SELECT step, at, loss, grad_norm, lr, tokens, step_s FROM steps
        WHERE run = ? AND world = ? AND step > ? ORDER BY step LIMIT ?"""
    return file.select(sql, run, world, after, ROWS_AT_ONCE)

"""Is who reads the journal along told of everything, once and in order, and cheaply?"""

from __future__ import annotations

import asyncio
from pathlib import Path

from orchestrator.core import events as e
from orchestrator.core.state import Decision
from orchestrator.journal import Journal
from orchestrator.tail import AT_ONCE, New, Tail
from tests.story.scripted import T0, blank


def journal_of(path: Path, *runs: str) -> Journal:
    journal = Journal(path)
    for run in runs:
        journal.submit(run, run, {}, "", T0)
    return journal


def write(journal: Journal, run: str, at: float) -> int:
    return journal.record(run, e.TimePassed(at=at), Decision(state=blank(), reason="because"))


def test_entries_of_all_runs_come_in_the_order_they_were_decided(tmp_path: Path) -> None:
    with journal_of(tmp_path / "journal.db", "a", "b") as journal:
        ids = [write(journal, run, T0 + n) for n, run in enumerate("abba")]
        tail = Tail(journal_path := tmp_path / "journal.db")
        assert [(id_, run) for id_, run, _ in tail.batch()] == list(zip(ids, "abba", strict=True))
        assert tail.batch() == []
        assert [id_ for id_, _, _ in Tail(journal_path, since=ids[1]).batch()] == ids[2:]
        assert journal.newest_id() == ids[-1]


def test_whether_anything_was_written_is_known_of_rows_and_heartbeats_too(tmp_path: Path) -> None:
    with journal_of(tmp_path / "journal.db", "a") as journal:
        tail = Tail(tmp_path / "journal.db")
        assert tail.changed(), "what was there before it looked is news"
        assert not tail.changed()
        journal.heartbeat(T0)
        assert tail.changed()
        assert tail.batch() == []


def test_a_kind_that_a_newer_lastgood_wrote_is_passed_over(tmp_path: Path) -> None:
    with journal_of(tmp_path / "journal.db", "a") as journal:
        first, second = write(journal, "a", T0), write(journal, "a", T0 + 1)
        with journal._file.transaction() as db:
            db.execute("UPDATE entries SET event = ? WHERE id = ?", ('{"_": "Teleported"}', first))
        found = Tail(tmp_path / "journal.db").batch()
        assert [(id_, entry is None) for id_, _, entry in found] == [(first, True), (second, False)]


async def following(tail: Tail, count: int) -> list[New]:
    news: list[New] = []
    async for batch in tail.follow():
        news += batch
        if len(news) >= count:
            break
    return news


def test_who_follows_gets_a_backlog_longer_than_a_batch_and_what_comes_later(tmp_path: Path) -> None:
    async def follow() -> list[New]:
        tail = Tail(tmp_path / "journal.db")
        told = asyncio.create_task(following(tail, AT_ONCE + 3))
        await asyncio.sleep(0)  # it looks once at a journal that is not there
        with journal_of(tmp_path / "journal.db", "a") as journal:
            with journal._file.transaction():
                for n in range(AT_ONCE + 2):
                    write(journal, "a", T0 + n)
            await asyncio.sleep(0)
            write(journal, "a", T0 + AT_ONCE + 2)
            return await asyncio.wait_for(told, 20.0)

    ids = [id_ for id_, _, _ in asyncio.run(follow())]
    assert ids == list(range(1, AT_ONCE + 4))

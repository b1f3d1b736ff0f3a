"""Are books that are kept as a journal grows those that are made of all of it at the end, and do they stay small?"""

from __future__ import annotations

import pytest

from monitors.incidents import Kind
from orchestrator import timeline
from orchestrator.core import events as e
from orchestrator.ledger import SETTLE_EVERY, Account, balance
from orchestrator.spans import Bucket, settled, spans_of
from tests.story.scripted import T0, Script


def eventful() -> Script:
    """Two faults, one of them rolled back over, a data stall, energy, and an end."""
    script = Script().join(2.0).begin(0).train(10, data=0.2).save(stall_s=0.1).train(10, data=0.5)
    script.fail(Kind.WORKER_KILLED, detect_s=0.3).stop(0.4).begin(10)
    read = e.EnergyRead(since=T0, until=script.now, joules=900.0, gpu_s=10.0)
    script.train(20, energy=read).fail(Kind.HANG, detect_s=5.0).stop(0.4).begin(10).train(40)
    return script.finish()


def test_at_every_entry_the_books_are_those_of_the_journal_until_then() -> None:
    entries, account = eventful().entries, Account()
    for number, entry in enumerate(entries, 1):
        account.see(entry)
        for later_s in (0.0, 7.5):
            now = entry.event.at + later_s
            assert account.ledger(now) == balance(entries[:number], now), "asking changes nothing"
        assert account.timeline() == timeline.walk(entries[:number])


def test_before_the_first_entry_there_is_nothing() -> None:
    assert Account().ledger(T0).wall_s == 0.0


def hours(number: int) -> Script:
    """A report a second, each with stalls; one save, in the middle."""
    script = Script().join(2.0).begin(0)
    for second in range(1, number * 3600 + 1):
        script.train(10, save=second * 0.01, data=second * 0.02)
        if second == number * 1800:
            script.save()
    return script


def test_hours_of_reports_are_kept_as_minutes_and_lose_no_millisecond() -> None:
    script, account = hours(2), Account()
    for entry in script.entries:
        account.see(entry)
    spans = spans_of(script.entries, script.now)
    small = settled(spans, round(script.now * 1000))
    assert len(small) < len(spans) / 50
    for bucket in Bucket:
        lengths = [sum(s.end_ms - s.start_ms for s in kept if s.bucket is bucket) for kept in (spans, small)]
        assert lengths[0] == lengths[1]
    assert [s.start_ms for s in small[1:]] == [s.end_ms for s in small[:-1]], "end to end"
    whole = balance(script.entries, script.now)
    assert account.ledger(script.now).buckets == pytest.approx(whole.buckets)
    kept_most = 3 * 120 + 3 * (600 + SETTLE_EVERY) + 10
    assert len(account.spans(script.now)) <= kept_most


def test_a_roll_back_into_settled_minutes_moves_the_time_of_its_steps() -> None:
    script = hours(1).fail(Kind.WORKER_KILLED, detect_s=0.5).stop(0.5).begin(18_000)
    found = balance(script.entries, script.now)
    assert found.steps_lost == 18_000
    assert found.buckets[Bucket.RECOMPUTED] == pytest.approx(0.97 * 1800, rel=0.01)

"""Does what is told arrive? The real outbox on a disk, couriers, and services that fail: each channel by itself."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from monitors.clock import SystemClock
from monitors.incidents import Kind
from orchestrator.alerts.companion import Alerting
from orchestrator.alerts.delivery import Waits, backoff_s
from orchestrator.alerts.message import Act
from orchestrator.alerts.outbox import Outbox, OutboxUnavailable
from orchestrator.alerts.rules import Silence
from orchestrator.alerts.shown import shown
from orchestrator.alerts.threads import State
from orchestrator.core import events as e
from orchestrator.home import Home
from orchestrator.journal import Journal
from tests.alerts import services as s
from tests.alerts.test_sinks import OPENED, RESOLVED, UPDATED
from tests.story.scripted import Script

QUICK = Waits(deadline_s=20.0, first_s=0.02, most_s=0.2)
"""tries again at once; nobody but a service that hangs takes as long as the deadline, on a busy machine either"""


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path / "home")
    found.create()
    return found


@pytest.fixture
def hooks() -> Iterator[list[s.Hook]]:
    with s.served(s.Hook()) as one, s.served(s.Hook()) as two:
        assert isinstance(one, s.Hook)
        assert isinstance(two, s.Hook)
        yield [one, two]


def configure(home: Home, hooks: list[s.Hook], *, severity: str = "info", more: str = "") -> None:
    """Two webhooks, one and two."""
    names = ("one", "two")
    channels = "".join(f"  {n}: {{webhook: {{url: '{hook.url}'}}}}\n" for n, hook in zip(names, hooks, strict=False))
    routes = "".join(f"  - {{to: {name}, severity: {severity}}}\n" for name, _ in zip(names, hooks, strict=False))
    path = home.root / "alerts.yaml"
    path.write_text(f"channels:\n{channels}routes:\n{routes}group: {{wait: 0s}}\n{more}")
    path.chmod(0o600)


def alerting(home: Home, until: Callable[[], bool], *, within_s: float = 60.0, waits: Waits = QUICK) -> None:
    """Alerts work until it holds."""

    async def work() -> None:
        task = asyncio.create_task(Alerting(home, SystemClock(), environ=os.environ, waits=waits).work())
        deadline = time.monotonic() + within_s
        while not until() and not task.done():
            assert time.monotonic() < deadline, f"not within {within_s} s: {shown(home, time.time())}"
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

    asyncio.run(work())


def started(home: Home) -> Script:
    """A run that trains; alerts are asked for once it does."""
    journal = Journal(home.journal)
    script = Script(journal).join().begin(0).train(50).save()
    script.now = time.time()
    return script


def begun(home: Home) -> Callable[[], bool]:
    """Alerts know their place in the journal."""

    def is_begun() -> bool:
        try:
            with Outbox(home.root / "alerts.db", read_only=True) as outbox:
                return outbox.desk() is not None
        except OutboxUnavailable:
            return False

    return is_begun


def sent(home: Home, name: str) -> bool:
    """All that a channel was to be told was told, and is known to have been: what was not is told again."""
    waiting = {channel["name"]: channel["waiting"] for channel in shown(home, time.time())["channels"]}
    return waiting[name] == 0


def acts(hook: s.Hook) -> list[tuple[str, str]]:
    return [(message["act"], message["kind"]) for message in hook.told]


def test_what_was_before_alerts_were_asked_for_is_not_told_but_what_stands_is(home: Home, hooks: list[s.Hook]) -> None:
    script = started(home).fail(Kind.WORKER_KILLED).stop().begin(50).train(60).save().train(5).fail(Kind.CRASH_LOOP)
    script.take(e.AttemptEnded(at=script.wait(1).now, attempt=1))
    configure(home, hooks)
    alerting(home, lambda: bool(hooks[0].told and hooks[1].told) and sent(home, "one") and sent(home, "two"))
    assert acts(hooks[0]) == acts(hooks[1]) == [("opened", "crash_loop")]
    assert "the run is held" in hooks[0].told[0]["title"]


def test_a_channel_that_hangs_delays_no_other_and_gets_all_when_it_is_back(home: Home, hooks: list[s.Hook]) -> None:
    script = started(home)
    configure(home, hooks)
    alerting(home, begun(home))
    one, two = hooks
    one.down = s.HANG
    script.fail(Kind.WORKER_KILLED).stop().begin(50).train(60).save().train(5)
    began = time.monotonic()
    alerting(home, lambda: bool(two.told) and sent(home, "two"))
    assert time.monotonic() - began < 15, "the other waited for the one that hangs"
    assert one.told == []
    one.down = None
    one.released.set()
    alerting(home, lambda: bool(one.told) and sent(home, "one"))
    assert acts(one) == acts(two) == [("note", "worker_killed")]
    health = {channel["name"]: channel for channel in shown(home, time.time())["channels"]}
    assert health["one"]["failing_since"] is None
    assert health["one"]["waiting"] == 0


def test_nothing_is_lost_by_a_service_that_fails_in_every_way(home: Home, hooks: list[s.Hook]) -> None:
    script = started(home)
    configure(home, hooks[:1])
    alerting(home, begun(home))
    hook = hooks[0]
    hook.faults.extend([500, s.CLOSE, (429, {"Retry-After": "0"}), 401, 503, s.CLOSE, 404])
    script.fail(Kind.CRASH_LOOP)
    script.take(e.AttemptEnded(at=script.wait(1).now, attempt=1))
    alerting(home, lambda: bool(hook.told) and sent(home, "one"))
    assert len(hook.tries) == 8
    assert len({tried.headers["Idempotency-Key"] for tried in hook.tries}) == 1
    script.take(e.ResumeRequested(at=script.wait(1).now, by="ada"))
    alerting(home, lambda: len(hook.told) == 2 and sent(home, "one"))
    assert acts(hook) == [("opened", "crash_loop"), ("resolved", "crash_loop")]


def test_a_service_that_asks_for_time_is_given_it(home: Home, hooks: list[s.Hook]) -> None:
    script = started(home)
    configure(home, hooks[:1])
    alerting(home, begun(home))
    hooks[0].faults.append((429, {"Retry-After": "2"}))
    script.fail(Kind.CRASH_LOOP)
    alerting(home, lambda: bool(hooks[0].told) and sent(home, "one"))
    first, second = hooks[0].tries
    assert second.at - first.at >= 1.9


def test_what_a_service_will_never_take_does_not_hold_up_what_follows(home: Home, hooks: list[s.Hook]) -> None:
    script = started(home)
    configure(home, hooks[:1])
    alerting(home, begun(home))
    hooks[0].faults.extend([400, 400, 400])
    script.fail(Kind.CRASH_LOOP)
    script.take(e.AttemptEnded(at=script.wait(1).now, attempt=1))
    alerting(home, lambda: len(hooks[0].tries) >= 3 and sent(home, "one"))
    script.take(e.ResumeRequested(at=script.wait(1).now, by="ada"))
    alerting(home, lambda: bool(hooks[0].told) and sent(home, "one"))
    assert acts(hooks[0]) == [("resolved", "crash_loop")]
    assert "it answered 400" in str(refused(home))


def refused(home: Home) -> list[str | None]:
    with Outbox(home.root / "alerts.db", read_only=True) as outbox:
        return [kept.error for kept in outbox.newest(10) if kept.outcome == "refused"]


def test_a_channel_that_is_down_for_long_is_told_through_the_others(home: Home, hooks: list[s.Hook]) -> None:
    script = started(home)
    configure(home, hooks, more="late: {channel: 1s}\n")
    alerting(home, begun(home))
    one, two = hooks
    one.down = 503
    script.fail(Kind.CRASH_LOOP)
    alerting(home, lambda: ("opened", "channel_down") in acts(two))
    told = next(message for message in two.told if message["kind"] == "channel_down")
    assert "Alerts do not arrive: one" in told["title"]
    one.down = None
    alerting(home, lambda: ("resolved", "channel_down") in acts(two) and bool(one.told))
    assert all(kind != "channel_down" for _, kind in acts(one))


def test_a_file_that_is_wrong_changes_nothing_but_what_is_shown(home: Home, hooks: list[s.Hook]) -> None:
    script = started(home)
    configure(home, hooks[:1])
    alerting(home, begun(home))
    said: list[dict[str, Any]] = []

    def step() -> bool:
        if not said:
            (home.root / "alerts.yaml").write_text("chanels: {}\n")
            said.append({})
            return False
        if len(said) == 1 and "unknown key" in shown(home, time.time())["why"]:
            script.fail(Kind.CRASH_LOOP)
            said.append({})
        return bool(hooks[0].told)

    configure(home, hooks[:1])
    ready = iter([False] * 100)
    alerting(home, lambda: next(ready, True) and step())
    assert acts(hooks[0]) == [("opened", "crash_loop")]


def test_a_silence_and_an_acknowledgement_reach_a_desk_that_works(home: Home, hooks: list[s.Hook]) -> None:
    script = started(home)
    configure(home, hooks[:1])
    alerting(home, begun(home))
    now = time.time()
    with Outbox(home.root / "alerts.db") as outbox:
        id_ = outbox.silence(Silence(id=0, until=now + 3600, run="*", kind="crash_loop", created_at=now))
    script.fail(Kind.CRASH_LOOP)
    alerting(home, lambda: bool(shown(home, time.time())["threads"]), within_s=40)
    answer = shown(home, time.time())
    assert answer["threads"][0]["silenced"] is True
    assert hooks[0].told == []
    script.take(e.IncidentAcknowledged(at=script.wait(1).now, by="ada", incident="i1"))
    with Outbox(home.root / "alerts.db") as outbox:
        assert outbox.end_silence(id_, time.time())
    alerting(home, lambda: bool(hooks[0].told) and sent(home, "one"))
    assert hooks[0].told[0]["acknowledged_by"] == "ada"


def test_the_switch_pings_while_the_supervisor_lives_and_fails_when_it_does_not(
    home: Home, hooks: list[s.Hook]
) -> None:
    started(home)
    one, two = hooks
    configure(home, [one], more=f"heartbeat: {{url: '{two.url}/ping/secret', every: 0.1s}}\n")
    with Journal(home.journal) as journal:
        journal.heartbeat(time.time())

    def paths() -> list[str]:
        return [asked.path for asked in two.asked]

    alerting(home, lambda: paths().count("/ping/secret") >= 2)
    assert paths()[0] == "/ping/secret/start"
    with Journal(home.journal) as journal:
        journal.heartbeat(time.time() - 100)
    alerting(home, lambda: "/ping/secret/fail" in paths())
    with Journal(home.journal) as journal:
        journal.leave(time.time())
    count = len(two.asked)
    waited = iter(range(40))
    alerting(home, lambda: next(waited, None) is None)
    assert paths()[count:] == ["/ping/secret/start"], "one that left is nobody's emergency"


def test_waits_between_tries_grow_to_a_bound_and_are_not_all_the_same() -> None:
    waits = Waits(first_s=1.0, most_s=300.0)
    assert [backoff_s(n, waits, 1.0) for n in (1, 2, 3, 9, 10, 99)] == [1, 2, 4, 256, 300, 300]
    assert backoff_s(5, waits, 0.0) == 8.0


def test_the_outbox_keeps_state_and_messages_together_and_each_key_once(tmp_path: Path) -> None:
    path = tmp_path / "alerts.db"
    with pytest.raises(OutboxUnavailable):
        Outbox(path, read_only=True)
    with Outbox(path) as outbox:
        outbox.keep(State(digests=3), 7, [OPENED, UPDATED])
        outbox.keep(State(digests=3), 8, [OPENED])
        assert outbox.desk() == (State(digests=3), 8)
        assert outbox.waiting("c") == 2
        first = outbox.next("c")
        assert first is not None
        assert first.message == OPENED
        outbox.done(first, 1.0, "delivered", ref="R")
        second = outbox.next("c")
        assert second is not None
        assert not outbox.is_overtaken(second)
        outbox.keep(State(), 9, [RESOLVED])
        assert outbox.is_overtaken(second)
        outbox.failed(second, 2.0, "why")
        outbox.failed(second, 3.0, "still")
        assert outbox.health()["c"].failing_since == 2.0
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    with Outbox(path, read_only=True) as again:
        assert again.ref("c", OPENED.thread) == "R"
        assert [kept.message.act for kept in again.newest(5)] == [Act.RESOLVED, Act.UPDATED, Act.OPENED]
    with Outbox(path) as outbox:
        outbox.tidy(1.0 + 31 * 86400)
        assert [kept.message.act for kept in outbox.newest(5)] == [Act.RESOLVED, Act.UPDATED], "what waits is kept"


def test_what_is_shown_has_no_secret_and_is_there_without_a_file(home: Home) -> None:
    answer = shown(home, 0.0)
    assert answer["configured"] is False
    assert "lastgood alerts init" in answer["why"]
    (home.root / "alerts.yaml").write_text("channels:\n  a: {webhook: {url: 'https://x.example/SECRET'}}\n")
    (home.root / "alerts.yaml").chmod(0o600)
    assert "SECRET" not in str(shown(home, 0.0))
    assert shown(home, 0.0)["channels"][0]["kind"] == "webhook"

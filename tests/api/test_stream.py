"""Does whoever listens hear what happened, soon, once, and after having been away?"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from monitors.incidents import Kind
from orchestrator.api.hub import EVERYBODY, QUEUE_BYTES, REMEMBERED, VIEWERS, Crowded, Hub, Viewer
from orchestrator.home import Home
from orchestrator.journal import Journal
from tests.api.harness import Browser, play
from tests.api.homes import row
from tests.story.scripted import RUN, Script


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path / "home")
    found.create()
    return found


def recovers(told: dict[str, Any]) -> bool:
    return any(changed["state"] == "RECOVERING" for changed in told["rows"])


def test_what_is_decided_and_what_goes_on_is_told(home: Home) -> None:
    journal = Journal(home.journal)
    script = Script(journal).join().begin(0).train(5)

    async def course(browser: Browser) -> None:
        await browser.json("/api/home")
        events = browser.events(f"/api/stream?run={RUN}")
        assert (await browser.until("hello", events))["version"]
        script.train(3)
        told = await browser.until("progress", events)
        assert told["runs"][0][:2] == [RUN, 8]
        script.fail(Kind.WORKER_KILLED)
        (changed,) = (await browser.until("runs", events, recovers))["rows"]
        assert "i1" in {reason["incident"] for reason in changed["attention"]}
        journal.add_rows(RUN, [row(6), row(7)])

    with journal:
        play(home, course)


def test_a_run_that_is_looked_at_brings_its_events_points_and_numbers(home: Home) -> None:
    journal = Journal(home.journal)
    script = Script(journal).join().begin(0).train(5)
    journal.add_rows(RUN, [row(step) for step in range(1, 6)])

    async def course(browser: Browser) -> None:
        events = browser.events(f"/api/stream?run={RUN}")
        kpi = await browser.until("kpi", events)
        assert kpi["kpi"]["ledger"]["gpu_hours"] > 0
        journal.add_rows(RUN, [row(6, loss=float("nan"))])
        script.train(1)
        points = await browser.until("points", events, lambda told: "loss" in told["series"])
        assert [point[1:] for point in points["series"]["loss"]] == [[6, "nan", 1]]
        script.fail(Kind.WORKER_KILLED)
        found = await browser.until("entries", events, lambda told: bool(told["events"][-1]["opened"]))
        assert found["events"][-1]["opened"] == ["i1"]
        assert found["events"][-1]["sentences"]
        await browser.until("run", events, lambda told: "incidents" in told["changed"])

    with journal:
        play(home, course)


def test_who_was_told_is_not_given_what_was_read_for_others_before(home: Home) -> None:
    journal = Journal(home.journal)
    script = Script(journal).join().begin(0).train(5)
    paths = (f"/api/runs/{RUN}", "/api/home", f"/api/runs/{RUN}/timeline")

    async def course(browser: Browser) -> None:
        events = browser.events(f"/api/stream?run={RUN}")
        await browser.until("hello", events)
        before = [await browser.json(path) for path in paths]
        script.fail(Kind.WORKER_KILLED)
        await browser.until("run", events, lambda told: "incidents" in told["changed"])
        after = [await browser.json(path) for path in paths]
        assert [body["row"]["state"] for body in (before[0], after[0])] == ["RUNNING", "RECOVERING"]
        assert after[1]["runs"][0]["state"] == "RECOVERING"
        assert after[2] != before[2]

    with journal:
        play(home, course)


def test_a_run_that_is_new_is_told_of(home: Home) -> None:
    async def course(browser: Browser) -> None:
        assert (await browser.json("/api/home"))["runs"] == []
        events = browser.events()
        assert (await anext(events))[0] == "hello"
        with Journal(home.journal) as journal:
            Script(journal)
            await browser.until("reset", events)
            assert [told["run"] for told in (await browser.json("/api/home"))["runs"]] == [RUN]
            Script(journal, run="gpt-other")
            told = await browser.until("runs", events, lambda told: told["rows"][-1]["run"] == "gpt-other")
            assert told["rows"][-1]["state"] == "PENDING"

    play(home, course)


def test_who_was_away_hears_what_it_missed_once_and_else_that_it_missed_too_much(home: Home) -> None:
    journal = Journal(home.journal)
    script = Script(journal).join().begin(0).train(5)

    async def course(browser: Browser) -> None:
        events = browser.events()
        name, cursor, _ = await anext(events)
        assert name == "hello"
        script.fail(Kind.WORKER_KILLED)
        await browser.until("runs", events, recovers)
        await events.aclose()  # type: ignore[attr-defined]
        again = browser.events(**{"last-event-id": cursor})
        assert (await anext(again))[0] == "hello"
        await browser.until("runs", again, recovers)
        forged = browser.events(**{"last-event-id": "other-1"})
        assert [(await anext(forged))[0] for _ in range(2)] == ["hello", "reset"]

    with journal:
        play(home, course)


def test_a_hub_forgets_in_time_and_says_so() -> None:
    hub = Hub("e")
    for n in range(REMEMBERED + 10):
        hub.publish(EVERYBODY, "runs", {"n": n})
    assert hub.join([EVERYBODY], "e-3")[1], "too long ago"
    assert not hub.join([EVERYBODY], f"e-{REMEMBERED}")[1]
    for cursor in ("e-", "e-x", "f-5", "-1", "e-99999999999999999999", f"e-{REMEMBERED + 11}", "e-٣"):
        assert hub.join([EVERYBODY], cursor)[1], cursor


def test_a_viewer_that_does_not_read_is_let_go_and_costs_no_more() -> None:
    hub = Hub("e")
    viewer, _ = hub.join([EVERYBODY, "run"], None)
    for _ in range(40):
        hub.publish("run", "points", {"x": "y" * (QUEUE_BYTES // 20)})
    assert viewer.gone
    assert viewer.waiting_bytes <= 2 * QUEUE_BYTES


def test_there_is_an_end_to_viewers() -> None:
    hub = Hub("e")
    viewers = [hub.join([EVERYBODY], None)[0] for _ in range(VIEWERS)]
    with pytest.raises(Crowded):
        hub.join([EVERYBODY], None)
    hub.leave(viewers[0])
    hub.join([EVERYBODY], None)


def test_a_topic_is_told_to_those_who_listen_to_it() -> None:
    async def work() -> None:
        hub = Hub("e")
        one, two = hub.join([EVERYBODY], None)[0], hub.join([EVERYBODY, "run"], None)[0]
        hub.publish("run", "points", {"a": 1})
        assert await told(one) == b""
        assert b'{"a":1}' in await told(two)

    async def told(viewer: Viewer) -> bytes:
        return await viewer.told(0.01)

    asyncio.run(work())

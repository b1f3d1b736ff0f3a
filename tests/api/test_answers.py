"""Is what the server answers what docs/dashboard.md says, field by field? And what the journal says?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from orchestrator.home import Home
from tests.api.harness import Browser, play
from tests.api.homes import HELD, SECRET, filled
from tests.story.scripted import RUN

PAGE = Path(__file__).parents[2] / "docs" / "dashboard.md"
STATUS_ONLY = frozenset({"nodes", "supervisor", "schema"})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return filled(tmp_path_factory.mktemp("api") / "home")


def fields() -> dict[str, set[str]]:
    """Heading to the fields of its first table; `a`, `b` in one cell are two."""
    found: dict[str, set[str]] = {}
    for part in re.split(r"^#{3,4} ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        title, _, text = part.partition("\n")
        table = re.search(r"^\| field \| type \| meaning \|\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
        if table:
            cells = [line.split("|")[1] for line in table[1].splitlines()]
            found[title.strip("`").partition("?")[0]] = {
                name for cell in cells for name in re.findall(r"`(\w+)`", cell)
            }
    return found


def answered() -> Iterator[tuple[str, str]]:
    """(heading, address)."""
    yield "GET /api/session", "/api/session"
    yield "GET /api/home", "/api/home"
    yield "GET /api/nodes", "/api/nodes"
    for part in ("", "/timeline", "/series", "/events", "/logs", "/config", "/incidents/i1"):
        address = f"/api/runs/{RUN}{part}"
        yield f"GET /api/runs/RUN{part.replace('i1', 'ID')}", address


def test_every_documented_field_is_there_and_no_other(home: Home) -> None:
    tables = fields()
    wrong: list[str] = []

    def compare(name: str, value: dict[str, Any]) -> None:
        told = set(value) - {"schema", "run"}
        if name == "Row":
            told |= {"run"}
        if missing := tables[name] - told - {"schema"}:
            wrong.append(f"{name} lacks {sorted(missing)}")
        more = told - tables[name] - ({"run"} if name != "Row" else set())
        if more and name not in ("Row", "Kpi"):
            wrong.append(f"{name} has {sorted(more)}")

    async def course(browser: Browser) -> None:
        told = {heading: await browser.json(address) for heading, address in answered()}
        for heading, body in told.items():
            compare(heading, body)
        run, series = told["GET /api/runs/RUN"], told["GET /api/runs/RUN/series"]
        parts = {
            "Row": told["GET /api/home"]["runs"][0],
            "Kpi": run["kpi"],
            "Action": run["actions"][0],
            "Reason": told["GET /api/home"]["runs"][0]["attention"][0],
            "Lane": told["GET /api/runs/RUN/timeline"]["lanes"][0],
            "Marker": told["GET /api/runs/RUN/timeline"]["markers"][0],
            "Series": series["series"][0],
            "Segment": series["series"][0]["segments"][0],
            "Source": told["GET /api/runs/RUN/logs"]["sources"][0],
        }
        for name, value in parts.items():
            compare(name, value)
        status = set(run["status"]) - STATUS_ONLY
        assert status <= set(told["GET /api/home"]["runs"][0]), "a row has all of a status"

    play(home, course)
    assert not wrong, "\n".join(wrong)


def test_home_puts_who_needs_a_person_first(home: Home) -> None:
    async def course(browser: Browser) -> None:
        told = await browser.json("/api/home")
        assert {row["run"] for row in told["runs"]} == {RUN, HELD}
        held = next(row for row in told["runs"] if row["run"] == HELD)
        (reason,) = held["attention"]
        assert (reason["code"], reason["severity"], reason["incident"]) == ("held", "critical", "i1")
        assert told["attention"] == 2, "the supervisor of the other one is away"
        assert held["sentence"].startswith("HELD, crash_loop")

    play(home, course)


def test_an_unchanged_answer_is_not_sent_again(home: Home) -> None:
    async def course(browser: Browser) -> None:
        for path in (f"/api/runs/{RUN}/checkpoints", f"/api/runs/{RUN}/series", "/api/nodes"):
            first = await browser.get(path)
            again = await browser.get(path, headers={"if-none-match": first.headers["etag"]})
            assert again.status_code in (200, 304)
        config = await browser.get(f"/api/runs/{RUN}/config")
        again = await browser.get(f"/api/runs/{RUN}/config", headers={"if-none-match": config.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")

    play(home, course)


def test_what_was_trained_twice_is_grey_and_no_nan_is_lost(home: Home) -> None:
    async def course(browser: Browser) -> None:
        told = await browser.json(f"/api/runs/{RUN}/series?names=loss,save_s,power_w&points=10")
        loss = told["series"][0]
        assert [(part["world"], part["rolled_back"]) for part in loss["segments"]] == [
            (1, False),
            (1, True),
            (2, False),
        ]
        lost = loss["segments"][1]
        assert (lost["step"][0], lost["step"][-1], lost["total"]) == (11, 20, 20)
        newest = loss["segments"][2]
        assert "nan" in newest["y"]
        assert newest["step"][newest["y"].index("nan")] == 30
        power = told["series"][2]["segments"][0]
        assert power["y"] == [500.0]
        zoomed = await browser.json(f"/api/runs/{RUN}/series?names=loss&from={lost['at'][0]}&to={lost['at'][-1]}")
        assert [part["step"] for part in zoomed["series"][0]["segments"]] == [list(range(11, 21))]

    play(home, course)


def test_the_timeline_accounts_for_every_second_by_world(home: Home) -> None:
    async def course(browser: Browser) -> None:
        told = await browser.json(f"/api/runs/{RUN}/timeline?to=1000014.75&least_s=0.001")
        lanes = told["lanes"]
        assert [(lane["attempt"], lane["world"]) for lane in lanes] == [(0, 0), (1, 1), (1, 2)]
        spans = [span for lane in lanes for span in lane["spans"]]
        assert all(before[1] == after[0] for before, after in pairwise(spans)), "a gap"
        assert {"queued", "startup", "productive", "recomputed", "detecting", "recovering"} <= {s[2] for s in spans}
        assert (lanes[2]["from_step"], lanes[2]["to_step"]) == (10, 40)
        kinds = [mark["kind"] for mark in told["markers"]]
        assert sorted(kinds) == ["drill", "incident", "restart"]
        (mark,) = (mark for mark in told["markers"] if mark["kind"] == "incident")
        assert (mark["id"], mark["severity"]) == ("i1", "error")

    play(home, course)


def test_the_incident_page_has_phases_cost_and_an_inert_runbook(home: Home) -> None:
    async def course(browser: Browser) -> None:
        told = await browser.json(f"/api/runs/{RUN}/incidents/i1")
        assert sum(phase["seconds"] for phase in told["phases"]) == pytest.approx(6.25)
        assert told["cost"]["steps_lost"] == 10
        assert told["runbook"][0]["is"] == "heading"
        assert {block["is"] for block in told["runbook"]} <= {"heading", "paragraph", "list", "code"}
        assert told["log"]["id"] == "1/0/1/1/stderr"
        assert any("recovered in" in line["text"] for line in told["story"])
        assert "i1 is over" in told["story"][-1]["text"]
        missing = await browser.get(f"/api/runs/{RUN}/incidents/i99")
        assert missing.status_code == 404

    play(home, course)


def test_events_come_in_pages_and_each_once(home: Home) -> None:
    async def course(browser: Browser) -> None:
        found: list[int] = []
        before = ""
        while True:
            told = await browser.json(f"/api/runs/{RUN}/events?all=1&limit=4{before}")
            found += [event["id"] for event in told["events"]]
            if told["older"] is None:
                break
            before = f"&before={told['older']}"
        assert found == sorted(set(found), reverse=True)
        assert found[0] == told["newest"]
        decided = await browser.json(f"/api/runs/{RUN}/events")
        assert {event["id"] for event in decided["events"]} < set(found)
        incidents = await browser.json(f"/api/runs/{RUN}/events?kind=IncidentDetected")
        assert [event["opened"] for event in incidents["events"]] == [["i1"]]

    play(home, course)


def test_no_secret_is_in_any_answer(home: Home) -> None:
    async def course(browser: Browser) -> None:
        for _, address in answered():
            assert SECRET not in (await browser.get(address)).text
        assert (await browser.json(f"/api/runs/{RUN}/config"))["resolved"]["env"] == {"HF_TOKEN": "(hidden)"}
        (revision,) = (await browser.json(f"/api/runs/{HELD}/config"))["revisions"]
        assert (revision["by"], revision["changes"]) == ("ann", ["env.HF_TOKEN", "checkpoint.keep=5"])
        assert SECRET not in (await browser.get(f"/api/runs/{HELD}/events?all=1")).text

    play(home, course)


def test_pages_are_served_with_a_policy_and_nothing_else_is(home: Home) -> None:
    async def course(browser: Browser) -> None:
        for path in ("/", f"/runs/{RUN}", f"/runs/{RUN}/logs", f"/runs/{RUN}/incidents/i1", "/nodes"):
            page = await browser.get(path)
            policy = page.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert page.headers["x-content-type-options"] == "nosniff"
            assert page.status_code in (200, 404), "404 only while there is no page in the folder"
        for path in ("/static/", "/static", "/etc/passwd", "/static/../api/tokens.py", "/static/%2e%2e/api/tokens.py"):
            assert (await browser.get(path)).status_code == 404, path
        for path in ("/api/home", f"/api/runs/{RUN}"):
            assert "no-store" in (await browser.get(path)).headers["cache-control"]

    play(home, course)


def test_every_answer_is_json_that_any_parser_takes(home: Home) -> None:
    async def course(browser: Browser) -> None:
        for _, address in answered():
            text = (await browser.get(address)).text
            json.loads(text, parse_constant=pytest.fail)

    play(home, course)

"""Is the JSON what docs/contract.md says, field by field and type by type?"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from monitors.incidents import Kind
from monitors.signals import StepReported
from orchestrator import contract, hosts
from orchestrator.core import events as e
from orchestrator.core.limits import Limits, Prices
from orchestrator.core.state import Phase
from orchestrator.journal import Journal
from orchestrator.serve import HEARTBEAT_S
from orchestrator.spans import Bucket
from tests.story.scripted import PLAN, RUN, T0, Script, blank

PAGE = Path(__file__).parents[2] / "docs" / "contract.md"
CELLS = re.compile(r"^\| `?([^`|]+)`? \| ([^|]+) \|", re.MULTILINE)


def sections() -> dict[str, str]:
    parts = re.split(r"^##+ (.+)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def tables() -> dict[str, dict[str, str]]:
    """Heading → field → type."""
    with_fields = {name: text for name, text in sections().items() if "| field | type |" in text}
    return {name: dict(CELLS.findall(text)[1:]) for name, text in with_fields.items()}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A run that was killed by a drill and goes on, one that is held, and one that has not begun."""
    with Journal(tmp_path / "journal.db") as journal:
        prices = Prices(currency="EUR", gpu_hour=2.5, kwh=0.3, carbon_g_per_kwh=380.0, overhead=1.2)
        budgets = {"limits": Limits(money=1e3, gpu_hours=9.0, kwh=5.0, wall_hours=2.0), "prices": prices}
        plan = replace(PLAN, skips=((90, 95),), chooses_interval=True, target_step=100, watts=900.0, **budgets)
        script = Script(journal, plan=plan)
        script.join().begin(0).train(10).save().train(10)
        script.take(e.DrillRequested(at=script.now, by="demo", drill="kill", rank=1, number=1))
        script.take(e.DrillDone(at=script.now, world=1, drill="kill", rank=1))
        script.fail(Kind.WORKER_KILLED, detect_s=0.25).stop().begin(10)
        read = e.EnergyRead(since=T0, until=T0 + 10, joules=7e3, gpu_s=20, step_j=900, steps=3, token_j=900, tokens=300)
        script.train(20, energy=read).save().train(1)
        script.take(e.IncidentAcknowledged(at=script.now, by="ada", incident="i1"))
        script.take(e.IncidentNoted(at=script.now, by="ada", incident="i1", text="it was me"))
        script.take(e.IncidentJudged(at=script.now, by="ada", incident="i1", right=True))
        script.take(e.HostCordoned(at=script.now, by="ada", host="host7", why="it smells"))
        row = StepReported(at=T0, node=0, world=2, rank=0, step=30, loss=math.nan, tokens=100.0, step_s=0.1)
        journal.add_rows(RUN, [row, replace(row, step=31, step_s=0.3)])
        held = Script(journal, run="gpt-xxxxx").join().begin(0).train(3).fail(Kind.CRASH_LOOP)
        held.take(e.AttemptEnded(at=held.wait(1).now, attempt=1))
        journal.submit("new-ccccc", "new", {}, "", T0 + 100)
        journal.heartbeat(T0 + 60)
    return tmp_path


def answers(home: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(heading, answer) of every function."""
    yield "Runs", contract.runs(home)
    for run in (RUN, "gpt-xxxxx", "new-ccccc"):
        status = contract.status(home, run)
        assert status.pop("schema") == "lastgood/1"
        yield "Status", status
        yield "Incidents", contract.incidents(home, run)
        yield "Checkpoints", contract.checkpoints(home, run)
        yield "Ledger", contract.ledger(home, run)
        yield "Events", contract.events(home, run)
        yield "Story", contract.story(home, run)
    yield "OneIncident", contract.incident(home, RUN, "i1")
    yield "Hosts", hosts.hosts(home)
    yield "HostHistory", hosts.history(home, "host0")
    yield "Report", contract.report(home, 7.0, now=T0 + 3600)
    yield "Report", contract.report(home, 30.0)


OF_COMMANDS = frozenset(
    {"Asked", "Drilled", "Drills", "Drill", "Replay", "Difference", "End", "Verified", "ReadBack", "Doctor", "Finding"}
    | {"Budget", "PowerBudget", "Serving", "Left", "Init", "Templates", "Demo", "Version", "Remarked", "Pinned"}
    | {"Cordoned", "Top", "Metrics", "Probed", "DryRun", "Plan", "PlanResources", "PlanSaves", "PlanAnswer"}
    | {"PlanAlerts", "PlanChannel", "PlanTorchX", "Completion"}
)
"""what is printed and no function returns: tests/cli/test_answers.py compares it"""
OF_ALERTS = frozenset(
    {"Alerts", "AlertRule", "AlertChannel", "AlertThread", "AlertTold", "AlertsTried", "AlertTry", "AlertsBegun"}
    | {"Silence", "Silences", "Silenced"}
)
"""compared by tests/cli/test_alerting.py"""
OF_DASHBOARD = frozenset(
    {"Dashboard", "DashboardEnded", "DashboardToken", "DashboardTokens", "DashboardHolder", "DashboardTokenGone"}
)
"""compared by tests/cli/test_dashboard.py and tests/e2e/test_dashboard.py"""
NUMBERS = ("nan", "inf", "-inf")


class Reader:
    """Compares values with the tables, and remembers which it has seen."""

    def __init__(self) -> None:
        self.tables = tables()
        self.seen: set[str] = set()

    def read(self, name: str, value: dict[str, Any]) -> None:
        self.seen.add(name)
        assert set(value) == set(self.tables[name]), name
        for field, kind in self.tables[name].items():
            assert self.fits(value[field], kind.strip()), f"{name}.{field} is {value[field]!r}, documented: {kind}"

    def fits(self, value: Any, kind: str) -> bool:
        if kind.endswith(" or null"):
            return value is None or self.fits(value, kind.removesuffix(" or null"))
        if kind.startswith("list of "):
            return isinstance(value, list) and all(self.fits(one, kind.removeprefix("list of ")) for one in value)
        if kind in self.tables:
            self.read(kind, value)
            return True
        is_bool = isinstance(value, bool)
        return {
            "string": isinstance(value, str),
            "integer": isinstance(value, int) and not is_bool,
            "number": (isinstance(value, int | float) and not is_bool) or value in NUMBERS,
            "boolean": is_bool,
            "object": isinstance(value, dict),
        }[kind]


def test_every_documented_field_exists_and_no_other(home: Path) -> None:
    reader = Reader()
    for name, answer in answers(home):
        reader.read(name, answer)
    assert reader.seen == set(reader.tables) - OF_COMMANDS - OF_ALERTS - OF_DASHBOARD, (
        "a table that no answer was compared with"
    )


def test_every_answer_is_json_that_any_parser_takes(home: Path) -> None:
    for _, answer in answers(home):
        assert json.loads(json.dumps(answer, allow_nan=False)) == answer


def test_states_buckets_and_exit_codes_are_those_of_the_page() -> None:
    page = sections()
    assert set(dict(CELLS.findall(page["States"])[1:])) == {word for word, _ in contract.STATES.values()}
    assert set(contract.STATES) == set(Phase)
    assert set(tables()["Buckets"]) == {bucket.value for bucket in Bucket}
    codes = {int(code) for code in dict(CELLS.findall(page["Exit codes"])[1:])}
    assert codes == {
        contract.NOT_FINISHED,
        contract.OTHER_HELD,
        *contract.EXIT_CODES.values(),
        *contract.HELD_CODES.values(),
    }


def test_status_of_a_run_that_goes_on(home: Path) -> None:
    status = contract.status(home, RUN, now=T0 + 61)
    assert (status["state"], status["step"], status["world"], status["restarts"]) == ("RUNNING", 31, 2, 1)
    assert (status["last_good_step"], status["exit_code"], status["cause"]) == (10, 101, None)
    assert (status["loss"], status["step_s"], status["tokens_per_s"]) == ("nan", 0.2, pytest.approx(500.0))
    assert status["save_every_steps"] == 93
    assert status["save_every_why"] == "a save costs 0.001 s, a failure is expected every 12 h"
    node = {"node": 0, "host": "host0", "joined_at": T0 + 2, "gone_at": None, "clock_offset_s": 0.0}
    assert status["nodes"] == [node]
    assert status["supervisor"] == {"alive": True, "seen_at": T0 + 60}
    assert contract.status(home, RUN, now=T0 + 60 + contract.ALIVE_S)["supervisor"]["alive"] is False


def test_a_supervisor_that_a_disk_holds_up_for_some_seconds_is_alive(home: Path) -> None:
    late_s = 1.5 * HEARTBEAT_S + 4.0  # a decision that says it puts off the next beat by half of one
    assert contract.status(home, RUN, now=T0 + 60 + late_s)["supervisor"]["alive"] is True
    assert f"it said so within the last {contract.ALIVE_S:.0f} s" in PAGE.read_text()


def test_status_of_a_held_run_says_why(home: Path) -> None:
    status = contract.status(home, "gpt-xxxxx")
    assert (status["state"], status["cause"], status["exit_code"]) == ("HELD", "crash_loop", 100)
    assert "crash_loop" in status["reason"]
    assert (status["save_every_steps"], status["save_every_why"]) == (None, None), "of an older journal"
    assert status["ended_at"] == status["since"]


def test_energy_is_told_where_it_was_read(home: Path) -> None:
    books = contract.ledger(home, RUN, now=T0 + 61)
    told = {name: value for name, value in books.items() if name.startswith("energy_")}
    assert told == {
        "energy_j": 7000.0,
        "energy_known_share": pytest.approx(20 / (books["gpu_hours"] * 3600)),
        "energy_per_step_j": 300.0,
        "energy_per_token_j": 3.0,
        "energy_lost_j": pytest.approx(700.0),
    }, "of ten seconds, one was for steps that were rolled back"
    unread = contract.ledger(home, "gpt-xxxxx")
    assert {unread[name] for name in told} == {None}


def test_an_incident_tells_its_whole_course(home: Path) -> None:
    one = contract.incident(home, RUN, "i1")["incident"]
    assert (one["kind"], one["blame"], one["drill"], one["response"]) == ("worker_killed", "host", "kill", "restart")
    assert one["subject"] == {"node": 0, "rank": 1, "device": None}
    assert (one["resumed_from_step"], one["steps_lost"], one["resumed_world"]) == (10, 10, 2)
    assert one["detected"] - one["onset"] == one["phases_s"]["detect"] == 0.25
    assert one["actions"] == ["ended world 1", "started world 2 from step-00000010.a1w1, skipping the data 90 to 94"]
    assert one["resolved"] is not None
    with pytest.raises(LookupError, match="no incident 'i9'; there is i1"):
        contract.incident(home, RUN, "i9")


def test_checkpoints_that_exist(home: Path) -> None:
    found = contract.checkpoints(home, RUN)["checkpoints"]
    assert [(save["step"], save["state"], save["tier"], save["bytes"]) for save in found] == [
        (10, "good", "disk", 1024),
        (30, "verified", "disk", 1024),
    ]


def test_events_after_one_are_those_not_seen_yet(home: Path) -> None:
    everything = contract.events(home, RUN)["events"]
    middle = everything[4]["id"]
    assert contract.events(home, RUN, middle)["events"] == everything[5:]
    assert everything[0]["kind"] == everything[0]["body"]["is"] == "RunSubmitted"
    assert contract.events(home, RUN, everything[-1]["id"])["events"] == []


@pytest.mark.parametrize(
    ("phase", "kind", "code"),
    [
        (Phase.SUCCEEDED, None, 0),
        (Phase.TRAINING, None, 101),
        (Phase.HOLDING, Kind.HANG, 101),
        (Phase.STOPPED, None, 103),
        (Phase.HELD, Kind.WORKER_EXCEPTION, 100),
        (Phase.HELD, Kind.CRASH_LOOP, 100),
        (Phase.HELD, None, 104),
        (Phase.HELD, Kind.LAUNCH_FAILED, 105),
        (Phase.HELD, Kind.AGENT_LOST, 105),
        (Phase.HELD, Kind.HANG, 106),
    ],
)
def test_exit_codes(phase: Phase, kind: Kind | None, code: int) -> None:
    assert contract.exit_code(blank(phase=phase, hold_kind=kind)) == code


def test_a_run_is_found_by_any_unique_beginning(home: Path) -> None:
    assert contract.find(home, "gpt-a") == RUN
    assert contract.find(home, RUN) == RUN
    assert contract.find(home, "new") == "new-ccccc"
    assert contract.find(home, "-") == "new-ccccc"
    with pytest.raises(LookupError, match="'gpt' may be gpt-abcde, gpt-xxxxx: give more of the id"):
        contract.find(home, "gpt")
    with pytest.raises(LookupError, match="no run begins with 'lama'; there is gpt-abcde, gpt-xxxxx, new-ccccc"):
        contract.find(home, "lama")


def test_a_folder_without_a_journal_has_no_runs(tmp_path: Path) -> None:
    assert contract.runs(tmp_path)["runs"] == []
    for ask in (contract.find, contract.status, contract.ledger):
        with pytest.raises(LookupError, match="no run was ever submitted"):
            ask(tmp_path, "-")


def test_an_unknown_run_is_named(home: Path) -> None:
    for ask in (contract.status, contract.incidents, contract.checkpoints, contract.ledger, contract.story):
        with pytest.raises(LookupError, match="no run 'nobody'"):
            ask(home, "nobody")

"""Is the dashboard there when it is asked for, does it act through the supervisor, and come back when it is killed?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.spec import Spec
from monitors.incidents import Kind
from orchestrator.core import events as e
from orchestrator.home import Home
from orchestrator.journal import Journal
from tests.story.scripted import Script
from tests.story.test_contract import Reader

HELD = "gpt-xxxxx"
PATIENCE_S = 120.0
pytestmark = pytest.mark.e2e


class Person:
    """Somebody with a shell and a browser."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.env = {**os.environ, "LASTGOOD_HOME": str(home.root)}
        self.url = ""

    def say(self, *words: str) -> dict[str, Any]:
        """`lastgood ... --json`."""
        command = [sys.executable, "-c", "from orchestrator.cli import main; main()", *words, "--json"]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        if "does not listen after" in done.stderr:  # a busy machine: it is asked again, and there by then
            done = subprocess.run(
                command, env=self.env, capture_output=True, text=True, timeout=PATIENCE_S, check=False
            )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def get(self, path: str) -> dict[str, Any]:
        """What the server answers."""
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE_S) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def act(self, action: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Press a button of the held run."""
        headers = {"content-type": "application/json", "x-lastgood-csrf": self.get("api/session")["csrf"]}
        address = f"{self.url}api/runs/{HELD}/actions/{action}"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end, "it does not come to that"
        time.sleep(0.05)


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    home = Home(tmp_path / "home")
    home.create()
    with Journal(home.journal) as journal:
        held = Script(journal, run=HELD).join().begin(0).train(3).fail(Kind.CRASH_LOOP)
        held.take(e.AttemptEnded(at=held.wait(1).now, attempt=1))
    home.run(HELD).mkdir()
    spec = Spec(name="gpt", command="t.py", ranks_per_node=2)
    (home.run(HELD) / "spec.json").write_text(spec.model_dump_json())
    found = Person(home)
    found.say("serve", "-d")
    yield found
    found.say("dashboard", "--stop")
    found.say("serve", "--stop")
    pid = _pid(home)
    until(lambda: pid is None or not Path(f"/proc/{pid}/status").exists())


def _pid(home: Home) -> int | None:
    try:
        return int(json.loads((home.root / "dashboard.address").read_text())["pid"])
    except OSError:
        return None


def test_a_button_is_a_request_to_the_supervisor_and_the_journal_says_who(person: Person) -> None:
    person.url = person.say("dashboard", "--no-open", "--port", "0")["url"]
    (row,) = person.get("api/home")["runs"]
    assert (row["state"], row["attention"][0]["code"]) == ("HELD", "held")

    status, told = person.act("note", {"incident": "i1", "text": "it's <b>mine</b>"})
    assert (status, told["cli"]) == (200, f"""lastgood incident note {HELD} i1 'it'"'"'s <b>mine</b>'""")
    assert person.act("acknowledge", {"incident": "i1"})[0] == 200
    assert person.act("judge", {"incident": "i1", "right": False, "text": "no"})[0] == 200
    incident = person.get(f"api/runs/{HELD}/incidents/i1")
    assert [note["text"] for note in incident["notes"]] == ["it's <b>mine</b>"]
    assert (incident["judgement"]["right"], incident["acknowledged"]["by"]) == (False, "a person")
    status, told = person.act("resolve", {"incident": "i1", "text": "the strip is new"})
    assert status == 409, "what is being answered is over when the run has proved it"
    assert "over when the run has proved that" in told["error"]

    status, told = person.act("pause", {})
    assert status == 409, "the supervisor refuses, in its own words"
    assert HELD in told["error"]
    assert person.act("note", {"incident": "i99", "text": "x"})[0] in (404, 409)

    status, told = person.act("stop", {"now": True})
    assert (status, told["cli"]) == (200, f"lastgood stop {HELD} --now")
    until(lambda: bool(person.get("api/home")["runs"][0]["state"] == "STOPPED"))
    with Journal(person.home.journal, read_only=True) as journal:
        (asked,) = (event for _, event in journal.events(HELD, kind=e.StopRequested))
    assert isinstance(asked, e.StopRequested)
    assert (asked.by, asked.now) == ("a person", True)


def test_a_dashboard_that_is_killed_comes_back_and_one_that_is_not_wanted_ends(person: Person) -> None:
    first = person.say("dashboard", "--no-open", "--port", "0")
    Reader().read("Dashboard", first)
    again = person.say("dashboard", "--no-open")
    assert again["url"] == first["url"], "it runs already"
    os.kill(first["pid"], signal.SIGKILL)
    until(lambda: _pid(person.home) not in (None, first["pid"]))
    person.url = person.say("dashboard", "--no-open")["url"]
    assert person.get("api/home")["supervisor"]["alive"]
    pid = _pid(person.home)
    person.say("dashboard", "--stop")
    until(lambda: not Path(f"/proc/{pid}/status").exists())

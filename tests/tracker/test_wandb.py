"""Does W&B have every line once, whatever is killed or away? The real client, and a server of our own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.spec import Spec
from orchestrator import tracker_segments
from orchestrator.home import Home
from orchestrator.tracker_desk import AGAIN, course_of, folder_of
from orchestrator.tracker_lines import AXIS, Line, Place
from orchestrator.tracker_outbox import Outbox
from tests.tracker.wandb_server import KEY, Server

pytestmark = pytest.mark.e2e

RUN = "demo-abcde"
WITHIN_S = 240.0


class Office:
    """A state folder with the lines of one run, and the process that delivers them."""

    def __init__(self, folder: Path, server: Server, **wandb: Any) -> None:
        self.home, self.server = Home(folder), server
        self.folder = folder_of(self.home, RUN)
        wanted = {"project": "keep", "base_url": server.url, "tags": ["x"], **wandb}
        tracker = {"wandb": wanted, "dashboard": "https://watch.example"}
        spec = Spec.model_validate({"name": "demo", "command": "x", "tracker": tracker})
        self.home.run(RUN).mkdir(parents=True)
        (self.home.run(RUN) / "spec.json").write_text(spec.model_dump_json())
        self.outbox = Outbox(self.folder)
        self.told: list[dict[str, Any]] = []
        self.process: subprocess.Popen[bytes] | None = None

    def tell(self, *lines: Line) -> None:
        self.outbox.append(lines, Place(entry=self.outbox.count))
        self.told += [line.values for line in lines if line.kind != "copy"]

    def steps(self, first: int, last: int, world: int = 1) -> None:
        self.tell(*(Line(at=1e9 + n, kind="step", values={AXIS: n, "world": world}) for n in range(first, last + 1)))

    def end(self) -> None:
        self.tell(Line(at=2e9, kind="end", values={AXIS: 0, "lastgood/exit": 0}))

    def send(self, **environ: str) -> None:
        keep = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        env = {**keep, "WANDB_API_KEY": KEY, "HOME": str(self.home.root), **environ}
        argv = [sys.executable, "-P", "-m", "orchestrator.tracker", "--home", str(self.home.root), "--run", RUN]
        with (self.folder / "wandb.log").open("ab") as out:
            self.process = subprocess.Popen(argv, env=env, stdout=out, stderr=out, cwd=self.folder)

    def over(self) -> int:
        assert self.process is not None
        return self.process.wait(WITHIN_S)

    def deliver(self, tries: int = 6, **environ: str) -> list[int]:
        """Until it says that everything is there; the statuses of all who tried."""
        statuses: list[int] = []
        while not statuses or statuses[-1] != 0:
            assert len(statuses) < tries, (self.folder / "wandb.log").read_text()
            self.send(**environ)
            statuses.append(self.over())
        return statuses

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def check(self, run: str = RUN) -> None:
        """The server has what was told, in order, once."""
        history = self.server.runs[run].history
        assert [row["_step"] for row in history] == list(range(len(history)))
        assert [
            {name: row[name] for name in values} for row, values in zip(history, self.told, strict=True)
        ] == self.told


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


@pytest.fixture
def offices(tmp_path: Path, server: Server) -> Iterator[Any]:
    made: list[Office] = []

    def make(**wandb: Any) -> Office:
        made.append(Office(tmp_path, server, **wandb))
        return made[-1]

    yield make
    for office in made:
        office.kill()
        office.outbox.close()


def test_a_sender_that_is_killed_loses_and_repeats_nothing(offices: Any, server: Server) -> None:
    office: Office = offices()
    for killed in range(3):
        office.steps(10 * killed + 1, 10 * killed + 10)
        office.send()
        # The first is killed as soon as anything of it is there, the others before and after.
        server.wait(lambda s, n=8 * killed + 1: len(s.rows(RUN, AXIS)) >= n, WITHIN_S)
        office.kill()
    office.end()
    assert office.deliver() == [AGAIN, 0], "who delivered something leaves it to the next one to find it there"
    office.check()
    run = server.runs[RUN]
    assert (run.state, run.tags) == ("finished", ["x"])
    assert run.config["lastgood"]["value"]["dashboard"] == f"https://watch.example/runs/{RUN}"
    assert run.history[0]["_timestamp"] == 1e9 + 1
    assert course_of(office.folder, RUN).finished


@pytest.mark.long
def test_a_server_that_is_away_costs_nothing_but_time(offices: Any, server: Server) -> None:
    office: Office = offices()
    office.steps(1, 5)
    server.close()
    office.send()
    assert office.over() == AGAIN, "it gives up, and is started anew"
    server.open()
    office.send()
    server.wait(lambda s: len(s.rows(RUN, AXIS)) == 5, WITHIN_S)
    for fault, last in (("500", 10), ("hang", 15)):
        server.fault = fault
        office.steps(last - 4, last)
        time_out = time.monotonic() + 5.0
        while time.monotonic() < time_out:
            assert office.process is not None
            assert office.process.poll() is None, "an outage in the middle of a run ends nothing"
            time.sleep(0.1)
        assert len(server.rows(RUN, AXIS)) == last - 5
        server.fault = ""
        server.wait(lambda s, n=last: len(s.rows(RUN, AXIS)) == n, WITHIN_S)
    office.kill()
    office.end()
    office.deliver()
    office.check()


def rolled_back(office: Office) -> None:
    """Five steps, of which two are trained again."""
    office.steps(1, 5)
    office.tell(Line(at=1e9, kind="mark", values={AXIS: 5, "lastgood/event": "killed"}))
    rewind = {AXIS: 5, "lastgood/rolled_back_to": 3}
    office.tell(Line(at=1e9, kind="rewind", values=rewind, keep=2))
    office.tell(Line(at=1e9, kind="copy", values={AXIS: 5, "lastgood/event": "killed"}))
    office.steps(4, 6, world=2)
    office.end()


def loss(server: Server, run: str) -> list[tuple[int, int]]:
    return [(row[AXIS], row["world"]) for row in server.runs[run].history if "world" in row]


@pytest.mark.parametrize("way", ["rewind", pytest.param("fork", marks=pytest.mark.long)])
def test_rolled_back_steps_are_taken_out_where_the_server_can(way: str, offices: Any, server: Server) -> None:
    server.can_rewind = way == "rewind"
    office: Office = offices(after_rewind="auto")
    rolled_back(office)
    office.deliver()
    run = RUN if way == "rewind" else f"{RUN}-f1"
    assert loss(server, run) == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]
    assert server.rows(run, "lastgood/event") == ["killed"], "what happened is not taken out with the steps"
    assert [row["_step"] for row in server.runs[run].history] == list(range(len(server.runs[run].lines)))
    assert server.runs[run].state == "finished"
    assert server.runs[RUN].rewound == ([2] if way == "rewind" else [])


@pytest.mark.long
def test_rolled_back_steps_stay_where_the_server_can_do_nothing_and_it_says_why(offices: Any, server: Server) -> None:
    server.can_rewind = server.can_fork = False
    office: Office = offices(after_rewind="auto")
    rolled_back(office)
    office.deliver()
    assert list(server.runs) == [RUN]
    assert loss(server, RUN) == [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (4, 2), (5, 2), (6, 2)]
    assert server.rows(RUN, "lastgood/event") == ["killed"]
    (why,) = server.rows(RUN, "lastgood/kept_because")
    assert "rewind: " in why
    assert "fork: " in why
    assert "self-managed" in why, "as the server said it"


def test_an_alert_is_sent_and_the_key_is_nowhere(offices: Any, server: Server) -> None:
    office: Office = offices()
    alert = ("demo: held", "the run is held", "ERROR")
    office.tell(Line(at=1e9, kind="mark", values={AXIS: 1, "lastgood/told": "held"}, alert=alert))
    office.end()
    office.deliver()
    (sent,) = server.alerts
    assert (sent["title"], sent["text"], sent["severity"], sent["runName"]) == (*alert, RUN)
    assert server.keys == {KEY}
    files = [path for path in office.home.root.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


@pytest.mark.long
def test_offline_files_hold_every_line_once_after_a_kill_and_a_sync(offices: Any, server: Server) -> None:
    office: Office = offices(mode="offline")
    office.steps(1, 10)
    office.send()
    deadline = time.monotonic() + WITHIN_S
    while not any(written(path) for path in tracker_segments.files(office.folder, RUN)):
        assert time.monotonic() < deadline, (office.folder / "wandb.log").read_text()
        time.sleep(0.1)
    office.kill()
    office.steps(11, 20)
    office.end()
    assert office.deliver()[-1] == 0
    assert not server.asked, "offline means offline"
    files = tracker_segments.files(office.folder, RUN)
    env = {**os.environ, "WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url, "HOME": str(office.home.root)}
    for file in files:
        argv = [sys.executable, "-m", "wandb", "sync", "--yes", str(file.parent)]
        subprocess.run(argv, env=env, check=False, cwd=office.folder, capture_output=True, timeout=WITHIN_S)
    office.check()


def written(path: Path) -> int:
    return sum(1 for _ in tracker_segments.records(path.read_bytes())) - 5


def test_a_mode_is_what_is_said_or_what_there_is_a_key_for(tmp_path: Path) -> None:
    from orchestrator import tracker_key

    nobody = {"HOME": str(tmp_path)}
    url = "http://wandb.example"
    assert tracker_key.mode("auto", url, nobody) == "offline"
    assert tracker_key.mode("auto", url, {**nobody, "WANDB_API_KEY": KEY}) == "online"
    assert tracker_key.mode("auto", url, {**nobody, "WANDB_API_KEY": KEY, "WANDB_MODE": "disabled"}) == "disabled"
    assert tracker_key.mode("online", url, {**nobody, "WANDB_MODE": "offline"}) == "online"
    (tmp_path / ".netrc").write_text(f"machine wandb.example login user password {KEY}\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert tracker_key.mode("auto", url, nobody) == "online"
    assert tracker_key.found_in(url, nobody) == str(tmp_path / ".netrc")
    assert tracker_key.found_in("http://other.example", nobody) == ""


@pytest.mark.parametrize("name", ["WANDB_RUN_ID", "WANDB_SERVICE", "WANDB_PROJECT", "WANDB_RESUME_FROM"])
def test_what_a_person_told_his_own_client_is_not_told_ours(name: str) -> None:
    from orchestrator import tracker_key

    assert tracker_key.cleaned({name: "x", "WANDB_API_KEY": KEY, "PATH": "/bin"}) == {
        "WANDB_API_KEY": KEY,
        "PATH": "/bin",
    }


def test_the_course_survives_its_file(tmp_path: Path) -> None:
    from dataclasses import replace

    from orchestrator.tracker_branch import Course, branched
    from orchestrator.tracker_desk import keep_course

    course = replace(branched(Course(id="r"), 9, 3, "rewind"), refused=(("fork", "no"),))
    keep_course(tmp_path, course)
    assert course_of(tmp_path, "r") == course
    body = json.loads((tmp_path / "wandb.json").read_text())
    (tmp_path / "wandb.json").write_text(json.dumps({**body, "of_a_newer_version": 1}))
    assert course_of(tmp_path, "r") == course

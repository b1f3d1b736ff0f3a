"""Is the page served while it is wanted, to whoever may read it, and is bad input refused?"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobs.errors import SpecError
from orchestrator import metrics_settings
from orchestrator.api.tokens import Role, Tokens
from orchestrator.cli import lastgood
from orchestrator.home import Home
from orchestrator.journal import Journal
from orchestrator.metrics_access import KNOWN_S, Access
from orchestrator.metrics_http import READERS_MAX
from orchestrator.metrics_settings import Settings
from tests.metrics.stage import Hands, home_at, trained
from tests.story.scripted import RUN, T0

WITHIN_S = 60.0


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return home_at(tmp_path / "home")


def until(find: Callable[[], metrics_settings.Address | None], what: str) -> metrics_settings.Address:
    deadline = time.monotonic() + WITHIN_S
    while (found := find()) is None:
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


class Served:
    """The companion of a state folder, as the supervisor starts it."""

    def __init__(self, home: Home) -> None:
        command = [sys.executable, "-P", "-m", "orchestrator.companion", "metrics", "orchestrator.metrics"]
        self.log = (home.root / "metrics.log").open("w+b")
        self.process = subprocess.Popen([*command, "--home", str(home.root)], stderr=self.log)
        self._home = home

    def address(self) -> tuple[str, int]:
        found = until(lambda: metrics_settings.address(self._home), "it is not there")
        return found.host, found.port

    def ask(self, method: str = "GET", path: str = "/metrics", **headers: str) -> tuple[int, str, str]:
        """Status, kind and body of an answer."""
        connection = http.client.HTTPConnection(*self.address(), timeout=WITHIN_S)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        said = answer.status, answer.headers.get("Content-Type", ""), answer.read().decode()
        connection.close()
        return said

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(WITHIN_S)
        self.log.close()


@contextmanager
def serving(home: Home) -> Iterator[Served]:
    """The page of a run, wherever there is room."""
    with Journal(home.journal) as journal:
        trained(journal, RUN)
    metrics_settings.write(home, 0)
    one = Served(home)
    try:
        yield one
    finally:
        one.close()


@pytest.fixture
def served(home: Home) -> Iterator[Served]:
    with serving(home) as one:
        yield one


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One that tests only read."""
    with serving(home_at(tmp_path_factory.mktemp("read") / "home")) as one:
        yield one


def test_the_page_is_there_with_no_supervisor(read: Served) -> None:
    status, kind, body = read.ask()
    assert status == 200
    assert kind.startswith("text/plain; version=")
    assert f'lastgood_run_step{{run="{RUN}"}} ' in body
    assert "lastgood_supervisor_answers 0.0" in body
    _, kind, body = read.ask(Accept="application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/metrics", 405),
        ("DELETE", "/metrics", 405),
        ("GET", "/../../token", 404),
        ("GET", "/metrics/../token", 404),
        ("GET", "/%2e%2e/token", 404),
        ("GET", "/metrics?name[]=a", 200),
        ("HEAD", "/metrics", 200),
        ("GET", "/" + "a" * 70_000, 414),
    ],
)
def test_only_the_page_can_be_read(read: Served, method: str, path: str, status: int) -> None:
    found, _, body = read.ask(method, path)
    assert found == status
    assert status == 200 or len(body) < 1000


def test_readers_that_say_nothing_keep_nobody_waiting(read: Served) -> None:
    address = read.address()
    slow = [socket.create_connection(address) for _ in range(READERS_MAX - 2)]
    slow[0].sendall(b"GET /metrics HTTP/1.1\r\nX: ")
    slow[1].sendall(bytes(range(256)))
    assert read.ask()[0] == 200
    for connection in slow:
        connection.close()
    assert read.ask()[0] == 200


def test_it_is_nowhere_once_it_has_ended(served: Served, home: Home) -> None:
    served.address()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(WITHIN_S) == 0
    assert metrics_settings.address(home) is None


def test_it_ends_when_it_is_not_wanted_any_more(served: Served, home: Home) -> None:
    served.address()
    metrics_settings.path(home).unlink()
    assert served.process.wait(WITHIN_S) == 0


@pytest.mark.long
def test_another_port_is_taken_by_the_next_companion(served: Served, home: Home) -> None:
    served.address()
    metrics_settings.write(home, 65001)
    assert served.process.wait(WITHIN_S) == 0, "the supervisor starts it anew"
    assert metrics_settings.read(home).port == 65001


def test_without_a_token_nothing_is_served_to_other_machines(home: Home) -> None:
    metrics_settings.path(home).write_text("bind: 0.0.0.0\nport: 0\n")
    one = Served(home)
    assert one.process.wait(WITHIN_S) != 0
    assert "lastgood dashboard token add NAME" in (home.root / "metrics.log").read_text()
    one.close()


def test_from_other_machines_a_token_is_needed(home: Home) -> None:
    token = Tokens(home.root).add("prometheus", Role.VIEWER, T0)
    metrics_settings.path(home).write_text("bind: 0.0.0.0\nport: 0\n")
    one = Served(home)
    try:
        assert one.ask()[0] == 401
        assert one.ask(Authorization=f"Bearer {token}x")[0] == 401
        assert one.ask(Authorization=f"Basic {token}")[0] == 401
        status, _, body = one.ask(Authorization=f"Bearer {token}")
        assert status == 200
        assert token not in body + (home.root / "metrics.log").read_text()
        wrong = [one.ask(Authorization="Bearer lg_00000000_no")[0] for _ in range(12)]
        assert wrong[-1] == 429
        assert one.ask(Authorization=f"Bearer {token}")[0] == 200, "who was let in is not locked out"
    finally:
        one.close()


def test_a_token_that_was_taken_away_is_soon_none(home: Home) -> None:
    tokens, clock = Tokens(home.root), Hands()
    token, access = tokens.add("prometheus", Role.VIEWER, T0), Access(tokens, clock)
    assert access.check("10.0.0.9", token) is HTTPStatus.OK
    tokens.remove("prometheus")
    clock.at += KNOWN_S
    assert access.check("10.0.0.9", token) is HTTPStatus.UNAUTHORIZED


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("port: 70000\n", "metrics.yaml:1: port: 70000 is not a whole number from 0 to 65535"),
        ("port: no\n", "port: 'no' is not a whole number"),
        ("\nprot: 1\n", "metrics.yaml:2: prot: unknown key; there are: port, bind, gpus_max, runs_max"),
        ("bind: example.org\n", "bind: 'example.org' is no address"),
        ("bind: 7\n", "bind: 7 is no address"),
        ("[1]\n", "metrics.yaml: is "),
        ("a: [\n", "metrics.yaml:"),
    ],
)
def test_settings_that_cannot_be_are_named(home: Home, text: str, why: str) -> None:
    metrics_settings.path(home).write_text(text)
    with pytest.raises(SpecError) as told:
        metrics_settings.read(home)
    assert why in str(told.value)


def test_an_empty_file_is_all_defaults(home: Home) -> None:
    metrics_settings.path(home).touch()
    assert metrics_settings.read(home) == Settings()
    assert metrics_settings.wanted(home, ())


def test_the_command_says_what_to_do(home: Home) -> None:
    def said(*words: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(lastgood, ["metrics", *words], env={"LASTGOOD_HOME": str(home.root)})
        return result.exit_code, result.stdout, result.stderr

    code, out, error = said()
    assert (code, out) == (1, "")
    assert "lastgood metrics --port 9790" in error
    metrics_settings.write(home, 9790)
    assert "lastgood serve -d" in said()[2]
    assert said("--once")[1].startswith("# HELP lastgood_build_info")
    assert said("--off")[0] == 0
    assert not metrics_settings.wanted(home, ())


def test_an_address_of_a_process_that_is_gone_is_none(home: Home) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (home.root / "metrics.json").write_text(f'{{"host": "127.0.0.1", "port": 1, "pid": {gone.pid}}}')
    assert metrics_settings.address(home) is None
    (home.root / "metrics.json").write_text(f'{{"host": "::1", "port": 1, "pid": {os.getpid()}}}')
    found = metrics_settings.address(home)
    assert found is not None
    assert found.url == "http://[::1]:1/metrics"

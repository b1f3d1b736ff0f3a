"""The state folder and the way to its supervisor, with real sockets and real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jobs import registry
from jobs.agent import guard
from orchestrator import client
from orchestrator.home import Home, HomeError, default
from orchestrator.journal import Journal
from tests.cli.conftest import Say


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A state folder; a supervisor that was started for it ends with the test."""
    found = Home(tmp_path / "home")
    yield found
    address = client.running(found)
    if address is not None:
        found.off.touch()
        os.kill(address.pid, 9)


def test_a_home_is_private_and_its_token_too(home: Home) -> None:
    home.create()
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
    assert stat.S_IMODE((home.root / "token").stat().st_mode) == 0o600
    assert len(home.token()) == 64
    before = home.token()
    home.create()
    assert home.token() == before


def test_those_who_begin_at_once_agree_on_a_token(home: Home) -> None:
    home.root.mkdir(mode=0o700)
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: (home.create(), home.token())[1], range(16)))
    assert len(tokens) == 1
    assert list(home.root.glob(".token*")) == []


def test_a_home_that_cannot_be_trusted_is_refused(home: Home, tmp_path: Path) -> None:
    home.create()
    home.root.chmod(0o750)
    with pytest.raises(HomeError, match=f"others may enter it .mode 0750.*chmod 700 {home.root}"):
        home.check()
    with pytest.raises(HomeError, match="no such folder"):
        Home(tmp_path / "nowhere").check()
    (tmp_path / "file").touch()
    with pytest.raises(HomeError, match="is not a folder"):
        Home(tmp_path / "file").check()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_home_of_somebody_else_is_refused(home: Home) -> None:
    home.create()
    os.chown(home.root, 12345, -1)
    with pytest.raises(HomeError, match="belongs to user 12345, you are user 0"):
        home.check()


def test_the_home_of_a_user_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LASTGOOD_HOME", "~/x")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default().root == tmp_path / "x"
    monkeypatch.delenv("LASTGOOD_HOME")
    assert default().root == tmp_path / ".lastgood"


def test_nobody_there_is_a_sentence_with_the_command_that_helps(home: Home) -> None:
    home.create()
    with pytest.raises(client.NoSupervisor, match="start it with `lastgood serve --detach`"):
        client.ask(home.root, {"ask": "ping"}, start=False)


def test_the_token_is_not_told_to_whoever_got_the_port(home: Home) -> None:
    home.create()
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.settimeout(0.3)
        body = {
            "host": "127.0.0.1",
            "port": stranger.getsockname()[1],
            "pid": os.getpid(),
            "started_at": 0.0,
            "version": "0",
        }
        (home.root / "supervisor.json").write_text(json.dumps(body))
        with pytest.raises(client.NoSupervisor):
            client.ask(home.root, {"ask": "ping"}, start=False)
        with pytest.raises(TimeoutError):
            stranger.accept()


STAND_IN = """
import json, os, socket, sys
from pathlib import Path

server = socket.create_server(("127.0.0.1", 0))
root = Path(sys.argv[2])
body = {"host": "127.0.0.1", "port": server.getsockname()[1], "pid": os.getpid(), "started_at": 0.0, "version": "0"}
(root / "draft").write_text(json.dumps(body))
(root / "draft").rename(root / "supervisor.json")
while True:
    connection, _ = server.accept()
    with connection, connection.makefile("rb") as lines:
        request = json.loads(lines.readline())
        if request["ask"] == "submit":
            (root / "asked").touch()
            connection.recv(1)  # until nobody waits for the answer any more
            continue
        answer = {"ok": False, "code": "usage", "error": "no"}
        if request["ask"] == "ping":
            answer = {"ok": True, "heard": request}
        connection.sendall(json.dumps(answer).encode() + b"\\n" if request["ask"] != "mumble" else b"what?\\n")
"""


@pytest.fixture
def stand_in(home: Home) -> Iterator[Home]:
    """A home whose supervisor answers what it heard."""
    home.create()
    command = [sys.executable, "-c", STAND_IN, "orchestrator.serve", str(home.root)]
    with subprocess.Popen(command) as server:
        while client.running(home) is None:
            assert server.poll() is None
        yield home
        server.kill()


def test_a_question_carries_the_token_and_brings_the_answer(stand_in: Home) -> None:
    answer = client.ask(stand_in.root, {"ask": "ping", "n": 1}, start=False)
    assert answer == {"ok": True, "heard": {"ask": "ping", "n": 1, "token": stand_in.token()}}
    assert client.ask(stand_in.root, {"ask": "x"}, start=False) == {"ok": False, "code": "usage", "error": "no"}


def test_an_answer_that_is_none_is_a_sentence(stand_in: Home) -> None:
    with pytest.raises(client.NoSupervisor, match="the supervisor gave no answer"):
        client.ask(stand_in.root, {"ask": "mumble"}, start=False)


@pytest.mark.parametrize("command", ["run", "submit"])
def test_ctrl_c_while_a_run_is_submitted_says_that_it_may_exist(command: str, stand_in: Home, tmp_path: Path) -> None:
    words = [str(Path(sys.executable).parent / "lastgood"), command, "--", "sleep", "600"]
    env = {**os.environ, "LASTGOOD_HOME": str(stand_in.root)}
    asking = subprocess.Popen(words, env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not (stand_in.root / "asked").exists():
        assert asking.poll() is None
    asking.send_signal(signal.SIGINT)
    _, told = asking.communicate(timeout=30)
    assert asking.returncode == 130
    assert told.startswith("sleep may have been submitted: see `lastgood ls`")


def ping(home: Home) -> dict[str, Any]:
    return client.ask(home.root, {"ask": "ping"}, start=True)


def test_a_supervisor_is_started_when_it_is_needed_and_only_once(home: Home) -> None:
    home.create()
    home.off.touch()
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: ping(home), range(3)))
    assert len({answer["pid"] for answer in answers}) == 1
    assert not home.off.exists()
    pid = answers[0]["pid"]
    assert os.getsid(pid) == pid
    assert registry.MARK not in registry.environment(pid)


def spoiled(home: Home, how: str) -> None:
    """A state folder whose journal cannot be used."""
    home.create()
    match how:
        case "foreign":
            home.journal.write_bytes(b"not a database, whatever its name says" * 100)
        case "newer":
            Journal(home.journal).close()
            with closing(sqlite3.connect(home.journal)) as db:
                db.execute("PRAGMA user_version = 99")
        case "folder":
            home.journal.mkdir()


SPOILED = {
    "foreign": "move {path} away",
    "newer": "upgrade lastgood, or set LASTGOOD_HOME to another folder",
    "folder": "check that {folder} exists and its rights",
}
"""what is wrong with a journal, and how the one sentence about it ends"""


@pytest.mark.parametrize("how", SPOILED)
def test_a_journal_that_cannot_be_used_is_one_sentence_with_the_remedy(how: str, say: Say, home: Home) -> None:
    spoiled(home, how)
    remedy = SPOILED[how].format(path=home.journal, folder=home.root)
    served = subprocess.run(guard.command(home.root), capture_output=True, text=True, timeout=30, check=False)
    assert (served.returncode, served.stdout) == (1, "")
    (line,) = served.stderr.splitlines()
    assert line.startswith("Error: ")
    assert line.endswith(remedy)
    submitted = say("submit", "--", "sleep", "1", LASTGOOD_HOME=str(home.root))
    assert (submitted.exit_code, submitted.stdout, submitted.stderr) == (1, "", f"{line}\n")
    doctor = say("doctor", "--json", LASTGOOD_HOME=str(home.root))
    findings = {one["check"]: one for one in json.loads(doctor.stdout)["findings"]}
    assert doctor.exit_code == 2
    assert (findings["journal"]["verdict"], bool(findings["journal"]["fix"])) == ("FAIL", True)
    assert "stacks" in findings, "the checks after it"


def test_serve_starts_one_and_ends_it_for_good(say: Say, home: Home) -> None:
    env = {"LASTGOOD_HOME": str(home.root)}
    started = json.loads(say("serve", "-d", "--json", **env).stdout)
    assert registry.started_at(started["pid"]) is not None
    assert json.loads(say("doctor", "--json", **env).stdout)
    ended = json.loads(say("serve", "--stop", "--json", **env).stdout)
    assert ended == {"schema": "lastgood/1", "ok": True, "pid": started["pid"]}
    assert home.off.exists()
    assert client.running(home) is None
    with Journal(home.journal, read_only=True) as journal:
        assert journal.has_left(), "what a person ended did not fail"
    agent = subprocess.run(guard.command(home.root), capture_output=True, text=True, timeout=30, check=False)
    assert (agent.returncode, home.off.exists()) == (0, True), "an agent that was about to start it starts nothing"
    assert "a person ended the supervisor" in agent.stderr
    assert say("serve", "--stop", **env).stdout.startswith("supervisor: none was running")

"""`lastgood run` on real processes: from the submission to the exit status, and Ctrl-C in between."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import client, contract
from orchestrator.home import Home

pytestmark = pytest.mark.e2e

SCRIPT = str(Path(sys.executable).parent / "lastgood")
WAIT_S = 60.0


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A state folder; whatever runs in it ends with the test."""
    home = Home(tmp_path / "home")
    yield home.root
    for run in contract.runs(home.root)["runs"]:
        if run["exit_code"] == contract.NOT_FINISHED:
            said(home.root, "stop", run["run"], "--now", "--wait")
    said(home.root, "serve", "--stop")


def environment(root: Path) -> dict[str, str]:
    return {**os.environ, "LASTGOOD_HOME": str(root)}


def said(root: Path, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *words], env=environment(root), cwd=cwd, capture_output=True, text=True, timeout=WAIT_S, check=False
    )


def status(root: Path) -> dict[str, Any]:
    return contract.status(root, contract.find(root, "-"))


def wait_until(root: Path, state: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while contract.runs(root)["runs"] == [] or status(root)["state"] != state:
        assert time.monotonic() < deadline, status(root)
        time.sleep(0.05)


def test_a_run_that_succeeds_ends_with_0_and_only_its_result_is_on_stdout(root: Path, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('step 1')\n")
    done = said(root, "run", "--json", "--", "train.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "SUCCEEDED"
    assert "Submitted attempt 1 to the scheduler." in done.stderr
    assert said(root, "logs", "-").stdout == "step 1\n"


def test_a_run_whose_code_is_wrong_ends_with_100_and_says_where_to_look(root: Path, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("raise ValueError('my fault')\n")
    done = said(root, "run", "--", "train.py", cwd=tmp_path)
    assert done.returncode == 100, done.stderr
    assert "HELD" in done.stdout
    assert "my fault" in done.stdout
    assert "ValueError: my fault" in said(root, "logs", "-", "--rank", "culprit").stdout
    assert said(root, "status", "-", "--check").returncode == 100


def test_ctrl_c_stops_following_and_not_the_run(root: Path, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import time\nprint('step 1', flush=True)\ntime.sleep(600)\n")
    follower = subprocess.Popen(
        [SCRIPT, "run", "--", "train.py"], env=environment(root), cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    wait_until(root, "STARTING")
    follower.send_signal(signal.SIGINT)
    _, words = follower.communicate(timeout=WAIT_S)
    assert follower.returncode == 130
    run = status(root)["run"]
    assert f"Stop it: lastgood stop {run}; follow it again: lastgood follow {run}\n" in words
    assert status(root)["state"] in ("STARTING", "RUNNING")
    stopped = said(root, "stop", "-", "--now", "--wait")
    assert (stopped.returncode, status(root)["state"]) == (0, "STOPPED"), stopped.stderr
    assert said(root, "status", "-", "--check").returncode == 103


@pytest.mark.long
def test_on_a_terminal_one_line_moves_and_the_result_is_still_alone_on_stdout(root: Path, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import time\ntime.sleep(1)\n")
    terminal, screen = pty.openpty()
    follower = subprocess.Popen(
        [SCRIPT, "run", "--", "train.py"],
        env={**environment(root), "TERM": "xterm-256color", "COLUMNS": "120"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=screen,
    )
    os.close(screen)
    seen = b""
    try:
        while chunk := os.read(terminal, 65536):
            seen += chunk
    except OSError:
        pass  # Linux's word for the end of a terminal
    os.close(terminal)
    result, _ = follower.communicate(timeout=WAIT_S)
    assert follower.returncode == 0
    assert b"\x1b[" in seen
    assert b"Started world 1" in seen
    assert result.decode().startswith("train-")


@pytest.mark.long
def test_a_supervisor_that_is_away_is_named_and_training_goes_on(root: Path, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import time\ntime.sleep(600)\n")
    said(root, "submit", "--", "train.py", cwd=tmp_path)
    wait_until(root, "STARTING")
    assert said(root, "serve", "--stop").returncode == 0
    assert client.running(Home(root)) is None
    assert "STARTING" in said(root, "status").stdout
    assert said(root, "stop", "-", "--now", "--wait").returncode == 0


def test_a_drill_that_could_do_nothing_is_refused_and_one_that_can_is_done(root: Path, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import time\ntime.sleep(600)\n")
    said(root, "submit", "--", "train.py", cwd=tmp_path)
    wait_until(root, "STARTING")
    refused = said(root, "drill", "-", "exception")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "is done by the SDK" in refused.stderr
    assert "Without it: kill, stop" in refused.stderr
    deadline = time.monotonic() + WAIT_S
    while (killed := said(root, "drill", "-", "kill")).returncode:
        assert "is not there yet" in killed.stderr
        assert time.monotonic() < deadline, killed.stderr
    while not contract.incidents(root, status(root)["run"])["incidents"]:
        assert time.monotonic() < deadline, "what was said to be done was not"
        time.sleep(0.05)

"""Which runs does `lastgood ls` list, and does it go on when it is asked to?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.listing import is_shown
from orchestrator.core import events as e
from orchestrator.journal import Journal
from tests.cli.conftest import DONE, HELD, Say
from tests.story.scripted import RUN, Script


@pytest.mark.parametrize(
    ("state", "ended_at", "asked", "shown"),
    [
        ("RUNNING", None, (False, None, 0.0), True),
        ("PAUSED", None, (False, None, 0.0), True),
        ("STOPPED", 50.0, (False, None, 0.0), False),
        ("STOPPED", 50.0, (True, None, 0.0), True),
        ("STOPPED", 50.0, (False, "stopped", 0.0), True),
        ("STOPPED", 50.0, (False, None, 40.0), True),
        ("STOPPED", 50.0, (True, None, 60.0), False),
        ("HELD", 50.0, (False, "held", 60.0), False),
        ("RUNNING", None, (False, "held", 0.0), False),
        ("RUNNING", None, (False, None, 60.0), True),
    ],
)
def test_what_is_shown(state: str, ended_at: float | None, asked: tuple[bool, str | None, float], shown: bool) -> None:
    assert is_shown({"state": state, "ended_at": ended_at}, *asked) is shown


def test_an_age_that_is_none_is_refused_and_old_runs_are_left_out(say: Say) -> None:
    assert "90s, 10m, 2h or 1d" in say("ls", "--since", "yesterday").output
    answer = json.loads(say("ls", "--since", "2d", "--json").stdout)
    assert [run["run"] for run in answer["runs"]] == [RUN], "the others ended in 1970"
    everything = json.loads(say("ls", "-a", "--json").stdout)
    assert {run["run"] for run in everything["runs"]} == {RUN, HELD, DONE}
    assert set(answer) == set(everything) == {"schema", "runs"}


def test_a_list_that_is_watched_is_shown_anew_when_it_changes(home: Path) -> None:
    command = [sys.executable, "-P", "-c", "from orchestrator.cli import main; main()", "ls", "-w", "--json"]
    env = {**os.environ, "LASTGOOD_HOME": str(home)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        first = json.loads(child.stdout.readline())
        with Journal(home / "journal.db") as journal:
            late = Script(journal, run="late-aaaaa").join()
            late.take(e.StopRequested(at=late.now, by="ada"))
        second = json.loads(child.stdout.readline())
        child.send_signal(signal.SIGINT)
        assert child.wait() == 130
    assert {run["run"] for run in second["runs"]} - {run["run"] for run in first["runs"]} == {"late-aaaaa"}


def test_the_status_of_a_paused_run_says_what_ends_the_pause(say: Say, home: Path) -> None:
    with Journal(home / "journal.db") as journal:
        script = Script(journal, run="cool-aaaaa").join().begin(0).train(3)
        script.take(e.PauseRequested(at=script.now, by="ada", why="the hall is hot"))
        script.take(e.AttemptEnded(at=script.now, attempt=1))
    told = say("status", "cool").stdout
    assert "cool-aaaaa: PAUSED, paused by ada: the hall is hot" in told
    assert "next        lastgood resume cool-aaaaa" in told
    assert "ranks train on" not in told
    assert say("status", "cool", "--check").exit_code == 101
    for words, why in (
        (("pause", "cool"), "paused already, by ada"),
        (("restart", "cool"), "lastgood resume cool-aaaaa"),
        (("incident", "note", "cool", "i1", "x"), "it had none"),
        (("ckpt", "pin", "cool", "nowhere"), "there is: none"),
        (("nodes", "cordon", "host0", "--run", "cool"), "no other host to give"),
    ):
        result = say(*words)
        assert result.exit_code != 0
        assert why in result.output, result.output
    assert "host0" in say("nodes", "history", "host0", "--json").stdout
    assert "became node 0 of attempt 1" in say("nodes", "history", "host0", "--run", "cool").stdout
    assert "no run ever had a host" in say("nodes", "history", "nowhere").output

"""Is what the commands print as JSON what docs/contract.md says? Those that ask a supervisor ask a real one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.spec import Spec
from monitors.incidents import Kind
from orchestrator import runbooks
from orchestrator.core import events as e
from orchestrator.journal import Journal
from tests.cli.conftest import Say
from tests.story.scripted import RUN, Script
from tests.story.test_contract import OF_COMMANDS, Reader

PLAYED = frozenset({"Demo", "Probed"})
"""compared by tests/e2e/test_demo.py and tests/e2e/test_probing.py, for it takes real ranks"""
ASKED = frozenset({"Asked", "Drilled", "Serving", "Left", "Remarked", "Pinned", "Cordoned"})


def answered(say: Say, *words: str, **env: str) -> dict[str, Any]:
    """What a command printed: one object, with the version of the contract."""
    at = words.index("--") if "--" in words else len(words)
    result = say(*words[:at], "--json", *words[at:], **env)
    assert result.stdout, (words, result)
    answer: dict[str, Any] = json.loads(result.stdout)
    assert answer["schema"] == "lastgood/1", words
    return answer


def test_what_needs_no_supervisor(say: Say, home: Path, tmp_path: Path) -> None:
    for page in runbooks.BUILT_IN.glob("*.md"):
        (tmp_path / page.name).write_text(page.read_text())
    killed = tmp_path / "worker_killed.md"
    killed.write_text(re.sub(r"(?m)^ladder: .*", "ladder: [hold]", killed.read_text()))
    with Journal(home / "journal.db") as journal:
        Script(journal, run="old-aaaaa").join().begin(0).train(10).save()
    reader = Reader()
    for heading, words in (
        ("Drills", ["drill", "--list"]),
        ("Replay", ["replay", RUN, "--runbooks", str(tmp_path)]),
        ("Verified", ["ckpt", "verify", "old-aaaaa"]),
        ("Doctor", ["doctor"]),
        ("Budget", ["budget", RUN]),
        ("PowerBudget", ["power", RUN]),
        ("Top", ["top", RUN]),
        ("Metrics", ["metrics", "--off"]),
        ("Init", ["init", "plain"]),
        ("Templates", ["init", "--list"]),
        ("Completion", ["completion", "zsh"]),
        ("Version", ["version"]),
    ):
        reader.read(heading, answered(say, *words))
    say("alerts", "init")
    dry = answered(say, "submit", "--dry-run", "--", "true", PATH=os.environ["PATH"])
    assert {name: value for name, value in dry.items() if name in Spec.model_fields}["name"] == "true"
    reader.read("DryRun", {name: value for name, value in dry.items() if name not in Spec.model_fields})
    assert reader.seen == OF_COMMANDS - ASKED - PLAYED


@pytest.fixture
def fresh(say: Say, tmp_path: Path) -> Iterator[str]:
    """An empty state folder; what was started in it ends with the test."""
    root = str(tmp_path / "fresh")
    yield root
    say("stop", "-", "--now", "--wait", LASTGOOD_HOME=root)
    say("serve", "--stop", LASTGOOD_HOME=root)


def stopped_run(home: Path) -> str:
    """A run that had an incident, saved, and was stopped; returns the name of the save."""
    home.mkdir(mode=0o700)
    with Journal(home / "journal.db") as journal:
        script = Script(journal, run="old-aaaaa").join().begin(0).train(10).save()
        script.fail(Kind.WORKER_KILLED).stop()
        script.take(e.StopRequested(at=script.now, by="ada", now=True))
        script.take(e.AttemptEnded(at=script.now, attempt=1))
    folder = home / "runs" / "old-aaaaa"
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(Spec(name="old", command="true", ranks_per_node=2).model_dump_json())
    return script.state.checkpoints[0].name


@pytest.mark.e2e
def test_what_asks_a_supervisor(say: Say, fresh: str) -> None:
    env = {"LASTGOOD_HOME": fresh, "PATH": os.environ["PATH"]}
    reader = Reader()
    saved = stopped_run(Path(fresh))
    reader.read("Serving", answered(say, "serve", "-d", **env))
    reader.read("Pinned", answered(say, "ckpt", "pin", "old-aaaaa", saved, **env))
    reader.read("Remarked", answered(say, "incident", "note", "old-aaaaa", "i1", "the", "fan", **env))
    submitted = answered(say, "submit", "--", "sleep", "600", **env)
    reader.read("Asked", submitted)
    reader.read("Drilled", answered(say, "drill", "-", "supervisor", **env))
    reader.read("Cordoned", answered(say, "nodes", "uncordon", "host7", "--run", "-", **env))
    for words in (["restart", "-"], ["pause", "-", "lunch"], ["stop", "-", "--now"], ["resume", "-"]):
        asked = answered(say, *words, **env)
        reader.read("Asked", asked)
        assert asked["run"] == submitted["run"]
        if words[0] not in ("restart", "pause"):
            say("stop", "-", "--now", "--wait", **env)
    assert answered(say, "run", "-d", "--", "sleep", "600", **env)["run"] != submitted["run"]
    reader.read("Left", answered(say, "serve", "--stop", **env))
    assert reader.seen == ASKED

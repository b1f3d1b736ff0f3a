"""State folders for the command line: written by the real core and journal, read by the real commands."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from monitors.incidents import Kind
from monitors.signals import StepReported
from orchestrator.cli import lastgood
from orchestrator.core import events as e
from orchestrator.journal import Journal
from tests.story.scripted import PLAN, RUN, T0, Script

HELD = "gpt-xxxxx"
DONE = "gpt-zzzzz"

Say = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A run that survived a kill and goes on, one that is held, one that is complete; no supervisor runs."""
    root = tmp_path / "home"
    root.mkdir(mode=0o700)
    with Journal(root / "journal.db") as journal:
        script = Script(journal, plan=replace(PLAN, save_every=10)).join().begin(0).train(10).save().train(10)
        script.take(e.DrillRequested(at=script.now, by="demo", drill="kill", rank=1, number=1))
        script.take(e.DrillDone(at=script.now, world=1, drill="kill", rank=1))
        script.fail(Kind.WORKER_KILLED, detect_s=0.25).stop().begin(10).train(20).save().train(1)
        row = StepReported(at=T0, node=0, world=2, rank=0, step=30, loss=2.5, tokens=100.0, step_s=0.1)
        journal.add_rows(RUN, [row, replace(row, step=31, loss=2.25)])
        held = Script(journal, run=HELD).join().begin(0).train(3).fail(Kind.CRASH_LOOP)
        held.take(e.AttemptEnded(at=held.wait(1).now, attempt=1))
        Script(journal, run=DONE).join().begin(0).train(10).save().finish()
        journal.heartbeat(T0 + 60)
    for run in (RUN, HELD, DONE):
        (root / "runs" / run).mkdir(parents=True)
    return root


@pytest.fixture
def say(home: Path, tmp_path: Path) -> Iterator[Say]:
    """Say something to `lastgood`, in a folder of its own."""

    def said(*words: str, **env: str) -> Result:
        return CliRunner().invoke(lastgood, list(words), env={"LASTGOOD_HOME": str(home), "TZ": "UTC", **env})

    before = os.getcwd()
    os.chdir(tmp_path)
    yield said
    os.chdir(before)

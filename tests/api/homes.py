"""State folders for the dashboard to look at: journals that the real core decided, logs as ranks leave them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

from monitors.incidents import Kind
from monitors.signals import StepReported
from orchestrator.core import events as e
from orchestrator.core.asked import SpecRevised
from orchestrator.home import Home
from orchestrator.journal import Journal
from tests.story.scripted import PLAN, RUN, T0, Script

HELD = "gpt-xxxxx"
SECRET = "s3cr3t-of-the-user"


def row(step: int, world: int = 1, loss: float = 2.0, at: float | None = None) -> StepReported:
    """One step as rank 0 reported it."""
    return StepReported(
        at=T0 + 5 + step * 0.1 if at is None else at,
        node=0,
        world=world,
        rank=0,
        step=step,
        loss=loss,
        grad_norm=1.0,
        tokens=100.0,
        step_s=0.1,
    )


def filled(root: Path) -> Home:
    """A run that a drill killed and that goes on from step 10 of 20, and one that is held."""
    home = Home(root)
    home.create()
    with Journal(home.journal) as journal:
        script = Script(journal, plan=replace(PLAN, chooses_interval=True))
        script.join().begin(0).train(10).save().train(10)
        script.take(e.DrillRequested(at=script.now, by="demo", drill="kill", rank=1, number=1))
        script.take(e.DrillDone(at=script.now, world=1, drill="kill", rank=1))
        script.fail(Kind.WORKER_KILLED).stop().begin(10)
        read = e.EnergyRead(since=T0, until=T0 + 10, joules=7e3, gpu_s=20)
        script.train(20, energy=read).train(10, energy=replace(read, until=T0 + 12, joules=8e3, gpu_s=24)).save()
        journal.add_rows(RUN, [row(step) for step in range(1, 21)])
        rows = [row(step, 2, math.nan if step == 30 else 1.5, script.now + step / 10) for step in range(11, 41)]
        journal.add_rows(RUN, rows)
        held = Script(journal, run=HELD).join().begin(0).train(3).fail(Kind.CRASH_LOOP)
        held.take(e.AttemptEnded(at=held.wait(1).now, attempt=1))
        sets = ("env.HF_TOKEN", "checkpoint.keep=5")  # as a request leaves it in the journal
        held.take(SpecRevised(at=held.now, by="ann", revision=1, sets=sets, plan=PLAN))
        journal.heartbeat(T0 + 60)
    for run in (RUN, HELD):
        home.run(run).mkdir(parents=True)
        spec = {"name": "gpt", "env": {"HF_TOKEN": SECRET}, "recovery": {"runbooks": None}}
        (home.run(run) / "spec.json").write_text(json.dumps(spec))
    for world, rank in ((1, 0), (1, 1), (2, 0), (2, 1)):
        folder = home.run(RUN) / "attempts" / "001" / "node0" / f"w{world}" / f"rank{rank}"
        folder.mkdir(parents=True)
        (folder / "stdout.log").write_text(f"hello from {rank}\n" * 3)
        (folder / "stderr.log").write_text("Traceback: boom\n" if rank else "")
    return home

"""Is what ranks staged saved, whatever becomes of them? Real agents, ranks that use the SDK, a real saver."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from stage import Stage, is_running, kill, until

from jobs.agent import orders
from jobs.agent.pulse import STEADY_S
from lastgood import manifest
from monitors import signals as s

TRAIN = """
import os, time, torch
from torch import nn
import lastgood

class Named:
    def __init__(self):
        self.name = "a value of its own kind"
    def state_dict(self):
        return {"step": self.name}
    def load_state_dict(self, state):
        self.name = state["step"]

def train(run):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 8))
    optimizer = torch.optim.AdamW(model.parameters())
    state = {"model": model, "optimizer": optimizer, "named": Named(), "epoch": 0}
    for step in run.steps(state, until=int(os.environ.get("UNTIL", "100000"))):
        loss = model(torch.ones(2, 64) * step).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.report(loss=loss)
        time.sleep(float(os.environ.get("STEP_S", "0.02")))

lastgood.main(train)
"""


def submit(stage: Stage, *, nodes: int = 1, **fields: Any) -> None:
    checkpoint = {"every_steps": 10, "memory_every_steps": 1, **fields.pop("checkpoint", {})}
    fields = {"recovery": {"warm": True}, **fields, "env": {"OMP_NUM_THREADS": "1", **fields.get("env", {})}}
    stage.spec(stage.script(TRAIN), nodes=nodes, ranks_per_node=2, checkpoint=checkpoint, **fields)
    for node in range(nodes):
        stage.launch(node)
    stage.start_world(1, *range(nodes))


def staging(stage: Stage, nodes: int = 1) -> None:
    """Wait until the savers are at work."""
    agents = [stage.place(node).folder / "agent.log" for node in range(nodes)]
    until(lambda: all("saver: saved" in path.read_text() for path in agents), "a saver has saved")


def saver_pid(stage: Stage, node: int = 0) -> int:
    """The saver of a node's agent."""
    log = (stage.place(node).folder / "agent.log").read_text()
    return int(log.rpartition("the saver is process ")[2].split()[0])


def notes(stage: Stage, rank: int, kind: str, world: int = 1, node: int = 0) -> list[dict[str, Any]]:
    path = stage.rank_file("notes.jsonl", rank, world, node)
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [note for note in map(json.loads, lines) if note["note"] == kind]


def verified(stage: Stage, save: s.SaveCommitted) -> Path:
    path = stage.place().checkpoints(None) / save.checkpoint
    manifest.verify(str(path))
    return path


def test_a_save_outlives_the_ranks_that_were_killed_right_after_they_had_staged_it(stage: Stage) -> None:
    submit(stage)
    staging(stage)
    os.kill(saver_pid(stage), signal.SIGSTOP)
    before = len(notes(stage, 0, "staged"))
    until(lambda: all(len(notes(stage, rank, "staged")) > before for rank in (0, 1)), "a save is staged")
    for rank in (0, 1):
        kill(stage.pid(rank, 1))
    stage.order(orders.StopWorld(world=1))
    stage.wait_for(s.WorldStopped, world=1)
    newest = max(note["step"] for note in notes(stage, 0, "staged"))
    assert newest not in {save.step for save in stage.seen(s.SaveCommitted)}
    stage.start_world(2)  # which clears away what dead worlds left half-written, but not this
    os.kill(saver_pid(stage), signal.SIGCONT)
    (save,) = stage.wait_for(s.SaveCommitted, world=1, step=newest)
    path = verified(stage, save)
    assert path.name == f"step-{newest:08d}.a1w1"
    assert manifest.read(str(path)).world_size == 2
    assert stage.seen(s.SaveFailed) == []
    assert not list(path.parent.glob(f"*a1w1{manifest.WRITING}"))


def test_a_saver_that_dies_is_told_and_the_ranks_save_by_themselves_until_there_is_another(stage: Stage) -> None:
    submit(stage)
    staging(stage)
    pid = saver_pid(stage)
    os.kill(pid, signal.SIGSTOP)  # so that it dies over a save
    before = len(notes(stage, 0, "staged"))
    until(lambda: len(notes(stage, 0, "staged")) > before, "a save is staged")
    first = notes(stage, 0, "staged")[before]
    until(lambda: notes(stage, 0, "staged")[-1]["at"] > first["at"] + 4 * STEADY_S, "the agent has begun it")
    kill(pid)
    (failed,) = stage.wait_for(s.SaveFailed)
    assert "the saver of node 0 is lost: it ended with signal 9" in failed.why
    stage.wait(lambda: any(b.why for b in stage.seen(s.Blind, sense="saver")), "a word that ranks save by themselves")
    own = next(b for b in stage.seen(s.Blind, sense="saver") if b.why)
    assert "the node has no saver at present" in own.why
    until(lambda: bool(notes(stage, 0, "committed")), "a save of the ranks' own")
    stage.wait(lambda: stage.seen(s.Blind, sense="saver")[-1].why == "", "a word that there is a saver again")
    newest = stage.seen(s.SaveCommitted)[-1].step
    stage.wait(lambda: stage.seen(s.SaveCommitted)[-1].step >= newest + 20, "saves after that")
    assert saver_pid(stage) != pid
    for rank in (0, 1):
        assert is_running(stage.pid(rank, 1))
    verified(stage, stage.seen(s.SaveCommitted)[-1])


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting needs root; the commit's own tests cover errors of the disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_fails_the_save_and_training_goes_on(stage: Stage) -> None:
    folder = stage.home / "small"
    with small_disk(folder, 300 << 10):
        submit(stage, checkpoint={"folder": str(folder)})
        failed = stage.wait_for(s.SaveFailed)[0]
        assert failed.errno == errno.ENOSPC
        for _ in range(3):
            reached = max(row.step for row in stage.seen(s.StepReported, rank=0))
            stage.wait(lambda: max(r.step for r in stage.seen(s.StepReported, rank=0)) > reached + 10, "more steps")  # noqa: B023
        assert notes(stage, 0, "unstaged")[-1]["why"] == ""
        for rank in (0, 1):
            assert is_running(stage.pid(rank, 1))
        assert not list(folder.glob(f"*{manifest.WRITING}/*.distcp")) or stage.seen(s.SaveFailed)
        stage.order(orders.StopWorld(world=1))
        stage.wait_for(s.WorldStopped, world=1)


def stop_soon(stage: Stage, nodes: int = 1) -> int:
    """The savers are there: the ranks are to end after the step that is told here."""
    agents = [stage.place(node).folder / "agent.log" for node in range(nodes)]
    until(lambda: all("the saver is process" in path.read_text() for path in agents), "the savers are there")
    step = max((row.step for row in stage.seen(s.StepReported, rank=0)), default=0) + 57
    stage.order(orders.StopAfter(world=1, step=step), *range(nodes))
    return step


def test_two_nodes_save_together_and_the_last_save_is_always_made(stage: Stage) -> None:
    submit(stage, nodes=2)
    staging(stage, 2)  # until both are there the ranks save by themselves
    step = stop_soon(stage, 2)
    ends = stage.wait_for(s.RankExited, 4)
    assert [end.code for end in ends] == [0] * 4
    last = stage.wait_for(s.SaveCommitted, step=step)[0]
    path = verified(stage, last)
    assert {p.name for p in path.glob("*.distcp")} == {f"__{rank}_0.distcp" for rank in range(4)}
    assert last.node == 0
    assert last.stall_s > 0
    assert stage.seen(s.SaveFailed) == []
    assert not list(path.parent.glob(f"*{manifest.ROUNDS}"))
    assert not list(path.parent.glob(f"*{manifest.WRITING}"))
    assert step in {note["step"] for note in notes(stage, 3, "staged", node=1)}
    assert step not in {note["step"] for note in notes(stage, 0, "committed")}


def test_a_run_whose_last_save_fails_does_not_end_well(stage: Stage) -> None:
    folder = stage.home / "file"
    folder.touch()
    submit(stage, checkpoint={"folder": str(folder)})
    step = stop_soon(stage)
    (end, _) = stage.wait_for(s.RankExited, 2)
    assert end.code == 1
    assert end.failure is not None
    assert f"the last save, of step {step}, failed: Not a directory" in end.failure.message


def test_without_copies_the_ranks_save_by_themselves(stage: Stage) -> None:
    submit(stage, checkpoint={"memory_every_steps": 0}, env={"UNTIL": "25"})
    stage.wait_for(s.SaveCommitted, step=25)
    stage.wait_for(s.RankExited, 2, code=0)
    assert {note["step"] for note in notes(stage, 0, "committed")} == {10, 20, 25}
    children = psutil.Process(stage.agents[0].pid).children()
    # As a whole: one that has just ended has no words any more.
    assert not any("lastgood.saver" in (c.as_dict(["cmdline"], ad_value=None)["cmdline"] or ()) for c in children)


def test_leaving_waits_for_the_saver_within_the_grace(stage: Stage) -> None:
    submit(stage)
    staging(stage)
    os.kill(saver_pid(stage), signal.SIGSTOP)
    before = len(notes(stage, 0, "staged"))
    until(lambda: all(len(notes(stage, rank, "staged")) > before for rank in (0, 1)), "a save is staged")
    step = notes(stage, 0, "staged")[-1]["step"]
    pid = saver_pid(stage)
    stage.order(orders.Leave(grace_s=20.0))
    stage.wait_for(s.WorldStopped, world=1)
    os.kill(pid, signal.SIGCONT)
    stage.wait(lambda: any(save.step >= step for save in stage.seen(s.SaveCommitted)), "the last save")
    stage.agents[0].wait(20)
    until(lambda: not is_running(pid), "the saver is gone")

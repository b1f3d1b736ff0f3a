"""A run that begins from another one's checkpoint, whatever its world size, and leaves it as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lab import ENV, Lab, gpt, read

from jobs.checkpoint import damage
from lastgood import manifest
from orchestrator.client import ask

pytestmark = [pytest.mark.e2e]


def alone(folder: Path, checkpoints: Path, steps: int) -> None:
    """One rank without a supervisor, from the newest checkpoint that lies there."""
    folder.mkdir(exist_ok=True)
    env = {**os.environ, **ENV, "LASTGOOD_CHECKPOINTS": str(checkpoints), "LASTGOOD_SAVE_EVERY": "10"}
    command = [sys.executable, "-P", *gpt(folder, steps=steps)]
    subprocess.run(command, env=env, cwd=folder, check=True, capture_output=True, timeout=120)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file, byte for byte."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.long
def test_two_ranks_save_and_one_goes_on(lab: Lab) -> None:
    first = lab.submit(gpt(lab.folder, steps=20))
    lab.finish(first)
    before = contents(lab.home / "runs" / first)
    saved = next(c for c in lab.checkpoints(first) if c["step"] == 20)
    copy, reference = lab.folder / "copy" / "checkpoints", lab.folder / "reference"
    shutil.copytree(saved["path"], copy / saved["name"])
    alone(reference, copy, steps=45)

    second_folder = lab.folder / "second"
    second_folder.mkdir()
    checkpoint = {"every_steps": 10, "probation_steps": 5, "keep": 1, "resume_from": saved["path"]}
    second = lab.submit(gpt(second_folder, steps=45), ranks_per_node=1, checkpoint=checkpoint)
    lab.finish(second)
    trained = read(second_folder / "losses", second_folder / "weights")
    expected = read(reference / "losses", reference / "weights")
    assert sorted(trained.losses) == list(range(21, 46))
    assert (trained.losses, trained.weights) == (expected.losses, expected.weights)
    assert {c["name"]: c["state"] for c in lab.checkpoints(second)}[saved["path"]] == "good"
    assert contents(lab.home / "runs" / first) == before, "the first run's files were touched"


def test_a_damaged_one_holds_the_run_before_anything_is_trained(lab: Lab) -> None:
    checkpoints = lab.folder / "elsewhere"
    alone(lab.folder / "alone", checkpoints, steps=10)
    first = checkpoints / str(manifest.names(str(checkpoints))[-1])
    command = gpt(lab.folder, steps=20)
    unknown = {"name": "e2e", "command": command, "checkpoint": {"resume_from": str(first.parent)}}
    refused = ask(lab.home, {"ask": "submit", "spec": unknown, "yaml": ""}, start=True)
    assert not refused["ok"]
    assert str(first) in str(refused["error"])

    damaged = damage.damage(str(first), seed=3, kind="flip")
    run = lab.submit(command, ranks_per_node=1, checkpoint={"resume_from": str(first)})
    status = lab.wait(run, lambda s: bool(s["state"] == "HELD"))
    assert (status["exit_code"], status["cause"], status["world"]) == (106, "checkpoint_corrupt", 0)
    assert str(first) in status["reason"]
    assert lab.kinds(run) == ["checkpoint_corrupt"]
    assert damaged.files[0] in str(lab.concluded(run)[0]["evidence"])

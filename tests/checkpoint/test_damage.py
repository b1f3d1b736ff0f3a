"""A thousand damages to a checkpoint of two shards: every one is named, and not a bit of it reaches the model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.checkpoint.damage import KINDS, damage
from lastgood import manifest
from lastgood.manifest import CheckpointDamaged
from lastgood.restoring import restore
from tests.checkpoint.ranks import TWO as NAME
from tests.checkpoint.training import Job, build, same


@pytest.fixture
def pristine(folder: Path, two: object) -> Path:  # noqa: ARG001 - the two ranks saved it
    path = folder / "checkpoints" / NAME
    manifest.verify(str(path))
    assert len(list(path.glob("*.distcp"))) == 2
    return path


@pytest.fixture
def job() -> Job:
    """Weights and optimizer that the checkpoint does not hold."""
    other = build(2)
    other.train(1)
    return other


def damaged(pristine: Path, folder: Path, seeds: range) -> Iterator[tuple[Path, set[str], str]]:
    """A damaged copy for each seed: its folder, the names of the files that were touched, and what was done."""
    for seed in seeds:
        kind = sorted(KINDS)[seed % len(KINDS)]
        shutil.copytree(pristine, folder / NAME)
        done = damage(str(folder / NAME), seed, kind)
        yield folder, set(done.files), str(done)
        shutil.rmtree(folder / NAME)


def test_a_thousand_damages_are_named_and_none_reaches_the_model(pristine: Path, tmp_path: Path, job: Job) -> None:
    before, touched = job.snapshot(), set()
    for folder, files, done in damaged(pristine, tmp_path, range(1000)):
        notes: list[dict[str, Any]] = []
        found = restore(str(folder), [(NAME, 3)], job.state, rank=0, world_size=1, note=notes.append)
        assert found is None, done
        assert [(note["note"], note["checkpoint"]) for note in notes] == [("refused", NAME)], done
        assert notes[0]["why"].partition(":")[0] in files, f"{done}: {notes}"
        with pytest.raises(CheckpointDamaged) as verdict:
            manifest.verify(str(folder / NAME))
        assert verdict.value.file in files, done
        touched |= files
    assert same(job.snapshot(), before)
    assert touched == {path.name for path in pristine.iterdir()}, "some file was never damaged"


def test_the_undamaged_one_is_restored(pristine: Path, job: Job) -> None:
    notes: list[dict[str, Any]] = []
    before = job.snapshot()
    found = restore(str(pristine.parent), [(NAME, 3)], job.state, rank=0, world_size=1, note=notes.append)
    assert found is not None
    assert notes == []
    assert not same(job.snapshot(), before)


@pytest.mark.parametrize("extra", ["__2_0.distcp", "core"])
def test_a_file_that_nobody_wrote_is_named(pristine: Path, tmp_path: Path, extra: str) -> None:
    shutil.copytree(pristine, tmp_path / NAME)
    (tmp_path / NAME / extra).write_bytes(b"?")
    with pytest.raises(CheckpointDamaged, match="is in no manifest"):
        manifest.verify(str(tmp_path / NAME))


def verifier(path: Path) -> tuple[int, str]:
    command = [sys.executable, "-P", "-m", "jobs.checkpoint.verify", str(path), "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.stderr == ""
    return ended.returncode, ended.stdout


def test_the_verifier_says_it_in_one_line(pristine: Path, tmp_path: Path) -> None:
    assert verifier(pristine) == (0, "")
    for _, files, _ in damaged(pristine, tmp_path, range(4)):
        status, line = verifier(tmp_path / NAME)
        assert status == 1
        assert json.loads(line).keys() == {"checkpoint", "file", "why"}
        assert json.loads(line)["file"] in files


def test_the_verifier_tells_what_it_could_not_read_from_damage(tmp_path: Path) -> None:
    status, line = verifier(tmp_path / "not mounted" / NAME)
    assert status == 3
    assert json.loads(line) == {"checkpoint": NAME, "file": ".", "why": "cannot be read: No such file or directory"}


def test_the_verifier_needs_no_torch(pristine: Path) -> None:
    code = "import sys; from jobs.checkpoint.verify import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, str(pristine)], check=False, timeout=60).returncode == 0

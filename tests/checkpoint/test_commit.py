"""Whatever ends a save, and at whatever call: the checkpoint before it stays, and nothing half looks whole."""

from __future__ import annotations

import errno
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs.checkpoint import folder as checkpoint_folder
from lastgood import manifest
from lastgood.files import Files
from lastgood.restoring import restore
from lastgood.saving import Saver
from tests.checkpoint.copied import CopySaver
from tests.checkpoint.disks import CountingDisk, Crash, CrashingDisk, FailingDisk, PowerCut
from tests.checkpoint.training import Job, build, same

OLD, NEW = "step-00000002.a1w1", "step-00000003.a1w2"
Notes = list[dict[str, Any]]


class OwnSaver(Saver):
    """A rank that saves by itself."""

    def __init__(self, folder: Path, notes: Notes, files: Files | None = None, world: int = 2) -> None:
        super().__init__(
            str(folder), run="run", attempt=1, world=world, rank=0, world_size=1, note=notes.append, files=files
        )


Feed = type[OwnSaver] | type[CopySaver]


@pytest.fixture(params=[OwnSaver, CopySaver], ids=["from the rank", "from a copy"])
def feed(request: pytest.FixtureRequest) -> Feed:
    """Where the bytes of a save come from."""
    kind: Feed = request.param
    return kind


def save_once(
    folder: Path, job: Job, step: int, *, world: int, files: Files | None = None, feed: Feed = OwnSaver
) -> Notes:
    notes: Notes = []
    once = feed(folder, notes, files, world)
    once.save(step, job.state, data_index=step)
    once.close()
    return notes


@pytest.fixture
def job() -> Job:
    trained = build(1)
    trained.train(2)
    return trained


@pytest.fixture
def old(tmp_path: Path, job: Job) -> Path:
    """A folder with one committed checkpoint."""
    save_once(tmp_path / "old", job, 2, world=1)
    job.train(1)
    return tmp_path / "old"


@pytest.fixture
def calls(tmp_path: Path, old: Path, job: Job, feed: Feed) -> int:
    """How many calls one save makes."""
    disk = CountingDisk()
    shutil.copytree(old, tmp_path / "counted")
    assert [note["note"] for note in save_once(tmp_path / "counted", job, 3, world=2, files=disk, feed=feed)] == [
        "committed"
    ]
    return disk.calls


def copies(old: Path, tmp_path: Path, count: int) -> Iterator[tuple[int, Path]]:
    for number in range(1, count + 1):
        yield number, Path(shutil.copytree(old, tmp_path / f"copy{number}"))


def whole(folder: Path) -> list[str]:
    """The names that look whole, each of which must be."""
    found = [str(name) for name in manifest.names(str(folder))]
    for name in found:
        manifest.verify(str(folder / name))
    return found


def refuse(note: dict[str, Any]) -> None:
    raise AssertionError(note)


def assert_loads(folder: Path, name: str) -> None:
    fresh = build(5)
    restored = restore(str(folder), [(name, 0)], fresh.state, rank=0, world_size=1, note=refuse)
    assert restored is not None
    assert restored.checkpoint == name


def test_a_crash_at_any_call_leaves_the_older_one_and_nothing_half(
    old: Path, tmp_path: Path, job: Job, calls: int, feed: Feed
) -> None:
    assert calls > 20
    for number, folder in copies(old, tmp_path, calls):
        notes: Notes = []
        dying = feed(folder, notes, CrashingDisk(number))
        dying.save(3, job.state, data_index=3)
        with pytest.raises(Crash):
            dying.wait()
        assert notes == []
        found = whole(folder)
        assert OLD in found
        assert_loads(folder, found[-1])
        # The next world saves as if nothing had been, and the remains can be removed.
        checkpoint_folder.clean(str(folder), before_world=3)
        assert save_once(folder, job, 3, world=3)[0]["note"] == "committed"
        assert sorted(entry.name for entry in folder.iterdir()) == sorted([*found, "step-00000003.a1w3"])


@pytest.mark.parametrize("seed", range(3))
def test_a_power_cut_at_any_call_leaves_the_older_one_and_nothing_half(
    old: Path, job: Job, calls: int, seed: int, feed: Feed
) -> None:
    for number, folder in copies(old, old.parent, calls + 1):
        notes: Notes = []
        disk = PowerCut(number, seed * 1000 + number)
        dying = feed(folder, notes, disk)
        dying.save(3, job.state, data_index=3)
        if number <= calls:
            with pytest.raises(Crash):
                dying.wait()
        else:
            dying.wait()
            assert notes[0]["checkpoint"] == NEW
        disk.lose_power()
        found = whole(folder)
        assert OLD in found
        assert (NEW in found) or not notes


def test_an_error_at_any_call_is_a_failed_save_and_no_more(
    old: Path, tmp_path: Path, job: Job, calls: int, feed: Feed
) -> None:
    before = job.snapshot()
    for number, folder in copies(old, tmp_path, calls):
        disk = FailingDisk(number)
        [note] = save_once(folder, job, 3, world=2, files=disk, feed=feed)
        assert note["note"] == "save_failed", disk.failed
        assert (note["step"], note["errno"]) == (3, errno.EIO)
        assert "Input/output error" in note["why"]
        assert whole(folder) == [OLD], disk.failed
        assert save_once(folder, job, 4, world=2, feed=feed)[0]["note"] == "committed"
        assert list(folder.glob("*.writing")) == []
    assert same(job.snapshot(), before)


def test_a_checkpoint_is_never_replaced(old: Path, job: Job, feed: Feed) -> None:
    before = (old / OLD / manifest.MANIFEST).read_bytes()
    [note] = save_once(old, job, 2, world=1, feed=feed)
    assert (note["note"], note["errno"]) == ("save_failed", errno.EEXIST)
    assert (old / OLD / manifest.MANIFEST).read_bytes() == before


def test_a_vanished_folder_is_made_anew(old: Path, job: Job, feed: Feed) -> None:
    notes: Notes = []
    keeps = feed(old, notes)
    keeps.save(3, job.state, data_index=3)
    keeps.wait()
    shutil.rmtree(old)
    keeps.save(4, job.state, data_index=4)
    keeps.close()
    assert [note["note"] for note in notes] == ["committed", "committed"]


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """So many bytes of memory as a file system."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("mounting needs root; the test with a file size limit covers the rest")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_fails_the_save_and_training_goes_on(tmp_path: Path, old: Path, job: Job, feed: Feed) -> None:
    folder = tmp_path / "small"
    room_for_one = checkpoint_folder.total_bytes(str(old / OLD)) * 3 // 2
    with small_disk(folder, room_for_one):
        notes: Notes = []
        once = feed(folder, notes)
        for step in (3, 4, 5):
            once.save(step, job.state, data_index=step)
            job.train(1)
        once.close()
        assert [(note["note"], note.get("errno")) for note in notes] == [
            ("committed", None),
            ("save_failed", errno.ENOSPC),
            ("save_failed", errno.ENOSPC),
        ]
        assert [entry.name for entry in folder.iterdir()] == ["step-00000003.a1w2"]
        shutil.rmtree(folder / "step-00000003.a1w2")
        assert save_once(folder, job, 6, world=2)[0]["note"] == "committed"
        assert whole(folder) == ["step-00000006.a1w2"]


def test_a_file_size_limit_fails_the_save_and_training_goes_on(tmp_path: Path, job: Job) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        [note] = save_once(tmp_path, job, 3, world=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (note["note"], note["errno"]) == ("save_failed", errno.EFBIG)
    assert list(tmp_path.iterdir()) == []
    job.train(1)
    assert save_once(tmp_path, job, 4, world=2)[0]["note"] == "committed"

"""Taking checkpoints out of their folder leaves the others, and what is being written, alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.checkpoint import folder


def checkpoint(parent: Path, name: str, size: int = 3) -> Path:
    path = parent / name
    path.mkdir(parents=True)
    (path / "__0_0.distcp").write_bytes(b"x" * size)
    (path / "manifest.json").write_bytes(b"{}")
    return path


def test_whole_checkpoints_are_listed_with_their_bytes(tmp_path: Path) -> None:
    checkpoint(tmp_path, "step-00000020.a1w2", size=20)
    checkpoint(tmp_path, "step-00000010.a1w1", size=10)
    checkpoint(tmp_path, "step-00000030.a1w2.writing")
    found = folder.stored(str(tmp_path))
    assert [(str(one.name), one.bytes) for one in found] == [("step-00000010.a1w1", 12), ("step-00000020.a1w2", 22)]
    assert [one.path for one in found] == [str(tmp_path / str(one.name)) for one in found]
    assert folder.stored(str(tmp_path / "nowhere")) == []


def test_deleting_is_safe_to_repeat_and_finishes_what_was_interrupted(tmp_path: Path) -> None:
    checkpoint(tmp_path, "step-00000010.a1w1")
    checkpoint(tmp_path, "step-00000010.a1w1.deleting")
    kept = checkpoint(tmp_path, "step-00000020.a1w1")
    for _ in range(2):
        folder.delete(str(tmp_path), "step-00000010.a1w1")
        assert list(tmp_path.iterdir()) == [kept]


@pytest.mark.parametrize(("before_world", "kept"), [(3, {"w3", "w4"}), (4, {"w4"}), (1, {"w2", "w3", "w4"})])
def test_cleaning_spares_the_saves_of_living_worlds(tmp_path: Path, before_world: int, kept: set[str]) -> None:
    whole = checkpoint(tmp_path, "step-00000010.a1w1")
    foreign = checkpoint(tmp_path, "notes.writing")
    checkpoint(tmp_path, "step-00000005.a1w9.deleting")
    for world in ("w2", "w3", "w4"):
        checkpoint(tmp_path, f"step-00000020.a1{world}.writing")
    removed = folder.clean(str(tmp_path), before_world=before_world)
    assert {path.name for path in tmp_path.iterdir()} == {
        whole.name,
        foreign.name,
        *(f"step-00000020.a1{world}.writing" for world in kept),
    }
    assert "step-00000005.a1w9.deleting" in removed
    assert folder.clean(str(tmp_path / "nowhere"), before_world=1) == []


def test_cleaning_spares_what_a_saver_is_still_at_work_on(tmp_path: Path) -> None:
    for name in ("step-00000020.a1w2", "step-00000030.a1w2"):
        for suffix in (".writing", ".rounds"):
            checkpoint(tmp_path, name + suffix)
    checkpoint(tmp_path, "step-00000020.a1w2.deleting")
    removed = folder.clean(str(tmp_path), before_world=3, spared=("step-00000020.a1w2",))
    assert {path.name for path in tmp_path.iterdir()} == {"step-00000020.a1w2.writing", "step-00000020.a1w2.rounds"}
    assert len(removed) == 3

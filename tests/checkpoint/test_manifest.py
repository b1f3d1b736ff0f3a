"""A manifest comes back as it was written, and no single bit of it may change unseen."""

from __future__ import annotations

import errno
import os
import string
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from lastgood import manifest
from lastgood.manifest import CheckpointDamaged, CheckpointUnreadable, Entry, Manifest, Name

COUNTS = st.integers(0, 2**63)
HEX = st.text("0123456789abcdef", min_size=32, max_size=32)
FILES = st.text(string.ascii_letters + string.digits + "._-é", min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..", manifest.MANIFEST)
)
MANIFESTS = st.builds(
    Manifest,
    run=st.text(max_size=20),
    attempt=COUNTS,
    world=COUNTS,
    step=COUNTS,
    world_size=COUNTS,
    data_index=COUNTS,
    saved_at=st.floats(0, 1e12),
    torch=st.text(max_size=20),
    files=st.dictionaries(FILES, st.builds(Entry, bytes=COUNTS, xxh3_128=HEX), max_size=4),
)
ONE = Manifest(
    run="gpt-abcde",
    attempt=1,
    world=3,
    step=40,
    world_size=2,
    data_index=40,
    saved_at=1700000000.25,
    torch="2.13.0",
    files={"__0_0.distcp": Entry(bytes=7, xxh3_128="0f" * 16), ".metadata": Entry(bytes=0, xxh3_128="a1" * 16)},
)

NO_BYTE = "/proc/self/mem"
"""no page is mapped at address 0: whoever reads there is told of an I/O error by the kernel"""


@given(MANIFESTS)
def test_a_manifest_comes_back_as_it_was_written(meant: Manifest) -> None:
    assert manifest.decode(manifest.encode(meant)) == meant


def test_every_flipped_bit_is_refused() -> None:
    raw = manifest.encode(ONE)
    for position in range(len(raw) * 8):
        damaged = bytearray(raw)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(ValueError, match=r"\w"):
            manifest.decode(bytes(damaged))


@given(st.binary(max_size=200))
def test_no_bytes_at_all_are_a_surprise(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        manifest.decode(raw)


@given(st.integers(0, 10**12), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_name_comes_back(step: int, attempt: int, world: int) -> None:
    name = Name(step=step, attempt=attempt, world=world)
    assert manifest.parse_name(str(name)) == name


@pytest.mark.parametrize(
    "text",
    [
        "step-00000040.a1w3.writing",
        "step-00000040.a1w3.deleting",
        "step-40.a1w3",
        "step-000000040.a1w3",
        "step-00000040.a01w3",
        "step-00000040",
        "latest",
    ],
)
def test_only_whole_names_are_checkpoints(text: str) -> None:
    assert manifest.parse_name(text) is None


def test_checkpoints_are_listed_by_step(tmp_path: Path) -> None:
    for name in ("step-00000100.a1w1", "step-00000020.a2w2", "step-00000020.a1w1", "step-00000300.a1w1.writing"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-00000400.a1w1").write_bytes(b"a file is no checkpoint")
    assert [str(name) for name in manifest.names(str(tmp_path))] == [
        "step-00000020.a1w1",
        "step-00000020.a2w2",
        "step-00000100.a1w1",
    ]
    assert manifest.names(str(tmp_path / "nowhere")) == []


def test_what_is_no_checkpoint_is_named_as_damaged(tmp_path: Path) -> None:
    path = tmp_path / ONE.name
    (tmp_path / "step-00000020.a1w1").mkdir()
    with pytest.raises(CheckpointDamaged, match="is gone"):
        manifest.verify(str(path))
    path.mkdir()
    with pytest.raises(CheckpointDamaged, match=r"manifest\.json: is missing"):
        manifest.verify(str(path))
    (path / manifest.MANIFEST).mkdir()
    with pytest.raises(CheckpointDamaged, match=r"manifest\.json: is not a regular file"):
        manifest.verify(str(path))


def _whole(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / manifest.MANIFEST).write_bytes(manifest.encode(replace(ONE, files={})))
    return path


def _never_mounted(path: Path, kept: Path) -> None:
    path.parent.rename(kept)


def _empty_mount_point(path: Path, kept: Path) -> None:
    path.parent.rename(kept)
    path.parent.mkdir()


def _mount_point_with_a_leftover(path: Path, kept: Path) -> None:
    _empty_mount_point(path, kept)
    (path.parent / f"{path.name}.writing").mkdir()


def _a_file_instead_of_the_folder_above(path: Path, kept: Path) -> None:
    path.parent.rename(kept)
    path.parent.touch()


def _link_to_nowhere(path: Path, kept: Path) -> None:
    path.rename(kept)
    path.symlink_to(kept.with_name("not mounted"))


def _link_to_itself(path: Path, kept: Path) -> None:
    path.rename(kept)
    path.symlink_to(path)


def _manifest_on_a_dying_disk(path: Path, kept: Path) -> None:
    (path / manifest.MANIFEST).rename(kept)
    (path / manifest.MANIFEST).symlink_to(NO_BYTE)


def _manifest_is_a_link_to_itself(path: Path, kept: Path) -> None:
    (path / manifest.MANIFEST).rename(kept)
    (path / manifest.MANIFEST).symlink_to(manifest.MANIFEST)


@pytest.mark.parametrize(
    ("hide", "why"),
    [
        (_never_mounted, os.strerror(errno.ENOENT)),
        (_empty_mount_point, "is a file system not mounted"),
        (_mount_point_with_a_leftover, "is a file system not mounted"),
        (_a_file_instead_of_the_folder_above, os.strerror(errno.ENOTDIR)),
        (_link_to_nowhere, "it is listed, and not found"),
        (_link_to_itself, os.strerror(errno.ELOOP)),
        (_manifest_on_a_dying_disk, os.strerror(errno.EIO)),
        (_manifest_is_a_link_to_itself, os.strerror(errno.ELOOP)),
    ],
)
def test_what_storage_does_not_show_is_not_damaged(
    tmp_path: Path, hide: Callable[[Path, Path], None], why: str
) -> None:
    path = _whole(tmp_path / "mount" / ONE.name)
    manifest.verify(str(path))
    hide(path, tmp_path / "kept")
    with pytest.raises(CheckpointUnreadable, match=f"cannot be read: .*{why}") as verdict:
        manifest.verify(str(path))
    assert not isinstance(verdict.value, CheckpointDamaged)


def test_a_shard_on_a_dying_disk_is_not_damaged() -> None:
    with open(NO_BYTE, "rb") as file, pytest.raises(CheckpointUnreadable, match="cannot be read: Input/output error"):
        manifest.check_file(file, "__0_0.distcp", ONE)


def test_swapped_files_of_one_size_are_told_from_changed_ones(tmp_path: Path) -> None:
    path = tmp_path / ONE.name
    path.mkdir()
    bodies = {"__0_0.distcp": b"first", "__1_0.distcp": b"other"}
    entries = {name: Entry(bytes=5, xxh3_128=xxhash.xxh3_128_hexdigest(body)) for name, body in bodies.items()}
    (path / manifest.MANIFEST).write_bytes(manifest.encode(replace(ONE, files=entries)))
    damages = {("other", "first"): r"holds the bytes of __1_0\.distcp", ("firsT", "other"): "its bytes changed"}
    for (first, second), why in damages.items():
        (path / "__0_0.distcp").write_text(first)
        (path / "__1_0.distcp").write_text(second)
        with pytest.raises(CheckpointDamaged, match=why) as verdict:
            manifest.verify(str(path))
        assert verdict.value.file == "__0_0.distcp"

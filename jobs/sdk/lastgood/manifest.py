"""Is this checkpoint whole, and if not, which file is to blame?

A checkpoint is a folder `step-00000040.a1w3` (step, attempt, world) that was renamed into place in one step when every
byte of it was durable. Its `manifest.json` holds size and digest of every other file, and a digest of itself. Torch
checks nothing of this: a flipped bit in a shard loads silently (measured, torch 2.13).
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import xxhash

VERSION = 1
MANIFEST = "manifest.json"
METADATA = ".metadata"
WRITING = ".writing"
ROUNDS = ".rounds"
"""beside a save that several nodes make: what they tell each other about it"""
DELETING = ".deleting"

_NAME = re.compile(r"step-(\d{8,})\.a(\d+)w(\d+)")
_DIGEST = re.compile(r"[0-9a-f]{32}")
_CHUNK_BYTES = 4 << 20
_MANIFEST_BYTES_MAX = 256 << 20
"""of a million files; a damaged size must not eat the memory"""
_LISTED = "it is listed, and not found"
"""a link to what is not mounted, or it came back just now"""


class CheckpointUnusable(Exception):
    """Nothing of the checkpoint may reach a model; which of the two kinds it is says for how long."""

    def __init__(self, checkpoint: str, file: str, why: str) -> None:
        super().__init__(f"{checkpoint}: {file}: {why}")
        self.checkpoint = checkpoint
        self.file = file
        """name within the checkpoint; `.` for the folder itself"""
        self.why = why


class CheckpointDamaged(CheckpointUnusable):
    """It is not what was written, which nothing heals."""


class CheckpointUnreadable(CheckpointUnusable):
    """The storage did not answer, or is not there: that says nothing about the bytes, which may be whole."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Name:
    """What the name of a checkpoint says; ordered by step, then attempt and world."""

    step: int
    attempt: int
    world: int

    def __str__(self) -> str:
        return f"step-{self.step:08d}.a{self.attempt}w{self.world}"


def parse_name(text: str) -> Name | None:
    """The parts of a whole checkpoint's name; None for anything else, half-written ones included."""
    found = _NAME.fullmatch(text)
    if found is None:
        return None
    step, attempt, world = (int(part) for part in found.groups())
    name = Name(step=step, attempt=attempt, world=world)
    return name if str(name) == text else None


def names(folder: str) -> list[Name]:
    """The whole checkpoints in a folder, oldest step first; none when there is no such folder."""
    try:
        with os.scandir(folder) as found:
            parsed = [parse_name(entry.name) for entry in found if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    return sorted(name for name in parsed if name is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file as it was meant to be."""

    bytes: int
    xxh3_128: str
    """32 hex digits"""

    def __post_init__(self) -> None:
        if not (_is_count(self.bytes) and _DIGEST.fullmatch(self.xxh3_128)):
            raise ValueError(f"not a file entry: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a checkpoint is, and every byte of it."""

    version: int = VERSION
    run: str
    attempt: int
    world: int
    step: int
    """last finished step in it"""
    world_size: int
    data_index: int
    """index of the next batch to be fed"""
    saved_at: float
    """when the state was copied, seconds since the epoch"""
    torch: str
    """version of torch that wrote it"""
    files: Mapping[str, Entry]

    def __post_init__(self) -> None:
        counts = (self.version, self.attempt, self.world, self.step, self.world_size, self.data_index)
        if not all(map(_is_count, counts)):
            raise ValueError(f"a count is not one: {counts}")
        if (type(self.run), type(self.torch), type(self.saved_at)) != (str, str, float):
            raise ValueError("a field has the wrong type")
        if any(name != os.path.basename(name) or name in ("", ".", "..", MANIFEST) for name in self.files):
            raise ValueError("a file has a name that is none")

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        return str(Name(step=self.step, attempt=self.attempt, world=self.world))

    @property
    def bytes(self) -> int:
        """Of all files but the manifest."""
        return sum(entry.bytes for entry in self.files.values())


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def encode(manifest: Manifest) -> bytes:
    """The one and only form of a manifest: `decode` refuses every other, so that no bit of it is unguarded."""
    body = asdict(manifest)
    return _canonical({**body, "digest": _digest(body)})


def decode(raw: bytes) -> Manifest:
    """The manifest of these bytes. Raises ValueError when a single bit of them is not as written."""
    try:
        body = json.loads(raw)
        if body["version"] != VERSION:
            raise ValueError(f"version {body['version']!r} is not {VERSION}")
        digest = body.pop("digest")
        body["files"] = {name: Entry(**entry) for name, entry in body["files"].items()}
        manifest = Manifest(**body)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"is not a manifest: {error!r}") from None
    if encode(manifest) != raw:
        raise ValueError(f"does not match its own digest {digest}")
    return manifest


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


def _digest(body: Mapping[str, Any]) -> str:
    return xxhash.xxh3_128_hexdigest(_canonical(body))


def read(path: str) -> Manifest:
    """The manifest of the checkpoint folder `path`. Raises CheckpointUnusable."""
    checkpoint = os.path.basename(path)
    try:
        with open_file(path, MANIFEST, checkpoint) as file:
            raw = file.read(_MANIFEST_BYTES_MAX)
    except OSError as error:
        raise unreadable(checkpoint, MANIFEST, error) from None
    try:
        manifest = decode(raw)
    except ValueError as error:
        raise CheckpointDamaged(checkpoint, MANIFEST, _why_not_json(error)) from None
    if manifest.name != checkpoint:
        raise CheckpointDamaged(checkpoint, MANIFEST, f"belongs to {manifest.name}")
    return manifest


def _why_not_json(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return f"is not the JSON that was written: {error}"
    return str(error)


def check_layout(path: str, manifest: Manifest) -> None:
    """No file is missing, extra or of another size; no byte is read. Raises CheckpointUnusable."""
    found = _sizes(path, manifest.name)
    for name, entry in sorted(manifest.files.items()):
        if name not in found:
            raise CheckpointDamaged(manifest.name, name, "is missing")
        if found[name] != entry.bytes:
            raise CheckpointDamaged(manifest.name, name, _resized(found[name], entry.bytes))
    for name in sorted(found.keys() - manifest.files.keys()):
        raise CheckpointDamaged(manifest.name, name, "is in no manifest")


def _sizes(path: str, checkpoint: str) -> dict[str, int | None]:
    try:
        with os.scandir(path) as found:
            return dict(_looked_at(found))
    except FileNotFoundError:
        raise _not_found(path, checkpoint) from None
    except OSError as error:
        raise unreadable(checkpoint, ".", error) from None


def _looked_at(found: Iterator[os.DirEntry[str]]) -> Iterator[tuple[str, int | None]]:
    for entry in found:
        # NFS keeps a deleted file that is still open under such a name; it is nobody's.
        if entry.name == MANIFEST or entry.name.startswith(".nfs"):
            continue
        status = entry.stat(follow_symlinks=False)
        yield entry.name, status.st_size if stat.S_ISREG(status.st_mode) else None


def _resized(found: int | None, meant: int) -> str:
    if found is None:
        return "is not a regular file"
    return f"was {'cut' if found < meant else 'grown'} to {found} of {meant} bytes"


def check_file(file: BinaryIO, name: str, manifest: Manifest) -> None:
    """Every byte of an open file is as meant; its position is left alone. Raises CheckpointUnusable.

    Read, not mapped: a dying disk answers `read` with an error that can be told, and a mapping with SIGBUS.
    """
    meant = manifest.files[name]
    try:
        size, digest = _hash(file)
    except OSError as error:
        raise unreadable(manifest.name, name, error) from None
    if size != meant.bytes:
        raise CheckpointDamaged(manifest.name, name, _resized(size, meant.bytes))
    if digest != meant.xxh3_128:
        raise CheckpointDamaged(manifest.name, name, _changed(name, digest, manifest))


def _hash(file: BinaryIO) -> tuple[int, str]:
    hashed, buffer, size = xxhash.xxh3_128(), memoryview(bytearray(_CHUNK_BYTES)), 0
    while count := os.preadv(file.fileno(), [buffer], size):
        hashed.update(buffer[:count])
        size += count
    return size, hashed.hexdigest()


def _changed(name: str, digest: str, manifest: Manifest) -> str:
    for other, entry in manifest.files.items():
        if other != name and entry.xxh3_128 == digest:
            return f"holds the bytes of {other}"
    return f"its bytes changed: digest {digest}, written as {manifest.files[name].xxh3_128}"


def open_file(path: str, name: str, checkpoint: str) -> BinaryIO:
    """One file of the checkpoint folder `path`. Raises CheckpointUnusable when it cannot be opened."""
    try:
        return open(os.path.join(path, name), "rb")
    except FileNotFoundError:
        raise _missing(path, name, checkpoint) from None
    except IsADirectoryError:
        raise CheckpointDamaged(checkpoint, name, "is not a regular file") from None
    except OSError as error:
        raise unreadable(checkpoint, name, error) from None


def unreadable(checkpoint: str, file: str, error: OSError) -> CheckpointUnreadable:
    """What the system said when it was asked for the bytes."""
    # Raised `from None`: a traceback that also shows `error` would be taken for a fault of its kind.
    return CheckpointUnreadable(checkpoint, file, f"cannot be read: {error.strerror or error}")


def _missing(path: str, name: str, checkpoint: str) -> CheckpointUnusable:
    """A file that was not found is missing where the folder can be listed and lacks it."""
    try:
        there = os.listdir(path)
    except FileNotFoundError:
        return _not_found(path, checkpoint)
    except OSError as error:
        return unreadable(checkpoint, ".", error)
    if name in there:
        return CheckpointUnreadable(checkpoint, name, f"cannot be read: {_LISTED}")
    return CheckpointDamaged(checkpoint, name, "is missing")


def _not_found(path: str, checkpoint: str) -> CheckpointUnusable:
    """A folder that was not found is gone where another checkpoint lies beside it.

    Where none does, this may be what is seen while a file system is not mounted: an empty folder, or what was put
    into it meanwhile.
    """
    try:
        beside = os.listdir(os.path.dirname(path) or ".")
    except OSError as error:
        return unreadable(checkpoint, ".", error)
    if checkpoint in beside:
        return CheckpointUnreadable(checkpoint, ".", f"cannot be read: {_LISTED}")
    if not any(map(parse_name, beside)):
        why = "cannot be read: its folder holds no checkpoint at all; is a file system not mounted?"
        return CheckpointUnreadable(checkpoint, ".", why)
    return CheckpointDamaged(checkpoint, ".", "is gone")


def verify(path: str, *, from_medium: bool = False) -> None:
    """Every byte of the checkpoint folder `path` is as it was meant when it was written. Raises CheckpointUnusable.

    `from_medium` drops the page cache first: right after a save it would only show what memory still holds.
    """
    manifest = read(path)
    check_layout(path, manifest)
    for name in sorted(manifest.files):
        with open_file(path, name, manifest.name) as file:
            if from_medium:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            check_file(file, name, manifest)

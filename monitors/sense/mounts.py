"""How much room is left where the run writes, and which mounts do not answer any more?"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from monitors.sense.host_reader import Question, Reader

MOUNTS_EVERY_S = 30.0
"""The table of mounts is long on hosts with many containers, and changes rarely."""
NETWORK = frozenset(
    "9p afs beegfs ceph cifs daos gfs2 glusterfs gpfs lustre nfs nfs4 ocfs2 orangefs panfs smb3 smbfs virtiofs wekafs"  # noqa: SIM905
    " fuse.ceph fuse.cvmfs2 fuse.dfuse fuse.gcsfuse fuse.glusterfs fuse.goofys fuse.juicefs fuse.rclone fuse.s3fs"
    " fuse.sshfs fuse.mount-s3 fuse.blobfuse2 fuse.quobyte fuse.seaweedfs".split()
)
"""file systems behind which another machine stands"""
IMAGES = frozenset("squashfs erofs iso9660 cramfs romfs udf".split())  # noqa: SIM905
"""always full, and never written"""
DEAD = frozenset(
    (
        errno.EIO,
        errno.ENXIO,
        errno.ENODEV,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ENOTCONN,
        errno.ESHUTDOWN,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ECONNREFUSED,
        errno.ECONNABORTED,
        errno.ECONNRESET,
        errno.EREMOTEIO,
    )
)
"""what a dead mount answers, where it answers: soft NFS mounts, FUSE without its process, a disk that is gone"""

_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One line of the table of mounts."""

    point: str
    kind: str
    writable: bool

    @property
    def holds_data(self) -> bool:
        """Bytes can be written there, so it can be full."""
        return self.writable and self.kind not in IMAGES


def parse(text: str) -> list[Mount]:
    """The mounts of /proc/PID/mountinfo: `36 35 98:0 / /mnt ro,noatime master:1 - ext3 /dev/root rw,errors=continue`.

    Of several on the same point, the newest is the one that is seen.
    """
    found: dict[str, Mount] = {}
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        words, kinds = before.split(), after.split()
        if len(words) < 6 or len(kinds) < 1:
            continue
        options = {*words[5].split(","), *(kinds[2].split(",") if len(kinds) > 2 else ())}
        point = _ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), words[4])
        found[point] = Mount(point=point, kind=kinds[0], writable="ro" not in options)
    return list(found.values())


def holder(mounts: Iterable[Mount], path: str) -> Mount | None:
    """The mount on which a path lies."""
    above = [m for m in mounts if path == m.point or path.startswith(m.point.rstrip("/") + "/")]
    return max(above, key=lambda mount: len(mount.point), default=None)


Room = tuple[str, int, int, float]
"""mount point, bytes, bytes free, share of inodes free"""


class Mounts:
    """Room below some paths, and the life of every network mount, as of the answers that came so far."""

    def __init__(self, paths: Sequence[str], *, table: Path = Path("/proc/self/mountinfo"), reader: Reader) -> None:
        self._paths = tuple(dict.fromkeys(os.path.abspath(path) for path in paths))
        self._table = table
        self._reader = reader
        self._mounts: list[Mount] = []
        self._read_at = float("-inf")
        self._rooms: dict[str, Room] = {}
        self._dead: dict[Question, str] = {}

    def look(self, now: float) -> tuple[tuple[Room, ...], tuple[str, ...]]:
        """Rooms, and mounts that do not answer. Raises OSError when there is no table of mounts."""
        if now - self._read_at >= MOUNTS_EVERY_S:
            self._mounts, self._read_at = parse(self._table.read_text(errors="replace")), now
        for answer in self._reader.answers(now):
            self._take(answer.question, answer.value)
        questions = self._questions()
        self._reader.ask(questions, now)
        self._rooms = {path: room for path, room in self._rooms.items() if ("mount", path) in questions}
        self._dead = {question: point for question, point in self._dead.items() if question in questions}
        rooms = {room[0]: room for room in self._rooms.values() if room[0]}
        return tuple(rooms.values()), tuple(sorted(set(self._dead.values())))

    def close(self) -> None:
        """End the reader."""
        self._reader.close()

    def _questions(self) -> list[Question]:
        # In a real folder's name there is no link: what was resolved once is known by its mount.
        network = (mount.point for mount in self._mounts if mount.kind in NETWORK)
        return [("mount", path) for path in dict.fromkeys((*self._paths, *network))]

    def _take(self, question: Question, value: dict[str, int | float | str] | None) -> None:
        path = question[1]
        if value is None or value.get("errno") in DEAD:
            mount = holder(self._mounts, path)
            self._dead[question] = mount.point if mount is not None else path
            return
        self._dead.pop(question, None)
        if "errno" in value:
            self._rooms.pop(path, None)
            return
        mount = holder(self._mounts, str(value["path"]))
        if mount is None or not mount.holds_data or path not in self._paths:
            self._rooms.pop(path, None)
            return
        self._rooms[path] = (
            mount.point,
            int(value["bytes"]),
            int(value["free"]),
            float(value["inodes_free_share"]),
        )

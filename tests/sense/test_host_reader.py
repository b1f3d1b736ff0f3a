"""Questions whose answer may never come: asked in a child, which is left alone when it hangs."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from monitors.sense.host_reader import COMMAND, RETRY_S, STUCK_MAX, Reader, mount
from monitors.sense.mounts import Mounts, holder, parse

WITHIN_S = 20.0
HANGS = """
import json, sys, time
for line in sys.stdin:
    for verb, path in json.loads(line):
        while "dead" in path:
            time.sleep(9)
        print(json.dumps({"path": path, "bytes": 100, "free": 50, "inodes_free_share": 1.0}), flush=True)
"""
"""a child to which everything called dead does not answer"""


@contextmanager
def reading(program: str | None = HANGS, deadline_s: float = 10.0) -> Iterator[Reader]:
    command = COMMAND if program is None else (sys.executable, "-I", "-S", "-c", program)
    reader = Reader(command, deadline_s=deadline_s)
    try:
        yield reader
    finally:
        reader.close()


def waited(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def asked(reader: Reader, paths: list[str], now: float, count: int) -> dict[str, bool]:
    """Path: whether it was answered."""
    found: dict[str, bool] = {}
    reader.ask([("mount", path) for path in paths], now)

    def look() -> bool:
        for answer in reader.answers(now):
            found[answer.question[1]] = answer.value is not None
        return len(found) >= count

    waited(look)
    return found


def test_what_hangs_is_left_alone_and_the_others_are_answered() -> None:
    with reading() as reader:
        assert asked(reader, ["/a", "/dead", "/b"], 0.0, count=1) == {"/a": True}
        assert reader.answers(5.0) == []
        assert reader.answers(9.9) == []
        (late,) = reader.answers(10.0)
        assert (late.question, late.value) == (("mount", "/dead"), None)
        assert reader.answers(11.0) == [], "told once"
        assert asked(reader, ["/a", "/dead", "/b"], 12.0, count=2) == {"/a": True, "/b": True}
        assert reader.stuck == (("mount", "/dead"),)
        # Its child could be ended; the question is put again after a while, and hangs again.
        assert asked(reader, ["/a"], 10.0 + RETRY_S - 1.0, count=1) == {"/a": True}
        assert reader.stuck == (("mount", "/dead"),)
        assert reader.answers(10.0 + RETRY_S) == []
        assert reader.stuck == ()


def test_nobody_waits_for_a_child_that_cannot_be_ended() -> None:
    """A stopped process stands for one in state D: it does not answer. Asking never takes longer than a look."""
    with reading(None) as reader:
        assert asked(reader, ["/"], 0.0, count=1) == {"/": True}
        assert reader._child is not None
        os.kill(reader._child.pid, signal.SIGSTOP)
        began = time.monotonic()
        reader.ask([("mount", "/")], 1.0)
        for second in range(1, 200):
            reader.answers(float(second))
            reader.ask([("mount", "/"), ("mount", "/tmp")], float(second))
        assert time.monotonic() - began < 5.0


def test_only_so_many_may_hang_at_the_same_time() -> None:
    with reading() as reader:
        for look in range(1, 20):
            reader.ask([("mount", f"/dead{n}") for n in range(9)], 2.0 * look)
            reader.answers(2.0 * look)
        assert 0 < len(reader.stuck) <= STUCK_MAX


def test_a_host_that_stood_still_as_a_whole_accuses_nobody() -> None:
    with reading() as reader:
        reader.ask([("mount", "/dead")], 0.0)
        assert reader.answers(3600.0) == []
        assert [answer.value for answer in reader.answers(3605.0)] == [None]


def test_a_child_that_somebody_ends_is_replaced() -> None:
    with reading() as reader:
        assert asked(reader, ["/a"], 0.0, count=1) == {"/a": True}
        assert reader._child is not None
        reader._child.kill()
        waited(lambda: reader.answers(1.0) == [] and reader._child is None)
        assert asked(reader, ["/b"], 2.0, count=1) == {"/b": True}


def test_the_child_ends_with_whoever_asks() -> None:
    reader = Reader()
    asked(reader, ["/"], 0.0, count=1)
    assert reader._child is not None
    child = reader._child
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(WITHIN_S) == 0
    reader.close()


@pytest.mark.parametrize(
    ("path", "known"), [("/", True), ("/no/such/folder/at/all", True), ("/proc/self/stat/x", True)]
)
def test_room_is_that_of_the_nearest_folder_above(path: str, known: bool) -> None:
    found = mount(path)
    assert ("bytes" in found) == known
    assert os.path.exists(found["path"])


def test_a_link_leads_to_where_it_points(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert mount(str(tmp_path / "link" / "later"))["path"] == str((tmp_path / "real").resolve())


# ------------------------------------------------------------------------------------------------ mounts

TABLE = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
28 27 0:5 / /data rw,relatime shared:2 - nfs4 server:/data rw,vers=4.2
29 27 7:1 / /snap/core/1 ro,nodev - squashfs /dev/loop1 ro
30 27 0:6 / /with\\040space rw - tmpfs tmpfs rw
31 27 0:7 / /data/dead rw - lustre mgs:/dead rw
32 27 0:8 / /auto rw - autofs systemd-1 rw,fd=29
33 27 0:9 / /image ro,relatime - overlay overlay ro,lowerdir=/a
34 27 0:10 / /data rw - nfs4 newer:/data rw
a line that is none
"""


def test_the_table_of_mounts() -> None:
    mounts = parse(TABLE)
    assert [mount.point for mount in mounts if mount.kind == "tmpfs"] == ["/with space"]
    assert len([mount for mount in mounts if mount.point == "/data"]) == 1
    assert {mount.point for mount in mounts if not mount.holds_data} == {"/snap/core/1", "/image"}
    found = {path: holder(mounts, path) for path in ("/data/a", "/database", "/data/dead", "/")}
    assert {path: mount.point for path, mount in found.items() if mount} == {
        "/data/a": "/data",
        "/database": "/",
        "/data/dead": "/data/dead",
        "/": "/",
    }


def watching(reader: Reader, tmp_path: Path, *paths: str) -> Mounts:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    return Mounts(paths, table=table, reader=reader)


def until_dead(mounts: Mounts, rooms: int) -> tuple[str, ...]:
    """Look until so many rooms are known, which takes no time; then let the time for an answer pass."""
    mounts.look(0.0)
    waited(lambda: len(mounts.look(0.0)[0]) == rooms)
    mounts.look(5.0)
    return mounts.look(10.0)[1]


def test_a_dead_file_server_is_a_dead_mount_and_the_others_are_measured(tmp_path: Path) -> None:
    with reading() as reader:
        mounts = watching(reader, tmp_path, "/", "/data/checkpoints", "/snap/core/1")
        assert until_dead(mounts, rooms=2) == ("/data/dead",)
        for _ in range(100):
            rooms, dead = mounts.look(11.0)
            assert {room[0] for room in rooms} == {"/", "/data"}
            assert dead == ("/data/dead",)


@pytest.mark.parametrize(("number", "is_dead"), [(116, True), (107, True), (5, True), (13, False), (1, False)])
def test_what_a_dead_mount_answers(number: int, is_dead: bool, tmp_path: Path) -> None:
    program = HANGS.replace(
        "while", f"if path == '/data': print('{{\"errno\": {number}}}', flush=True); continue\n        while"
    )
    with reading(program) as reader:
        mounts = watching(reader, tmp_path, "/data", "/")
        mounts.look(0.0)
        waited(lambda: {room[0] for room in mounts.look(0.0)[0]} == {"/"})
        assert mounts.look(0.0)[1] == (("/data",) if is_dead else ())


def test_a_mount_that_is_gone_is_not_dead(tmp_path: Path) -> None:
    with reading() as reader:
        mounts = watching(reader, tmp_path, "/")
        assert until_dead(mounts, rooms=1) == ("/data/dead",)
        (tmp_path / "mountinfo").write_text(TABLE.splitlines()[0] + "\n")
        waited(lambda: mounts.look(30.0)[1] == ())

"""Is the journal followed through `journalctl`, and is it said when nobody may read it?"""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitors.hardware import KernelSaw
from monitors.sense.kernel import RETRY_S, Kernel
from monitors.sense.kernel_journal import Journal
from monitors.sense.kernel_sources import Kmsg, Line
from monitors.signals import Blind

LOST = "NVRM: Xid (PCI:0000:c1:00): 79, GPU has fallen off the bus."
BOOTED = 1_700_000_000.0


def blind(signals: list[object]) -> list[str]:
    """Why it is blind, each time that it was said."""
    return [one.why for one in signals if isinstance(one, Blind)]


JOURNALCTL = """#!/bin/sh
echo "$@" >> {folder}/asked
cat {folder}/entries
[ -e {folder}/ends ] && exit 1
exec sleep 600
"""


class Journald:
    """A journal with a `journalctl` that prints its entries and follows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "journalctl"
        self.program.write_text(JOURNALCTL.format(folder=folder))
        self.program.chmod(self.program.stat().st_mode | stat.S_IXUSR)
        (folder / "0123").mkdir()
        (folder / "0123" / "system.journal").write_bytes(b"")
        (folder / "entries").write_text("")

    def has(self, *entries: object) -> None:
        """What it prints."""
        (self.folder / "entries").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))

    def asked(self) -> list[str]:
        """With which words it was started."""
        return (self.folder / "asked").read_text().splitlines()

    def source(self) -> Journal:
        """A reader of it."""
        return Journal(lookback_s=60.0, program=str(self.program), folders=(self.folder,))


@pytest.fixture
def journald(tmp_path: Path) -> Journald:
    return Journald(tmp_path)


@pytest.fixture
def opened(journald: Journald) -> Iterator[Journal]:
    source = journald.source()
    yield source
    source.close()


def lines_of(source: Journal, count: int) -> list[Line]:
    """The first lines that come."""
    deadline, found = time.monotonic() + 20, list[Line]()
    while len(found) < count:
        assert time.monotonic() < deadline
        found += source.read(BOOTED)
        time.sleep(0.01)
    return found


def test_the_journal_is_followed_and_taken_up_where_it_was_left(journald: Journald, opened: Journal) -> None:
    journald.has(
        {"__CURSOR": "s=1", "__REALTIME_TIMESTAMP": "1699999990500000", "MESSAGE": LOST},
        {"__CURSOR": "s=2", "__REALTIME_TIMESTAMP": "soon", "MESSAGE": [*LOST.encode(), 255]},
        {"__CURSOR": "s=3", "MESSAGE": None},
        {"MESSAGE": [1, 999]},
        ["MESSAGE"],
        {"__CURSOR": "s=4", "__REALTIME_TIMESTAMP": "9999999999000000", "MESSAGE": "the end"},
    )
    opened.open(BOOTED)
    found = lines_of(opened, 3)
    assert [(line.at, line.text) for line in found] == [
        (BOOTED - 9.5, LOST),
        (BOOTED, LOST + "\ufffd"),
        (BOOTED, "the end"),
    ]
    opened.close()
    opened.open(BOOTED)
    lines_of(opened, 3)
    first, second = journald.asked()
    assert f"--since=@{BOOTED - 60:.0f}" in first
    assert "--after-cursor=s=4" in second


def test_a_journal_that_ends_is_said_and_opened_again(journald: Journald, tmp_path: Path) -> None:
    journald.has({"__CURSOR": "s=1", "MESSAGE": LOST})
    (tmp_path / "ends").write_text("")
    kernel = Kernel(node=0, doors=[Kmsg(tmp_path / "none", lookback_s=1), journald.source()])
    deadline, found = time.monotonic() + 20, list[object]()
    while not blind(found):
        assert time.monotonic() < deadline
        found += kernel.look(BOOTED)
        time.sleep(0.01)
    assert [one.fault for one in found if isinstance(one, KernelSaw)] == ["gpu_lost"]
    assert "ended with" in blind(found)[0]
    (tmp_path / "ends").unlink()
    assert blind([*kernel.look(BOOTED + RETRY_S)]) == [""]
    kernel.close()


def test_who_may_read_nothing_is_told_how_to(journald: Journald, tmp_path: Path) -> None:
    (tmp_path / "0123" / "system.journal").unlink()
    kernel = Kernel(node=5, doors=[Kmsg(tmp_path / "kmsg", lookback_s=1), journald.source()])
    [one] = kernel.look(BOOTED)
    assert isinstance(one, Blind)
    assert (one.node, one.sense) == (5, "kernel")
    assert f"{tmp_path / 'kmsg'}: No such file or directory" in one.why
    assert "the journal: it keeps no files here" in one.why
    assert "`" in one.why, "a command"
    assert kernel.look(BOOTED + RETRY_S) == []
    journald_less = Journal(lookback_s=1, program="no-such-journalctl")
    with pytest.raises(FileNotFoundError):
        journald_less.open(BOOTED)

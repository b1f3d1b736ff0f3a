"""Is the kernel's log followed wherever it can be read, and is it said when it cannot?"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitors.clock import SystemClock
from monitors.hardware import KernelSaw
from monitors.sense.kernel import RETRY_FILE_S, Kernel, sources
from monitors.sense.kernel_journal import Journal
from monitors.sense.kernel_sources import CHUNK_BYTES, GONE_S, RECORDS, File, Kmsg, Lines, kmsg, stamp
from monitors.signals import Blind

LOST = "NVRM: Xid (PCI:0000:c1:00): 79, GPU has fallen off the bus."
BOOTED = 1_700_000_000.0


class Ring:
    """A kernel log with a device that behaves like /dev/kmsg: one record a read, overwritten when it is full."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(b"")
        self.path = path
        self.up_s = 1000.0
        self._records: list[tuple[int, bytes]] = []
        self._next = 0
        self._at = 0

    def write(self, text: str, *, at_s: float | None = None, flags: str = "-") -> None:
        """A new record, written now or `at_s` after the start of the kernel."""
        microseconds = round((self.up_s if at_s is None else at_s) * 1e6)
        self._records.append((self._next, f"4,{self._next},{microseconds},{flags};{text}\n SUBSYSTEM=x\n".encode()))
        self._next += 1

    def overwrite(self, count: int) -> None:
        """The oldest records are gone."""
        del self._records[:count]

    def rewind(self) -> None:
        """The device was opened again."""
        self._at = 0

    def read(self, file: int, most: int) -> bytes:
        """As the kernel answers a read of a non-blocking reader."""
        assert file >= 0
        oldest = self._records[0][0] if self._records else self._next
        if self._at < oldest:
            self._at = oldest
            raise BrokenPipeError(errno.EPIPE, "overwritten")
        for number, record in self._records:
            if number >= self._at:
                assert len(record) <= most
                self._at = number + 1
                return record
        raise BlockingIOError(errno.EAGAIN, "nothing more")

    def source(self, lookback_s: float = 60.0) -> Kmsg:
        """A reader of this log."""
        return Kmsg(self.path, lookback_s=lookback_s, uptime=lambda: self.up_s, read=self.read)


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    return Ring(tmp_path / "kmsg")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "kern.log"


def saw(signals: object) -> list[tuple[str, int]]:
    """Class and count of every line that was seen."""
    assert isinstance(signals, list)
    return [(one.fault, one.count) for one in signals if isinstance(one, KernelSaw)]


def blind(signals: object) -> list[str]:
    """Why it is blind, each time that it was said."""
    assert isinstance(signals, list)
    return [one.why for one in signals if isinstance(one, Blind)]


def test_a_record_becomes_a_signal_with_its_time_its_gpu_and_its_uuid(ring: Ring) -> None:
    kernel = Kernel(node=3, doors=[ring.source()], device_of={"0000:c1:00": "GPU-7"}.get)
    now = BOOTED + ring.up_s
    assert kernel.look(now - 1) == []
    ring.write(LOST, at_s=999.5, flags="-,caller=T7")
    [one] = kernel.look(now)
    assert one == KernelSaw(
        at=BOOTED + 999.5,
        node=3,
        fault="gpu_lost",
        action="reboot_node",
        xid=79,
        pci="0000:c1:00",
        device="GPU-7",
        text=LOST,
    )
    assert kernel.look(now) == []


def test_it_looks_back_a_minute_and_not_further(ring: Ring) -> None:
    ring.write(LOST, at_s=900.0)
    ring.write("nvme nvme0: resetting controller", at_s=950.0)
    ring.write("a record of tomorrow: VFS: file-max limit 7 reached", at_s=5000.0)
    kernel = Kernel(node=0, doors=[ring.source()])
    now = BOOTED + ring.up_s
    assert saw(found := kernel.look(now)) == [("nvme_reset", 1), ("host_fd_limit", 1)]
    assert max(one.at for one in found) == now, "nothing is in the future"


def test_a_clock_of_the_kernel_that_drifted_hides_nothing(ring: Ring) -> None:
    kernel = Kernel(node=0, doors=[ring.source()])
    now = BOOTED + ring.up_s
    assert kernel.look(now) == []
    ring.write(LOST, at_s=ring.up_s - 600)
    [one] = kernel.look(now + 0.5)
    assert one.at == now, "it was not there before"


def test_records_that_were_overwritten_are_counted_and_the_rest_is_read(ring: Ring) -> None:
    kernel = Kernel(node=0, doors=[ring.source()])
    now = BOOTED + ring.up_s
    ring.write("first")
    kernel.look(now)
    for _ in range(100):
        ring.write("noise")
    ring.write(LOST)
    ring.overwrite(91)
    found = kernel.look(now)
    assert saw(found) == [("gpu_lost", 1)]
    assert blind(found) == ["90 lines were overwritten before they were read", ""]
    assert blind(kernel.look(now)) == []


def test_a_flood_is_read_in_turns_and_in_a_hurry(ring: Ring) -> None:
    kernel = Kernel(node=0, doors=[ring.source()])
    now = BOOTED + ring.up_s
    for _ in range(RECORDS + 10):
        ring.write(LOST)
    assert saw(kernel.look(now)) == [("gpu_lost", RECORDS)]
    assert kernel.every_s < 0.1
    assert saw(kernel.look(now + 5)) == [("gpu_lost", 10)]
    assert kernel.every_s >= 0.5


def test_what_was_read_before_it_was_opened_again_is_not_told_again(ring: Ring) -> None:
    source = ring.source()
    source.open(now := BOOTED + ring.up_s)
    ring.write("one")
    assert [line.text for line in source.read(now)] == ["one"]
    source.close()
    ring.write("two")
    ring.rewind()
    source.open(now)
    assert [line.text for line in source.read(now)] == ["two"]
    source.close()


def test_several_lines_in_one_record_are_one_message(ring: Ring) -> None:
    kernel = Kernel(node=0, doors=[ring.source()])
    now = BOOTED + ring.up_s
    ring.write("NVRM: The NVIDIA GPU 0000:ab:00.0\\x0aNVRM: (PCI ID: 10de:2901) has\\x0aNVRM: fallen off the bus and")
    [one] = kernel.look(now)
    assert isinstance(one, KernelSaw)
    assert (one.fault, one.pci) == ("gpu_lost", "0000:ab:00.0")


@pytest.mark.skipif(not os.access("/dev/kmsg", os.R_OK), reason="/dev/kmsg may not be read here")
def test_the_real_log_is_read_from_its_beginning() -> None:
    clock = SystemClock()
    source = Kmsg(lookback_s=1e9)
    try:
        source.open(clock.now())
    except OSError as error:
        pytest.skip(f"/dev/kmsg: {error}")
    lines = source.read(clock.now())
    source.close()
    assert all(0 < line.at <= clock.now() for line in lines)
    assert all(line.text for line in lines[:1])


def test_a_file_is_followed_through_rotation_and_truncation(log: Path) -> None:
    log.write_text("old: " + LOST + "\n")
    kernel = Kernel(node=0, source=log)
    assert kernel.look(0.0) == [], "nobody knows how old it is"
    with log.open("a") as file:
        file.write("Jan  1 00:00:00 host kernel: " + LOST[:20])
    assert kernel.look(1.0) == []
    with log.open("a") as file:
        file.write(LOST[20:] + "\n")
    assert saw(kernel.look(2.0)) == [("gpu_lost", 1)]
    log.rename(log.with_suffix(".1"))
    assert kernel.look(3.0) == [], "it is being rotated"
    log.write_text("VFS: file-max limit 7 reached\n")
    assert saw([*kernel.look(4.0), *kernel.look(4.1)]) == [("host_fd_limit", 1)]
    log.write_text("x\n")
    kernel.look(5.0)
    kernel.look(5.1)
    with log.open("a") as file:
        file.write("nvme nvme0: resetting controller\n")
    assert saw(kernel.look(5.2)) == [("nvme_reset", 1)]
    kernel.close()


def test_a_file_that_comes_later_is_new_and_one_that_goes_is_missed(log: Path) -> None:
    kernel = Kernel(node=0, source=log)
    [why] = blind(kernel.look(0.0))
    assert str(log) in why
    assert "No such file" in why
    assert kernel.look(0.1) == [], "said once"
    log.write_text(LOST + "\n")
    found = kernel.look(RETRY_FILE_S)
    assert blind(found) == [""]
    assert saw(found) == [("gpu_lost", 1)]
    log.unlink()
    assert blind(kernel.look(10.0)) == []
    assert len(blind(kernel.look(10.1 + GONE_S))) == 1
    kernel.close()


def test_a_file_that_could_not_be_read_before_is_not_new(log: Path) -> None:
    source = File(log, lookback_s=60.0)
    log.mkdir()
    source.open(0.0)
    with pytest.raises(IsADirectoryError):
        source.read(0.0)
    source.close()
    log.rmdir()
    log.write_text(LOST + "\n")
    source.open(1.0)
    assert source.read(1.0) == []
    source.close()


def test_dated_lines_at_the_beginning_are_looked_back_to(log: Path) -> None:
    log.write_text(
        "2023-11-14T22:12:00.000000+00:00 host kernel: " + LOST + "\n"
        "2023-11-14T23:13:10.500000+01:00 host kernel: VFS: file-max limit 7 reached\n"
        "Nov 14 22:13:19 host kernel: " + LOST + "\n"
    )
    kernel = Kernel(node=0, source=log)
    [one] = kernel.look(BOOTED)
    assert isinstance(one, KernelSaw)
    assert (one.fault, one.at) == ("host_fd_limit", BOOTED - 9.5)
    kernel.close()


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("6,1,2500000,-;x", 102.5),
        ("[    2.500000] x", 102.5),
        ("<4>[    2.500000] x", 102.5),
        ("1970-01-01T00:01:42.5+00:00 x", 102.5),
        ("kern  :warn  : 1970-01-01T00:01:42,500000+00:00 x", 102.5),
        ("2026-99-99T00:00:00Z x", None),
        ("May 19 07:08:57 x", None),
        ("x", None),
    ],
)
def test_a_line_says_when_it_was_written_or_does_not(text: str, at: float | None) -> None:
    assert stamp(text, 100.0) == at


def test_an_endless_line_costs_little_and_hides_nothing(log: Path) -> None:
    log.write_bytes(b"")
    kernel = Kernel(node=0, source=log)
    kernel.look(0.0)
    log.write_bytes(b"x" * 10_000_000 + b"\n" + LOST.encode() + b"\n" + bytes(range(256)) * 100 + b"\n")
    found, spent_s = [], []
    for turn in range(10_000_000 // CHUNK_BYTES + 3):
        began_s = time.process_time()
        found += kernel.look(float(turn))
        spent_s.append(time.process_time() - began_s)
    assert saw(found) == [("gpu_lost", 1)]
    assert sorted(spent_s)[-2] < 0.05
    kernel.close()


def test_of_a_long_line_the_beginning_is_kept() -> None:
    lines = Lines(4)
    assert lines.feed(b"abc") == []
    assert lines.feed(b"defgh") == []
    assert lines.feed(b"i\n\nxy\n12345\nrest and more") == [b"abcd", b"xy", b"1234"]
    assert lines.feed(b"\n") == [b"rest"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=10))
def test_lines_are_the_same_however_they_come(chunks: list[bytes]) -> None:
    lines = Lines(50)
    found = [line for chunk in [*chunks, b"\n"] for line in lines.feed(chunk)]
    assert found == [line[:50] for line in b"".join(chunks).split(b"\n") if line]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300) | st.builds(lambda rest: b"4,1,2,-;" + rest, st.binary(max_size=300)))
def test_no_record_breaks_the_reader(record: bytes) -> None:
    read = kmsg(record)
    assert read is None or (read[0] >= 0 and isinstance(read[2], str))


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=2000))
def test_no_file_breaks_the_sense(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "log"
    path.write_bytes(b"")
    kernel = Kernel(node=0, source=path)
    kernel.look(0.0)
    path.write_bytes(content + b"\n" + LOST.encode() + b"\n")
    assert "gpu_lost" in [fault for fault, _ in saw(kernel.look(1.0))]
    kernel.close()


def test_a_line_can_be_fed(ring: Ring) -> None:
    kernel = Kernel(node=0, doors=[ring.source()])
    assert saw(kernel.feed(LOST, 7.0)) == [("gpu_lost", 1)]
    assert kernel.feed("all is well", 8.0) == []


def test_a_sites_catalogue_is_read(tmp_path: Path, log: Path) -> None:
    site = tmp_path / "site.json"
    site.write_text('{"faults": {"gpu_lost": {"action": "isolate_node"}}}')
    kernel = Kernel(node=0, source=log, overrides=site)
    [one] = kernel.feed(LOST, 7.0)
    assert isinstance(one, KernelSaw)
    assert one.action == "isolate_node"
    site.write_text('{"faults": {"gpu_lost": {"action": "pray"}}}')
    with pytest.raises(ValueError, match="pray is not one of"):
        Kernel(node=0, source=log, overrides=site)


def test_a_file_source_is_a_file_and_a_device_is_the_kernel(log: Path) -> None:
    assert [type(one) for one in sources(None)] == [Kmsg, Journal]
    assert [type(one) for one in sources(log)] == [File]
    assert [type(one) for one in sources(Path("/dev/null"))] == [Kmsg]

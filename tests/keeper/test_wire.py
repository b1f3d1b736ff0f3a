"""Does a copy count that is not, byte for byte, what was written? Two ends of one connection."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from room import RUN, content, until, write

from jobs.keeper import shelf, wire
from jobs.keeper.mirror import JUDGED, MISSED, SETTLING, UNREACHED_S, Arrivals, Mirror, Partner
from jobs.keeper.shelf import NoRoom, Shelf
from lastgood import header
from lastgood.header import BODY, Head

BODY_BYTES = 3 * wire.PART + 12345
"""some parts, so that something can happen between them"""


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Of a connection over TCP, which is what `os.sendfile` is used on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    with one, other:
        yield one, other


def files() -> tuple[int, int]:
    return shelf.made(0, 2)


def received(
    ends: tuple[socket.socket, socket.socket], source: int, head: Head, sent: Callable[[int], None] = lambda _: None
) -> tuple[bool, bool, int]:
    """What both ends say, and the file."""
    target, said = files()[0], []
    os.posix_fallocate(target, 0, head.size)
    write(target, 1, body=b"what was there before")
    taking = threading.Thread(target=lambda: said.append(wire.receive(ends[1], target, head)))
    taking.start()
    whole = wire.send(ends[0], source, head, sent)
    taking.join()
    return whole, said[0], target


def test_what_arrives_is_what_was_written(ends: tuple[socket.socket, socket.socket]) -> None:
    source, _ = files()
    head = write(source, 5, body=os.urandom(BODY_BYTES))
    whole, counts, target = received(ends, source, head)
    assert (whole, counts) == (True, True)
    assert content(target) == content(source)


def test_a_copy_that_is_overwritten_on_the_way_is_none(ends: tuple[socket.socket, socket.socket]) -> None:
    source, _ = files()
    head = write(source, 5, body=os.urandom(BODY_BYTES))
    whole, counts, target = received(ends, source, head, lambda at: header.begin(source) if at > BODY else None)
    assert (whole, counts, header.look(target)) == (False, False, None)


def test_a_copy_with_one_other_bit_is_none(ends: tuple[socket.socket, socket.socket]) -> None:
    source, _ = files()
    head = write(source, 5, body=os.urandom(BODY_BYTES))
    at = BODY + 2 * wire.PART
    (byte,) = os.pread(source, 1, at)
    os.pwrite(source, bytes([byte ^ 4]), at)
    whole, counts, target = received(ends, source, head)
    assert (whole, counts, header.look(target)) == (True, False, None)


@pytest.mark.parametrize("said", [[20], [10, wire._END], [wire._TORN]], ids=["too long", "too short", "given up"])
def test_what_is_not_as_long_as_it_said_is_none(ends: tuple[socket.socket, socket.socket], said: list[int]) -> None:
    target = files()[0]
    os.posix_fallocate(target, 0, 4096)
    head = Head(body=4, tail=8, digest=bytes(16))
    for count in said:
        ends[0].sendall(wire._LENGTH.pack(count) + (bytes(count) if count < 100 else b""))
    if said == [20]:
        with pytest.raises(wire.Broken):
            wire.receive(ends[1], target, head)
    else:
        assert not wire.receive(ends[1], target, head)
    assert header.look(target) is None


def test_a_connection_that_ends_in_the_middle_leaves_no_copy(ends: tuple[socket.socket, socket.socket]) -> None:
    target = files()[0]
    os.posix_fallocate(target, 0, 4096)
    ends[0].sendall(wire._LENGTH.pack(100) + bytes(50))
    ends[0].close()
    with pytest.raises(ConnectionError):
        wire.receive(ends[1], target, Head(body=92, tail=8, digest=bytes(16)))
    assert header.look(target) is None


# What is held


def test_the_newest_copy_is_never_written_over() -> None:
    kept = Shelf(RUN, lambda: 1 << 30)
    for step in range(1, 6):
        with kept.writing(3, 1, 4096) as fd:
            write(fd, step, rank=3)
        assert max(one.key for one in kept.held(3)) == (1, step)
    assert [one.key for one in kept.held(3)] == [(1, 5), (1, 4)]


def test_without_room_others_are_left_out_unless_older_ones_can_go() -> None:
    free = 100_000
    kept = Shelf(RUN, lambda: free)
    with kept.writing(3, 1, 30_000) as fd:
        write(fd, 1, rank=3)
    free = 10_000
    with pytest.raises(NoRoom, match="may be taken"), kept.writing(4, 1, 20_000):
        pass
    with kept.writing(4, 2, 20_000) as fd:
        write(fd, 1, rank=4, world=2)
    assert [(one.facts.rank, one.key) for one in kept.held()] == [(4, (2, 1))]
    with pytest.raises(NoRoom, match="no files here"), kept.writing(5, 2, 100, own=True):
        pass


def test_copies_of_another_run_are_not_held() -> None:
    kept = Shelf("another", lambda: 1 << 30)
    with kept.writing(0, 1, 4096) as fd:
        write(fd, 1)
    assert kept.held() == []


# Whether they arrive


def seen(arrivals: Arrivals, pattern: str, world: int = 1) -> bool:
    for one in pattern:
        arrivals.see(world, arrived=one == "+")
    return arrivals.too_slow


def test_a_network_that_is_too_slow_is_told_and_one_that_was_is_not() -> None:
    arrivals = Arrivals()
    assert not seen(arrivals, "-" * SETTLING), "ranks find out how often they may"
    assert not seen(arrivals, "+" * JUDGED)
    assert not seen(arrivals, "-" * (MISSED - 1))
    assert seen(arrivals, "-")
    assert seen(arrivals, "+" * (JUDGED - 1))
    assert not seen(arrivals, "+")


class Time:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at


def test_a_partner_that_is_not_there_is_told_after_a_while() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    kept, clock = Shelf(RUN, lambda: 1 << 30), Time()
    source = files()
    kept.keep(0, source)
    write(source[0], 1)
    mirror = Mirror(0, kept, key=lambda: b"key", clock=clock)
    mirror.send_to(Partner(host="127.0.0.1", port=port))
    mirror.start()
    until(lambda: mirror._failing_since is not None, "try")
    assert mirror.why == ""
    clock.at += UNREACHED_S
    assert f"127.0.0.1:{port}" in mirror.why
    mirror.send_to(None)
    assert mirror.why == ""

"""Whose connections end when a rank leaves the groups of its world?"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lastgood import parting


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack
    parting.forget()


def connected(held: ExitStack) -> tuple[socket.socket, socket.socket]:
    server = held.enter_context(socket.create_server(("127.0.0.1", 0)))
    ours = held.enter_context(socket.create_connection(server.getsockname()))
    theirs = held.enter_context(server.accept()[0])
    ours.settimeout(5.0)
    return ours, theirs


def test_the_groups_connections_end_and_no_others(held: ExitStack) -> None:
    kept, its_peer = connected(held)
    with parting.remembered():
        made, _ = connected(held)
    parting.disconnect()
    assert made.recv(1) == b""
    its_peer.send(b"x")
    assert kept.recv(1) == b"x"


def test_a_rank_that_is_just_making_a_group_is_woken_as_often_as_it_takes(held: ExitStack) -> None:
    with parting.remembered():
        parting.disconnect()
        made, _ = connected(held)  # after it was ordered to leave: it was on its way
        parting.disconnect()
        assert made.recv(1) == b""

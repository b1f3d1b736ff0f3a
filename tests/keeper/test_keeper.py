"""Do copies outlive who made them, and does nobody else get at them? Real keepers, in processes of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest
from room import RUN, Room, content, marks, until, write

from jobs.keeper import door, wire
from lastgood import header


def test_files_outlive_the_agent_that_gave_them(room: Room) -> None:
    room.start()
    first = room.node(attempt=1, ranks=[0, 1])
    write(first.files[1][0], 5, rank=1)
    said = content(first.files[1][0])
    first.leave()
    second = room.node(attempt=2, ranks=[0, 1])
    assert second.held == [(1, 1, 5)]
    assert content(second.files[1][0]) == said


def test_an_agent_of_an_older_attempt_is_not_heard_any_more(room: Room) -> None:
    room.start()
    older, _newer = room.node(attempt=2), room.node(attempt=3)
    with pytest.raises(OSError, match="attempt 3 has the keeper"):
        room.node(attempt=2)
    with pytest.raises(OSError, match="a newer attempt"):
        older.client.ask({"ask": "keep", "rank": 7})


def test_it_ends_when_no_agent_has_been_there_for_long(room: Room) -> None:
    process = room.start(alone_s=1.0)
    agent = room.node()
    watched = time.monotonic() + 2.0
    while time.monotonic() < watched:
        assert process.poll() is None, "its agent is there"
        time.sleep(0.05)
    agent.leave()
    assert process.wait(10) == 0
    assert door.nodes_here(room.home, RUN) == []


def test_it_ends_at_once_when_the_run_is_over(room: Room) -> None:
    processes = [room.start(node) for node in (0, 1)]
    room.node(0)
    assert door.nodes_here(room.home, RUN) == [0, 1]
    door.dismiss(room.home, "another")
    door.dismiss(room.home, RUN)
    assert [process.wait(10) for process in processes] == [0, 0]


def test_a_place_has_one_keeper(room: Room) -> None:
    first = room.start()
    second = room.start()
    assert second.wait(10) == 0
    assert first.poll() is None
    room.processes[0] = first


def test_a_stranger_gets_nothing(room: Room) -> None:
    room.start()
    node = room.node()
    write(node.files[0][0], 5)
    with pytest.raises((wire.Stranger, ConnectionError)):
        wire.dial("127.0.0.1", node.port, b"a guess")
    with pytest.raises((wire.Stranger, ConnectionError)):
        wire.dial("127.0.0.1", node.port, wire.secret(room.home, "another run"))
    with socket.create_connection(("127.0.0.1", node.port)) as silent:
        silent.sendall(b"GET / HTTP/1.0\r\n\r\n" + bytes(100))
        silent.settimeout(10.0)
        assert len(silent.recv(1000)) <= 32, "a challenge, and nothing else"
    assert node.held == [(0, 1, 5)], "it is still there"


def test_a_keeper_that_does_not_know_the_secret_is_told_nothing(room: Room) -> None:
    """Whoever took the port of a keeper that has died."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        room.start()
        node = room.node()
        node.client.ask({"ask": "send", "host": "127.0.0.1", "port": server.getsockname()[1]})
        write(node.files[0][0], 5)
        server.settimeout(10.0)
        connection, _ = server.accept()
        with connection:
            connection.sendall(bytes(32))
            assert len(wire._exactly(connection, 64)) == 64
            connection.sendall(bytes(32))
            assert connection.recv(1) == b"", "it hung up"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_another_user_of_the_host_is_sent_away(room: Room) -> None:
    room.start()
    name = door.name(room.home, RUN, 0)
    code = (
        "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET);"
        "s.settimeout(10); s.connect('\\0' + sys.argv[1]); s.send(b'{\"ask\": \"leave\"}'); print(s.recv(100))"
    )
    said = subprocess.run((sys.executable, "-S", "-c", code, name), capture_output=True, text=True, check=False)
    assert said.stdout.strip() != "b'{}'", said
    assert room.processes[0].poll() is None
    room.node()


def test_every_copy_comes_to_the_partner_and_two_of_them_stay(room: Room) -> None:
    for number in (0, 1):
        room.start(number)
    sends, holds = room.node(0), room.node(1)
    sends.client.ask({"ask": "send", "host": "127.0.0.1", "port": holds.port})
    files = sends.files[0]
    first = write(files[0], 1)
    write(holds.files[1][0], 1, rank=1)
    until(lambda: marks(files[0])["sent"] == first.mark, "copy of step 1")
    assert marks(files[0])["took_us"] > 0
    for step in range(2, 8):
        head = write(files[step % 2], step)
        until(lambda step=step, head=head: marks(files[step % 2])["sent"] == head.mark, f"copy of step {step}")
        assert holds.held == [(0, 1, step - 1), (0, 1, step), (1, 1, 1)]
    assert sends.client.ask({"ask": "look"})[0]["why"] == ""


def test_a_node_gives_its_own_ranks_their_room_first(room: Room) -> None:
    for number in (0, 1):
        room.start(number)
    sends, holds = room.node(0), room.node(1)
    sends.client.ask({"ask": "send", "host": "127.0.0.1", "port": holds.port})
    head = write(sends.files[0][0], 1)
    until(lambda: "made no copies of their own" in (room.home / "keeper0.log").read_text(), "refusal")
    assert holds.held == []
    write(holds.files[1][0], 1, rank=1)
    until(lambda: marks(sends.files[0][0])["sent"] == head.mark, "copy, now that there is room")


def test_a_node_that_lost_its_copies_gets_them_back(room: Room) -> None:
    for number in (0, 1):
        room.start(number)
    holds, lost = room.node(0), room.node(1)
    lost.client.ask({"ask": "send", "host": "127.0.0.1", "port": holds.port})
    write(holds.files[0][0], 6)
    for step in (6, 7):
        head = write(lost.files[1][step % 2], step, rank=1)
        until(lambda step=step, head=head: marks(lost.files[1][step % 2])["sent"] == head.mark, "copy")
    said = content(lost.files[1][1])
    room.kill(1)
    lost.leave()
    room.start(1)
    new = room.node(1, attempt=2)
    assert new.held == []
    fetch = {"ask": "fetch", "from": [[1, "127.0.0.1", holds.port]]}
    assert new.client.ask(fetch)[0] == {"why": ""}
    assert new.held == [(1, 1, 6), (1, 1, 7)]
    newest = next(fd for fd in new.files[1] if content(fd) == said)
    head = header.look(newest)
    assert head is not None
    assert marks(newest)["fetched"] == head.mark
    write(new.files[1][0], 8, rank=1, world=2)
    assert new.client.ask(fetch)[0] == {"why": ""}
    assert (1, 2, 8) in new.held, "what is newer is never overwritten"


def test_a_source_that_is_gone_is_told_and_not_waited_for(room: Room) -> None:
    room.start()
    node = room.node()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert "could not be fetched" in node.client.ask({"ask": "fetch", "from": [[0, "127.0.0.1", port]]})[0]["why"]

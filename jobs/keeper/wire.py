"""How does a copy travel from one keeper to another? Both prove first that they know the secret of the run.

The secret is made of the token of the state folder and the run's name, and never sent: each end answers the other's
random challenge. Then requests and answers are lines of JSON behind their length, and a copy is parts behind theirs,
from one file in memory to another, without a copy in between; what was overwritten on the way is given up.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import mmap
import os
import secrets
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xxhash

from lastgood import header
from lastgood.header import BODY, Head

PART = 8 << 20
"""bytes between two looks at whether the copy is still the same"""
LINE_BYTES = 1 << 20
SILENCE_S = 20.0
"""of the other end, after which it counts as gone"""
GREET_S = 5.0
_NONCE = 32
_LENGTH = struct.Struct("<Q")
_END, _TORN = 0, (1 << 64) - 1
_TIMEVAL = struct.Struct("ll")


class Stranger(Exception):
    """The other end does not know the secret."""


class Broken(Exception):
    """What came is not what a keeper says."""


def secret(home: Path, run: str) -> bytes:
    """Of a run. Read anew each time: a token may be replaced. Raises OSError."""
    token = (home / "token").read_bytes().strip()
    return hmac.digest(token, b"keeper of " + run.encode(), hashlib.sha256)


def dial(host: str, port: int, key: bytes) -> socket.socket:
    """A connection to a keeper of the run. Raises OSError or Stranger."""
    connection = socket.create_connection((host, port), timeout=GREET_S)
    try:
        challenge = _exactly(connection, _NONCE)
        ours = secrets.token_bytes(_NONCE)
        connection.sendall(ours + _proof(key, b"dials", challenge, ours))
        if not hmac.compare_digest(_exactly(connection, 32), _proof(key, b"answers", challenge, ours)):
            raise Stranger(f"{host}:{port} does not know the secret of this run")
        _settle(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def admit(connection: socket.socket, key: bytes) -> None:
    """The other end of `dial`. Raises OSError or Stranger."""
    connection.settimeout(GREET_S)
    challenge = secrets.token_bytes(_NONCE)
    connection.sendall(challenge)
    said = _exactly(connection, _NONCE + 32)
    theirs, proof = said[:_NONCE], said[_NONCE:]
    if not hmac.compare_digest(proof, _proof(key, b"dials", challenge, theirs)):
        raise Stranger("who dialled does not know the secret of this run")
    connection.sendall(_proof(key, b"answers", challenge, theirs))
    _settle(connection)


def _proof(key: bytes, who: bytes, challenge: bytes, answer: bytes) -> bytes:
    return hmac.digest(key, b"\0".join((who, challenge, answer)), hashlib.sha256)


def _settle(connection: socket.socket) -> None:
    """From now on calls block in the kernel, which `os.sendfile` needs, and give up after a long silence."""
    connection.settimeout(None)
    limit = _TIMEVAL.pack(int(SILENCE_S), 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(SILENCE_S * 1000))


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise ConnectionError("the other keeper closed the connection")
        parts += part
    return bytes(parts)


def say(connection: socket.socket, body: dict[str, Any]) -> None:
    """One line. Raises OSError."""
    line = json.dumps(body).encode()
    connection.sendall(_LENGTH.pack(len(line)) + line)


def hear(connection: socket.socket) -> dict[str, Any]:
    """The next line. Raises OSError or Broken."""
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    if length > LINE_BYTES:
        raise Broken(f"a line of {length} bytes")
    try:
        body = json.loads(_exactly(connection, length))
    except ValueError as error:
        raise Broken("a line that is no JSON") from error
    if not isinstance(body, dict):
        raise Broken("a line that is no object")
    return body


def send(connection: socket.socket, fd: int, head: Head, sent: Callable[[int], None] = lambda _: None) -> bool:
    """Everything behind the head; False when the copy was overwritten meanwhile. Raises OSError.

    `sent` hears how many bytes are on their way.
    """
    at = BODY
    while at < head.size:
        count = min(PART, head.size - at)
        if header.look(fd) != head:
            connection.sendall(_LENGTH.pack(_TORN))
            return False
        connection.sendall(_LENGTH.pack(count))
        end = at + count
        while at < end:
            went = os.sendfile(connection.fileno(), fd, at, end - at)
            if not went:
                raise Broken("the file of a copy ended too soon")  # it was given up, and its room given back
            at += went
        sent(at)
    whole = header.look(fd) == head
    connection.sendall(_LENGTH.pack(_END if whole else _TORN))
    return whole


def receive(connection: socket.socket, fd: int, head: Head, *, fetched: bool = False) -> bool:
    """Write a copy into a file that has room for it; False when it was given up, or its digest is another.

    It counts only when its digest was compared. Raises OSError or Broken, and the file holds no copy then.
    """
    header.begin(fd)
    with mmap.mmap(fd, 0) as pages, memoryview(pages) as whole, whole[BODY : head.size] as part:
        if not _received(connection, part) or xxhash.xxh3_128_digest(part) != head.digest:
            return False
    header.finish(fd, head, fetched=fetched)
    return True


def _received(connection: socket.socket, into: memoryview) -> bool:
    at = 0
    while True:
        (count,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
        if count == _TORN:
            return False
        if count == _END:
            return at == len(into)
        if count > len(into) - at:
            raise Broken("a copy that is longer than it said")
        end = at + count
        while at < end:
            with into[at:end] as left:
                got = connection.recv_into(left)
            if not got:
                raise ConnectionError("the other keeper closed the connection")
            at += got

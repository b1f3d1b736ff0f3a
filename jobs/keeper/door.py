"""How is the keeper of a node found, and who may use it? By its name on this host, and only its own user.

The name is an abstract unix socket: it is gone with its process, and a second keeper of the same place cannot be.
Requests are datagrams of JSON, each answered by one; file descriptors travel with them.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

MESSAGE_BYTES = 1 << 16
FDS_MAX = 16
ANSWER_S = 5.0
LEAVE_S = 0.5
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: unix(7)


def name(home: Path, run: str, node: int) -> str:
    """Of the keeper of a node of a run; `\\0` before it makes it an address."""
    return f"{_prefix(home, run)}{node}"


def _prefix(home: Path, run: str) -> str:
    place = hashlib.sha256(f"{home}\0{run}".encode()).hexdigest()[:16]
    return f"lastgood.{os.getuid()}.{place}."


def nodes_here(home: Path, run: str) -> list[int]:
    """Nodes of the run that have a keeper on this host, whatever attempt left it."""
    before = f"@{_prefix(home, run)}"
    with suppress(OSError):
        lines = Path("/proc/net/unix").read_text(errors="replace").splitlines()
        words = {line.split()[-1] for line in lines if before in line}
        return sorted({int(node) for word in words if (node := word.removeprefix(before)).isdecimal()})
    return []


def is_ours(connection: socket.socket) -> bool:
    """The process at the other end is of this process's user."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(raw)[1] == os.getuid())


def listener(at: str) -> socket.socket:
    """The keeper's end. Raises OSError when another keeper has the name."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        server.bind(f"\0{at}")
        server.listen(16)
    except OSError:
        server.close()
        raise
    return server


def say(connection: socket.socket, body: dict[str, Any], fds: Sequence[int] = ()) -> None:
    """One datagram. Raises OSError."""
    socket.send_fds(connection, [json.dumps(body).encode()], list(fds))


def hear(connection: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next datagram, and the descriptors that came with it, the receiver's to close; None: the other end is gone.

    Raises OSError, or ValueError for what is no message.
    """
    raw, fds, _, _ = socket.recv_fds(connection, MESSAGE_BYTES, FDS_MAX, socket.MSG_CMSG_CLOEXEC)
    if not raw:
        return None
    try:
        body = json.loads(raw)
        if not isinstance(body, dict):
            raise ValueError(f"no object: {raw[:80]!r}")
    except ValueError:
        close(fds)
        raise
    return body, fds


def close(fds: Sequence[int]) -> None:
    """Let go of them."""
    for fd in fds:
        os.close(fd)


class Client:
    """An agent's connection to a keeper; may be used from any thread, one request at a time."""

    def __init__(self, at: str) -> None:
        """Raises OSError when nobody of this user listens there."""
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.settimeout(ANSWER_S)
            self._socket.connect(f"\0{at}")
            if not is_ours(self._socket):
                raise PermissionError(f"{at} belongs to another user")
        except OSError:
            self._socket.close()
            raise

    def ask(
        self, body: dict[str, Any], fds: Sequence[int] = (), *, within_s: float = ANSWER_S
    ) -> tuple[dict[str, Any], list[int]]:
        """The answer, and the descriptors that came with it. Raises OSError, also for a request that is refused."""
        with self._lock:
            self._socket.settimeout(within_s)
            say(self._socket, body, fds)
            try:
                heard = hear(self._socket)
            except (OSError, ValueError) as error:
                self._socket.close()  # its answer would be taken for that to the next request
                raise OSError(f"the keeper did not answer: {error}") from error
        if heard is None:
            raise OSError("the keeper is gone")
        answer, came = heard
        if "refused" in answer:
            close(came)
            raise OSError(str(answer["refused"]))
        return answer, came

    def close(self) -> None:
        """Hang up; the keeper stays."""
        self._socket.close()


def dismiss(home: Path, run: str, nodes: Sequence[int] | None = None) -> None:
    """Let the keepers of a run on this host go, all or those of some nodes: what they hold is given back at once."""
    for node in nodes_here(home, run) if nodes is None else nodes:
        with suppress(OSError):
            client = Client(name(home, run, node))
            try:
                client.ask({"ask": "leave"}, within_s=LEAVE_S)
            finally:
                client.close()

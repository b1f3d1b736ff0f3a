"""Which processes of a world that is over live on for the next one? Those that left it in time, as each said itself.

The agent's end of what `lastgood.survivor` says.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO

from jobs.agent.child import Child

LEAVE_WITHIN_S = 1.0
"""for ranks to come out of a world that is over: one that computes looks up after each call into C, one that waits for
its peers is woken"""
MESSAGE_BYTES = 1 << 16

log = logging.getLogger(__name__)


class Line:
    """To one rank. `left` hears when it has left its world, and whether it failed there by itself."""

    def __init__(self, left: Callable[[bool], None]) -> None:
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._left = left
        self.ready = False
        """its program uses the SDK in a way that it can leave"""
        asyncio.get_running_loop().add_reader(self._ours.fileno(), self._heard)

    def connected(self) -> None:
        """The rank has its end; ours of that is closed, so that its death closes the line."""
        self.theirs.close()

    def hear(self, left: Callable[[bool], None]) -> None:
        """Another world listens from now on, when the rank has said that it can leave that one too."""
        self._left, self.ready = left, False

    def leave(self, world: int) -> None:
        """The world is over."""
        self._send({"leave": world})

    def enter(self, env: Mapping[str, str], stdout: IO[bytes], stderr: IO[bytes]) -> bool:
        """Be a rank of another world; False when nobody is there any more."""
        try:
            message = json.dumps({"enter": dict(env)}).encode()
            socket.send_fds(self._ours, [message], [stdout.fileno(), stderr.fileno()])
        except OSError as error:
            log.warning("a rank does not enter the next world: %s", error)
            return False
        return True

    def close(self) -> None:
        """Hang up."""
        if self._ours.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._ours.fileno())
            self._ours.close()

    def _send(self, message: Mapping[str, object]) -> None:
        with suppress(OSError):  # its end is told by the process itself
            self._ours.send(json.dumps(message).encode())

    def _heard(self) -> None:
        try:
            message = json.loads(self._ours.recv(MESSAGE_BYTES) or b"null")
        except BlockingIOError:
            return
        except (OSError, ValueError):
            message = None
        if not isinstance(message, dict):
            self.close()
        elif message.get("ready"):
            self.ready = True
        elif "left" in message:
            self._left(bool(message.get("failed")))


Survivors = dict[int, tuple[Child, Line]]
"""by rank"""


def end(survivors: Survivors) -> None:
    """They are not needed: a process that nobody has a world for is none of ours for long."""
    for child, line in survivors.values():
        line.close()
        child.kill()
    survivors.clear()

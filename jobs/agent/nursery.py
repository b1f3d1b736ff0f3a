"""How does a rank come to life in milliseconds? From a process that has imported everything already, if it can be had.

The zygote (`lastgood.zygote`) is prepared when the agent starts, and again when a file that it imported has changed.
While it prepares, a world that is to begin waits for it: that takes as long as the imports of a cold start. When it
cannot be used, ranks start cold, and a signal says why.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

from jobs.agent.child import Child, Exit
from jobs.agent.tether import Tether

ANSWER_WITHIN_S = 1.0
"""a fork takes 20 to 60 ms; an agent that waits hears nothing else meanwhile"""
PREPARE_WITHIN_S = 120.0
MESSAGE_BYTES = 1 << 16
TRIES = 3
"""zygotes that end or fall silent, one after the other, before ranks are started cold for good"""
WORLD_ROOM = 12
"""characters for the number of a world in /proc/PID/environ of a forked rank"""
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h

log = logging.getLogger(__name__)


class Cold(Exception):
    """No warm rank can be had now; the message says why."""


class Nursery:
    """One zygote and its ranks."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log_file: Path,
        settled: Callable[[str], None],
    ) -> None:
        """`settled` hears, once for each zygote, why it cannot be used; nothing when it can."""
        self._argv, self._env, self._cwd, self._log_file = tuple(argv), dict(env), cwd, log_file
        self._settled = settled
        self._child: Child | None = None
        self._channel: socket.socket | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._failed = 0
        """zygotes lost since the last one forked a rank"""
        self.preparing = False
        """it is not known yet whether ranks can be forked"""
        self.why = "not started"
        """why ranks start cold; empty when they need not"""

    def start(self) -> None:
        """Prepare a zygote."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        env = {
            **self._env,
            "LASTGOOD_AGENT_PID": str(os.getpid()),
            # Room for a rank to write the number of its world into; no world has this one.
            "LASTGOOD_WORLD": "-" * WORLD_ROOM,
        }
        argv = (sys.executable, "-P", "-m", "lastgood.zygote", str(theirs.fileno()), "--", *self._argv)
        try:
            with theirs, self._log_file.open("ab") as file:
                self._child = Child(
                    argv,
                    partial(self._ended, ours),
                    env=env,
                    cwd=self._cwd,
                    stdout=file,
                    stderr=file,
                    pass_fds=(theirs.fileno(),),
                )
        except OSError as error:
            ours.close()
            self._settle(f"it could not be started: {error}")
            return
        loop = asyncio.get_running_loop()
        self._channel, self.preparing, self.why = ours, True, "it is being prepared"
        ours.setblocking(False)
        loop.add_reader(ours.fileno(), self._heard)
        self._deadline = loop.call_later(PREPARE_WITHIN_S, self._give_up, f"not ready after {PREPARE_WITHIN_S:.0f} s")

    def fork(
        self,
        argv: Sequence[str],
        on_end: Callable[[Exit], None],
        *,
        env: Mapping[str, str],
        stdout: IO[bytes],
        stderr: IO[bytes],
        control: socket.socket | None = None,
        spare: Mapping[str, object] | None = None,
    ) -> Child:
        """A rank; or a process that waits at `control` to be one, prepared as `spare` says.

        Raises Cold when it has to be started another way, and OSError as a start does.
        """
        if self._channel is None or self.why:
            raise Cold(self.why)
        request = {"argv": list(argv), "env": dict(env), "cwd": str(self._cwd), "agent": os.getpid()}
        request |= {} if spare is None else {"spare": spare}
        tether = Tether()
        files = [stdout.fileno(), stderr.fileno(), tether.theirs, *([] if control is None else [control.fileno()])]
        try:
            answer = self._asked(json.dumps(request).encode(), files)
        finally:
            tether.connected()
        if "pid" not in answer:
            self._lost(str(answer.get("why")))
            raise Cold(str(answer.get("why")))
        self._failed = 0
        return Child.adopted(int(answer["pid"]), on_end, tether)

    def close(self) -> None:
        """End it; its ranks live on."""
        self._drop()
        if self._child is not None:
            self._child.send(signal.SIGKILL)

    def _asked(self, request: bytes, files: Sequence[int]) -> dict[str, Any]:
        assert self._channel is not None
        self._channel.settimeout(ANSWER_WITHIN_S)
        subreaper(True)  # for this moment only: other orphans are none of ours
        try:
            socket.send_fds(self._channel, [request], files)
            answer: dict[str, Any] = json.loads(self._channel.recv(MESSAGE_BYTES) or b"{}")
        except (OSError, ValueError) as error:
            return {"why": f"it does not answer: {error}"}
        finally:
            subreaper(False)
            self._channel.setblocking(False)
        return answer or {"why": "it has ended"}

    def _heard(self) -> None:
        assert self._channel is not None
        try:
            answer = json.loads(self._channel.recv(MESSAGE_BYTES) or b'{"ready": false, "why": "it ended"}')
        except (OSError, ValueError) as error:
            answer = {"ready": False, "why": str(error)}
        if not answer.get("ready"):
            self._give_up(str(answer.get("why")))
            return
        log.info("warm: %d modules in %.1f s", answer["modules"], answer["took_s"])
        asyncio.get_running_loop().remove_reader(self._channel.fileno())
        self._settle("")

    def _give_up(self, why: str) -> None:
        self.close()
        self._settle(why)

    def _ended(self, channel: socket.socket, end: Exit) -> None:
        if channel is not self._channel:
            return  # one that was given up
        why = f"it ended with status {end.code}, signal {end.signal}: see {self._log_file.name}"
        if self.preparing:
            self._give_up(why)
        else:
            self._lost(why)

    def _lost(self, why: str) -> None:
        """One that was ready is so no more: what was changed is imported anew, for the next world."""
        self._give_up(why)
        self._failed += 1
        if self._failed < TRIES:
            self.start()

    def _settle(self, why: str) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline, self.preparing, self.why = None, False, why
        self._settled(why)

    def _drop(self) -> None:
        if self._channel is not None:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._channel.close()
            self._channel = None


def subreaper(on: bool) -> None:
    """Whether orphans among our descendants become our children."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)

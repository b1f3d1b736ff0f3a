"""When did a process that we started end, and how? Through its pidfd: an event of the loop, never a poll; and for one
that is tethered to us (`lastgood.tether`) as soon as none of its threads can run its code any more."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from jobs.agent.tether import Tether
from lastgood.tether import VARIABLE
from monitors.sense import processes

LOOK_AGAIN_S = 0.002
LOOKS = 50
"""at a process whose main thread ends, until the last of the others does; after that its pidfd has to tell"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a process ended: exactly one of the two is set."""

    code: int | None
    signal: int | None


class Child:
    """A child process in a session of its own."""

    def __init__(
        self,
        argv: Sequence[str],
        on_end: Callable[[Exit], None],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: IO[bytes] | int = subprocess.DEVNULL,
        stdout: IO[bytes] | int = subprocess.DEVNULL,
        stderr: IO[bytes] | int = subprocess.DEVNULL,
        pass_fds: Sequence[int] = (),
        tethered: bool = False,
    ) -> None:
        """Start it; `tethered`: it will hold what `lastgood.tether` says. Raises OSError when the kernel refuses."""
        tether = Tether() if tethered else None
        if tether is not None:
            env = {**(os.environ if env is None else env), VARIABLE: str(tether.theirs)}
            pass_fds = (*pass_fds, tether.theirs)
        try:
            process = subprocess.Popen(
                argv,
                env=env,
                cwd=cwd,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=pass_fds,
                start_new_session=True,
            )
        finally:
            if tether is not None:
                tether.connected()
        try:
            self._watch(process.pid, on_end, process, tether)
        except OSError:
            process.kill()  # what cannot be watched must not run
            process.wait()
            raise

    @classmethod
    def adopted(cls, pid: int, on_end: Callable[[Exit], None], tether: Tether) -> Child:
        """A child that another process forked for us, leader of a session of its own. Raises OSError as above."""
        child = cls.__new__(cls)
        child._watch(pid, on_end, None, tether)
        return child

    def _watch(
        self,
        pid: int,
        on_end: Callable[[Exit], None],
        process: subprocess.Popen[bytes] | None,
        tether: Tether | None,
    ) -> None:
        self.pid = pid
        self.exit: Exit | None = None
        """how it ended: none of its code runs any more, though the kernel may still be taking its memory down"""
        self.gone = asyncio.Event()
        """nothing of it is left: memory, files, devices"""
        self.keeps_device = False
        """until it is gone, though its end was told: who comes after it finds that device occupied"""
        self._on_end = on_end
        self._process = process
        self._pidfd = os.pidfd_open(pid)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._pidfd, self.reap)
        self._tether = tether
        if tether is not None:
            tether.watch(partial(loop.call_soon_threadsafe, self._look, LOOKS))

    def _look(self, looks: int) -> None:
        """Its main thread has begun to end."""
        if self.exit is not None:
            return
        status = processes.last_status(self.pid)
        if status is not None:
            self.keeps_device = processes.has_device(self.pid)
            self._end(_exit(os.waitstatus_to_exitcode(status)))
        elif looks:
            asyncio.get_running_loop().call_later(LOOK_AGAIN_S, self._look, looks - 1)

    def reap(self) -> None:
        """Take note of the end, if there was one."""
        if self.gone.is_set():
            return
        seen = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        if seen is None:
            return
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.gone.set()
        if self._tether is not None:
            self._tether.cut()
        if self._process is not None:
            # Popen must not wait for the pid again: it may be another process's by then.
            self._process.returncode = seen.si_status
        if self.exit is None:
            self._end(_exit(seen.si_status if seen.si_code == os.CLD_EXITED else -seen.si_status))

    def _end(self, how: Exit) -> None:
        self.exit = how
        self._on_end(how)

    def tell(self, on_end: Callable[[Exit], None]) -> None:
        """Another one hears of the end from now on."""
        self._on_end = on_end

    def send(self, number: int) -> None:
        """Signal the process alone; nothing happens when it has ended."""
        if self.exit is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """SIGKILL it, and what stayed in its group."""
        self.send_group(signal.SIGKILL)
        self.send(signal.SIGKILL)

    def send_group(self, number: int) -> None:
        """Signal it and every process that stayed in its group.

        Only before the end is noted: until then the kernel keeps the number for us.
        """
        if self.exit is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)


def _exit(code: int) -> Exit:
    """As `subprocess` writes it: a signal is negative."""
    return Exit(code=code, signal=None) if code >= 0 else Exit(code=None, signal=-code)

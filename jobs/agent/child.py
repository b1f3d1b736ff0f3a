"""When did a process that we started end, and how? Through its pidfd: an event of the loop, never a poll."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO


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
    ) -> None:
        """Start it. Raises OSError when the kernel refuses."""
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
        try:
            self._watch(process.pid, on_end, process)
        except OSError:
            process.kill()  # what cannot be watched must not run
            process.wait()
            raise

    @classmethod
    def adopted(cls, pid: int, on_end: Callable[[Exit], None]) -> Child:
        """A child that another process forked for us, leader of a session of its own. Raises OSError as above."""
        child = cls.__new__(cls)
        child._watch(pid, on_end, None)
        return child

    def _watch(self, pid: int, on_end: Callable[[Exit], None], process: subprocess.Popen[bytes] | None) -> None:
        self.pid = pid
        self.exit: Exit | None = None
        self._on_end = on_end
        self._process = process
        self._pidfd = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self.reap)

    def reap(self) -> None:
        """Take note of the end, if there was one."""
        if self.exit is not None:
            return
        seen = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        if seen is None:
            return
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        if seen.si_code == os.CLD_EXITED:
            self.exit = Exit(code=seen.si_status, signal=None)
        else:
            self.exit = Exit(code=None, signal=seen.si_status)
        if self._process is not None:
            # Popen must not wait for the pid again: it may be another process's by then.
            self._process.returncode = seen.si_status
        self._on_end(self.exit)

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

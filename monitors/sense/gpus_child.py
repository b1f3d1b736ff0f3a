"""Does the process that asks the driver still answer? It is started again when it ends, and ended when it does not.

Nothing here waits: a process that cannot be killed (a driver call that never returns holds it in the kernel) is left
behind, and noted when it ends at last.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monitors.sense import processes

LIBRARY = -1
"""instead of a GPU's index: the library's start is asked for"""
GAP_MOST_S = 1.0
"""silence that one look may add: while whoever looks stood still, the child may have too (a suspended host)"""
AGAIN_S = 0.5
AGAIN_MOST_S = 300.0
"""a host without a driver is asked this often"""
WELL_S = 60.0
"""a child that ran for so long is started again at once when it ends"""
STARVED_SHARE = 0.1
STARVED_PATIENCE = 6.0
"""a child that wants to run and gets less than this share of a CPU is not held by the driver: it is given more time.
The calls need milliseconds; one that spins in the driver gets more even on a busy host"""
_READ_BYTES = 1 << 16
"""of one look, some forty lines: more wait in the pipe"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What came of one look at the child."""

    lines: tuple[dict[str, Any], ...] = ()
    ended: str = ""
    """how it ended, in words, if it did since the last look"""
    asked: int | None = None
    """what it was asking when it ended or was given up: a GPU's index, LIBRARY, or None"""
    overdue: bool = False
    """it did not answer in time, and was given up"""
    pid: int | None = None
    """of the one that ended or was given up"""


class Asker:
    """The child, through all its restarts."""

    def __init__(
        self,
        arguments: Callable[[], Sequence[str]],
        *,
        env: Mapping[str, str] | None = None,
        deadline_s: float,
        rest_s: float,
    ) -> None:
        """`deadline_s`: for the calls about one GPU; `rest_s`: longest silence when nothing is asked."""
        self._arguments = arguments
        self._env = {**os.environ, **(env or {})}
        self._deadline_s = deadline_s
        self._rest_s = rest_s
        self._process: subprocess.Popen[bytes] | None = None
        self._dying: list[subprocess.Popen[bytes]] = []
        self._not_before = float("-inf")
        self._again_s = AGAIN_S
        self._looked_at = float("-inf")
        self._held = False
        self._started_at = float("-inf")
        self._asked: int | None = None
        self._rest = b""
        self._silent_s = 0.0
        """since it said something"""
        self._sample: tuple[float, float] | None = None
        """of a long silence: how long it had lasted, and the CPU time that the child had used"""

    @property
    def pid(self) -> int | None:
        """Of the child that runs now."""
        return None if self._process is None else self._process.pid

    @property
    def stuck(self) -> frozenset[int]:
        """Children that were killed and are still there: their call has not returned."""
        self._dying = [process for process in self._dying if process.poll() is None]
        return frozenset(process.pid for process in self._dying)

    def look(self, now: float) -> Said:
        """What it said since, and whether it still answers; starts one when there is none and it is time."""
        gap_s, self._looked_at = min(now - self._looked_at, GAP_MOST_S), now
        if self._process is None:
            # One more process that hangs in the library's start would tell nothing new.
            if now >= self._not_before and not (self.stuck and self._held):
                self._start(now)
            return Said()
        lines = self._read()
        ended = "" if lines or self._process.poll() is None else _how(self._process.returncode)
        if ended:
            return self._end(now, lines, ended=ended)
        if lines:
            self._silent_s, self._sample = 0.0, None
            return Said(lines=lines)
        self._silent_s += max(0.0, gap_s)
        return self._judged(now) if self._silent_s > self._limit_s / 2 else Said()

    def restart(self) -> None:
        """End this one, and start the next at once (its arguments have changed)."""
        self.stop()
        self._not_before, self._again_s = float("-inf"), AGAIN_S

    def stop(self) -> None:
        """End it; what the kernel holds is left behind, and ends with its call or with this process."""
        process, self._process = self._process, None
        self._not_before = float("inf")
        if process is None:
            return
        process.kill()
        assert process.stdout is not None
        process.stdout.close()
        self._dying.append(process)

    def close(self) -> None:
        """End it, and wait for its end for a moment."""
        self.stop()
        for process in self._dying:
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                process.returncode = -signal.SIGKILL  # Popen would warn of a process that it may still wait for

    def _start(self, now: float) -> None:
        command = (sys.executable, "-P", "-m", "monitors.sense.nvml_child")
        try:
            process = subprocess.Popen(
                [*command, *self._arguments(), "--parent", str(os.getpid())],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError:  # no memory, no process numbers: later
            self._wait_longer(now)
            return
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._process, self._started_at = process, now
        self._asked, self._rest, self._silent_s, self._sample = LIBRARY, b"", 0.0, None

    def _read(self) -> tuple[dict[str, Any], ...]:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            data = os.read(self._process.stdout.fileno(), _READ_BYTES)
        except BlockingIOError:
            data = b""
        *whole, self._rest = (self._rest + data).split(b"\n")
        lines = tuple(line for text in whole if isinstance(line := _parsed(text), dict))
        for line in lines:
            self._asked = line.get("ask", self._asked)
        return lines

    @property
    def _limit_s(self) -> float:
        return self._rest_s if self._asked is None else self._deadline_s

    def _judged(self, now: float) -> Said:
        """It has been silent for long: is that its own fault, or nobody's?"""
        assert self._process is not None
        seen = processes.stat(self._process.pid)
        state, cpu_s = ("Z", 0.0) if seen is None else (seen.state, seen.cpu_s)
        if self._sample is None:
            self._sample = (self._silent_s, cpu_s)
        if self._silent_s <= self._limit_s:
            return Said()
        since_s, had_s = self._sample
        is_starved = state == "R" and cpu_s - had_s < STARVED_SHARE * (self._silent_s - since_s)
        if is_starved and self._silent_s <= STARVED_PATIENCE * self._limit_s:
            return Said()
        if is_starved or state in "Tt":  # the host's, or somebody's who stopped it; no GPU's
            self._asked = None
        return self._end(now, (), overdue=True)

    def _end(self, now: float, lines: tuple[dict[str, Any], ...], *, ended: str = "", overdue: bool = False) -> Said:
        asked, pid = self._asked, self.pid
        if now - self._started_at >= WELL_S:
            self._again_s = AGAIN_S
        self._held = asked == LIBRARY
        self.stop()
        self._wait_longer(now)
        return Said(lines=lines, ended=ended, asked=asked, overdue=overdue, pid=pid)

    def _wait_longer(self, now: float) -> None:
        self._not_before = now + self._again_s
        self._again_s = min(2 * self._again_s, AGAIN_MOST_S)


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"

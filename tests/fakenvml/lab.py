"""How does a test look at fake GPUs through the real binding? In processes, as the senses do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monitors.fakenvml.control import FakeNvml
from monitors.sense.gpus import Gpus
from monitors.signals import Signal

WITHIN_S = 20.0
"""for what takes milliseconds: the machine may be busy"""


class Child:
    """`monitors.sense.nvml_child`, and what it says."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def line(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next line like this."""
        assert self.process.stdout is not None
        for text in self.process.stdout:
            line: dict[str, Any] = json.loads(text)
            if wanted(line):
                return line
        raise AssertionError("it ended without saying it")

    def signal(self) -> dict[str, Any]:
        """The next signal."""
        return self.line(lambda line: "is" in line)

    def blind(self) -> str:
        """Why it sees nothing."""
        return str(self.line(lambda line: "blind" in line)["blind"])


@contextmanager
def child(fake: FakeNvml, what: str, *arguments: str) -> Iterator[Child]:
    """Start it; it is ended with the block."""
    command = [sys.executable, "-P", "-m", "monitors.sense.nvml_child", what, "--node", "0"]
    command += ["--every", "0.1", "--parent", str(os.getpid()), *arguments]
    with subprocess.Popen(command, env={**os.environ, **fake.environment}, stdout=subprocess.PIPE) as process:
        try:
            yield Child(process)
        finally:
            process.kill()


def first(fake: FakeNvml, index: int = 0) -> dict[str, Any]:
    """What is said first of one GPU."""
    with child(fake, "polls", "--only", str(index)) as asked:
        return asked.signal()


class Looks:
    """A sense of GPUs, looked at as a station does."""

    def __init__(self, gpus: Gpus) -> None:
        self.gpus = gpus
        self.seen: list[Signal] = []
        self.longest_s = 0.0
        """that one look took"""

    def until(self, wanted: Callable[[Signal], bool], within_s: float = WITHIN_S) -> Any:
        """The next signal like this; looks until it comes."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            began = time.monotonic()
            fresh = self.gpus.look(time.time())
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            self.seen += fresh
            if found := [signal for signal in fresh if wanted(signal)]:
                return found[0]
            time.sleep(0.02)
        raise AssertionError(f"not seen in {within_s} s; last: {self.seen[-3:]}")

    def of(self, kind: type[Signal]) -> list[Any]:
        """Signals of one class so far."""
        return [signal for signal in self.seen if isinstance(signal, kind)]


def is_there(pid: int) -> bool:
    """Whether a process lives (one that only waits to be reaped does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

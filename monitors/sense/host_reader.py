"""Who reads what may never come back? A child process, with a deadline for each answer.

A `stat` on a dead file server and a counter of a network card whose firmware hangs leave the reader in state D, where
no signal reaches it. So such a child is left alone, never waited for, and another one answers the other questions;
what hung is asked again when the first child has ended, or after RETRY_S, whichever is later.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEADLINE_S = 10.0
"""for one answer: a busy file server takes seconds, a dead one takes for ever"""
RETRY_S = 60.0
END_S = 0.2
"""for a child that was killed, when nobody asks any more"""
STUCK_MAX = 4
"""children that may hang at the same time: each holds about 10 MB, and more of them would not see more"""

COMMAND = (sys.executable, "-I", "-S", __file__)
"""by its file: it needs nothing but the standard library, and starts in 20 ms"""

Question = tuple[str, str]
"""what to do with which path: `mount` or `counters`"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back, or that nothing did."""

    question: Question
    value: dict[str, Any] | None
    """None: no answer in time"""


@dataclass(slots=True, kw_only=True)
class _Stuck:
    child: subprocess.Popen[bytes]
    question: Question
    since: float


class Reader:
    """Puts questions to its child, one batch at a time, and never waits."""

    def __init__(self, command: Sequence[str] = COMMAND, *, deadline_s: float = DEADLINE_S) -> None:
        self._command = tuple(command)
        self._deadline_s = deadline_s
        self._child: subprocess.Popen[bytes] | None = None
        self._asked: list[Question] = []
        """in order, of which the first is the one that the child works on"""
        self._waited_s = 0.0
        self._looked_at = 0.0
        self._rest = b""
        self._stuck: list[_Stuck] = []

    @property
    def stuck(self) -> tuple[Question, ...]:
        """Questions that nobody answers."""
        return tuple(stuck.question for stuck in self._stuck)

    def ask(self, questions: Sequence[Question], now: float) -> None:
        """Put those that do not hang already; nothing happens while older ones wait for their answers.

        Raises OSError when no child can be started.
        """
        if self._asked or len(self._stuck) >= STUCK_MAX:
            return
        wanted = [question for question in questions if question not in self.stuck]
        if not wanted:
            return
        child = self._running()
        assert child.stdin is not None
        self._asked, self._waited_s, self._looked_at = wanted, 0.0, now
        # A batch is far smaller than a pipe, and the one before it was read: this does not block.
        with suppress(BrokenPipeError):
            os.write(child.stdin.fileno(), json.dumps(wanted).encode() + b"\n")

    def answers(self, now: float) -> list[Answer]:
        """What came back since, and what did not come back in time (told once)."""
        self._forget_ended(now)
        if self._child is None:
            return []
        self._wait(now)
        found = [self._answer(line) for line in self._lines(self._child)]
        if self._child.poll() is not None:  # killed from outside: whoever did it did not hang
            self._drop()
        elif self._asked and self._waited_s >= self._deadline_s:
            question = self._asked[0]
            self._abandon(question, now)
            found.append(Answer(question=question, value=None))
        return found

    def close(self) -> None:
        """End the children that can be ended."""
        children = [stuck.child for stuck in self._stuck]
        if self._child is not None:
            self._child.kill()
            children.append(self._child)
        self._drop()
        for child in children:
            with suppress(subprocess.TimeoutExpired):
                child.wait(END_S)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            assert self._child.stdout is not None
            os.set_blocking(self._child.stdout.fileno(), False)
            self._rest = b""
        return self._child

    def _lines(self, child: subprocess.Popen[bytes]) -> list[bytes]:
        assert child.stdout is not None
        chunks = [self._rest]
        with suppress(BlockingIOError):
            while chunk := os.read(child.stdout.fileno(), 1 << 16):
                chunks.append(chunk)
        *lines, self._rest = b"".join(chunks).split(b"\n")
        return lines

    def _wait(self, now: float) -> None:
        # A host that stood still as a whole, asker and child, has given the child no time.
        self._waited_s += min(max(0.0, now - self._looked_at), self._deadline_s / 2)
        self._looked_at = now

    def _answer(self, line: bytes) -> Answer:
        self._waited_s = 0.0
        return Answer(question=self._asked.pop(0), value=json.loads(line))

    def _abandon(self, question: Question, now: float) -> None:
        assert self._child is not None
        self._child.kill()
        self._stuck.append(_Stuck(child=self._child, question=question, since=now))
        self._drop()

    def _drop(self) -> None:
        child, self._child, self._asked = self._child, None, []
        if child is not None:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.close()
            child.stdout.close()

    def _forget_ended(self, now: float) -> None:
        self._stuck = [s for s in self._stuck if s.child.poll() is None or now - s.since < RETRY_S]


def mount(path: str) -> dict[str, Any]:
    """Room below a path, or below the nearest folder above it that exists; `errno` when that cannot be known."""
    while True:
        try:
            real = os.path.realpath(path, strict=True)
            room = os.statvfs(real)
        except (FileNotFoundError, NotADirectoryError):
            if path == "/":
                return {"errno": 2}
            path = os.path.dirname(path.rstrip("/")) or "/"
            continue
        except OSError as error:
            return {"errno": error.errno}
        return {
            "path": real,
            "bytes": room.f_blocks * room.f_frsize,
            # What is reserved for the superuser helps nobody's checkpoint.
            "free": room.f_bavail * room.f_frsize,
            "inodes_free_share": room.f_favail / room.f_files if room.f_files else 1.0,
        }


def counters(folder: str) -> dict[str, Any]:
    """Numbers in the files of a folder, and of the folders `counters` and `hw_counters` in it."""
    found: dict[str, Any] = {}
    for below in ("counters", "hw_counters"):
        for path in sorted(Path(folder, below).glob("*")):
            with suppress(OSError, ValueError):
                found[path.name] = int(path.read_text())
    return found


def serve() -> None:
    """Answer batches of questions, one line each, until stdin closes."""
    verbs = {"mount": mount, "counters": counters}
    for line in sys.stdin.buffer:
        for verb, path in json.loads(line):
            os.write(1, json.dumps(verbs[verb](path)).encode() + b"\n")


if __name__ == "__main__":
    serve()

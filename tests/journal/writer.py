"""Writes a journal until it is killed: a fresh process for each line on stdin, which prints its pid and every entry.

Forked, so that 50 of them take a second.
"""

from __future__ import annotations

import os
import sys

from orchestrator.core import actions as a
from orchestrator.core import events as e
from orchestrator.core.state import Decision
from orchestrator.journal import Journal
from tests.story.scripted import blank

RUN = "gpt-abcde"


def write_for_ever(path: str) -> None:
    """Entries with two actions each; every one of them says its own step."""
    journal = Journal(path)
    step = len(journal.events(RUN))
    while True:
        step += 1
        event = e.Progressed(at=float(step), world=1, step=step)
        acts = tuple(a.VerifyCheckpoint(checkpoint=f"{step}.{n}") for n in range(2))
        decision = Decision(state=blank(step=step), actions=acts, reason=f"step {step}")
        entry = journal.record(RUN, event, decision, snapshot=step % 50 == 0)
        os.write(1, f"{entry}\n".encode())


def main(path: str) -> None:
    """One writer at a time; says `gone` when it was killed."""
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            write_for_ever(path)
        os.write(1, f"{pid}\n".encode())
        os.waitpid(pid, 0)
        os.write(1, b"gone\n")


if __name__ == "__main__":
    main(sys.argv[1])

"""What is left of a journal whose writer was killed in the middle of a write?"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from orchestrator.core import actions as a
from orchestrator.core import events as e
from orchestrator.journal import Journal
from tests.journal.writer import RUN
from tests.story.scripted import T0, blank

KILLS = 50


def test_a_killed_writer_leaves_every_acknowledged_entry_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with Journal(path) as journal:
        journal.submit(RUN, "gpt", {}, "", T0)
    chance = random.Random(7)
    command = [sys.executable, "-m", "tests.journal.writer", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as writers:
        for _ in range(KILLS):
            acknowledged = _write_and_kill(writers, after=chance.randrange(12), spins=chance.randrange(20_000))
            _check(path, acknowledged)
        assert writers.stdin is not None
        writers.stdin.close()
    assert writers.returncode == 0


def _write_and_kill(writers: subprocess.Popen[str], *, after: int, spins: int) -> int:
    """The newest entry that a writer said was written, before it was killed somewhere in its next one."""
    assert writers.stdin is not None
    assert writers.stdout is not None
    writers.stdin.write("go\n")
    pid = int(writers.stdout.readline())
    heard = [int(writers.stdout.readline()) for _ in range(after)]
    for _ in range(spins):  # a random moment inside the next transaction, without sleeping
        pass
    os.kill(pid, signal.SIGKILL)
    while (line := writers.stdout.readline()) != "gone\n":
        heard.append(int(line))
    return max(heard, default=0)


def _check(path: Path, acknowledged: int) -> None:
    with Journal(path, read_only=True) as reader:
        entries = reader.entries(RUN)
        state, again = reader.load(RUN)
    assert len(entries) >= acknowledged, "an acknowledged entry is lost"
    for step, entry in enumerate(entries, 1):
        assert entry.id == step, "a gap: not a prefix"
        assert entry.event == e.Progressed(at=float(step), world=1, step=step)
        assert entry.reason == f"step {step}"
        assert entry.actions == tuple(a.VerifyCheckpoint(checkpoint=f"{step}.{n}") for n in range(2))
    assert again == []
    assert state == (blank(step=len(entries)) if entries else None)

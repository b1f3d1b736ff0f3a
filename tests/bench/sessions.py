"""How does the referee hold a launcher? Start it, know whom to kill, and leave nothing of it behind."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import psutil

from orchestrator import contract
from tests.bench.figures import Line, read
from tests.bench.peers import RANKS, Peer, Start
from tests.e2e.lab import Lab

MARK = "BENCH_RUN"
"""in the environment of everything that is started here: ranks may outlive their launcher, and leave its session"""
ENV = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "0"}
POLL_S = 0.005
ASK_EVERY_S = 3.0
SAID_CHARACTERS = 400


class Session(Protocol):
    """One job under one launcher."""

    def launcher(self) -> int:
        """The process whose death leaves the ranks without a launcher."""

    def ended(self) -> bool:
        """Nothing of it can come back any more."""

    def said(self) -> str:
        """Its last words."""

    def close(self) -> None:
        """End everything."""


class Launched:
    """A peer: its processes are the session."""

    def __init__(self, starts: Sequence[Start], out: Path) -> None:
        self._mark = str(out)
        self._log = out / "log"
        self._processes = []
        self._looked_at, self._alone = 0.0, True
        for start in starts:
            env = {**os.environ, **ENV, **start.env, MARK: self._mark}
            with self._log.open("a") as log:
                child = subprocess.Popen(
                    start.argv,
                    env=env,
                    stdout=log,
                    stderr=log,
                    cwd=out,
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                )
            self._processes.append(child)

    def launcher(self) -> int:
        return self._processes[-1].pid

    def ended(self) -> bool:
        if any(child.poll() is None for child in self._processes):
            return False
        # The launcher is gone; its ranks may train on. To know it, all processes of the machine are looked at.
        if time.monotonic() - self._looked_at > ASK_EVERY_S:
            self._looked_at, self._alone = time.monotonic(), bool(self._left())
        return not self._alone

    def said(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return " | ".join(lines[-4:])[-SAID_CHARACTERS:]

    def close(self) -> None:
        for child in self._processes:
            child.kill()
        while left := self._left():
            for process in left:
                process.kill()
            psutil.wait_procs(left, timeout=1.0)
        for child in self._processes:
            child.wait()

    def _left(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found


class Supervised:
    """lastgood: a supervisor in a state folder of its own, and one run."""

    def __init__(self, command: Sequence[str], out: Path, **spec: Any) -> None:
        self.lab = Lab(out)
        self._looked_at, self._ended = 0.0, False
        saves = {"every_steps": 10, "memory_every_steps": 1, "keep": 3}
        fields = {"name": "bench", "env": ENV, "checkpoint": saves, **spec}
        self.run = self.lab.submit(command, **fields)

    def launcher(self) -> int:
        newest = max((self.lab.home / "runs" / self.run / "attempts").glob("[0-9]*/node0/agent.json"))
        return int(json.loads(newest.read_text())["pid"])

    def ended(self) -> bool:
        # Seldom: the question reads the journal, and the answer must not cost the run its time.
        if time.monotonic() - self._looked_at > ASK_EVERY_S:
            self._looked_at = time.monotonic()
            self._ended = self.lab.status(self.run)["exit_code"] != contract.NOT_FINISHED
        return self._ended

    def said(self) -> str:
        return self.lab.told(self.run)[-SAID_CHARACTERS:]

    def close(self) -> None:
        self.lab.close()


def start(peer: Peer, out: Path, until: int) -> Supervised | Launched:
    """Start the job under a peer; what it writes lies in `out`."""
    words = (str(peer.job), "--out", str(out), "--until", str(until), *peer.words)
    if peer.environment is None:
        return Supervised(words, out, **peer.spec)
    return Launched(peer.starts(peer.environment, words), out)


class Watch:
    """The lines of a job as they come."""

    def __init__(self, out: Path) -> None:
        self._path = out / "lines.jsonl"
        self._rest, self._offset = "", 0
        self.lines: list[Line] = []

    def look(self) -> list[Line]:
        """All lines until now."""
        if self._path.exists():
            with self._path.open() as file:
                file.seek(self._offset)
                self._rest += file.read()
                self._offset = file.tell()
            self.lines += read(self._rest)
            self._rest = self._rest[self._rest.rfind("\n") + 1 :]
        return self.lines

    def wait(
        self, until: Callable[[list[Line]], bool], *, within_s: float, session: Session, every_s: float = POLL_S
    ) -> bool:
        """Whether it came true before the time was over, and before the session was."""
        deadline = time.monotonic() + within_s
        while not until(self.look()):
            if time.monotonic() > deadline or session.ended():
                return until(self.look())
            time.sleep(every_s)
        return True

    def pid(self, rank: int) -> int:
        """The process that holds a rank now."""
        return next(line.pid for line in reversed(self.lines) if line.rank == rank)


def alive(watch: Watch) -> int:
    """How many of the processes that held a rank are there, and no zombies."""
    found = 0
    for pid in {watch.pid(rank) for rank in range(RANKS)}:
        try:
            found += psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            continue
    return found

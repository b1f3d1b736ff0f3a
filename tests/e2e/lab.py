"""A real supervisor, real agents, real ranks, in a state folder of its own: the ground of the end-to-end tests."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import registry
from jobs.keeper import door
from jobs.spec import Spec
from monitors.signals import StepReported
from orchestrator import contract
from orchestrator.client import ask
from orchestrator.demo import places_alone
from orchestrator.home import Home
from orchestrator.injection import inject
from orchestrator.journal import Journal
from tests import warm

STEPS = 60
SMALL = ("--dim", "64", "--layers", "1", "--seq", "64", "--batch", "4")
"""a model whose step takes some milliseconds, so that what takes time is what is tested; a block and what is around it
are two groups of shards already"""
STEP_S = "0.05"
"""that a supervised step takes: progress is written down once a second, and a fault must strike before the end; a step
that sleeps leaves the cores to others"""
ENV = {"OMP_NUM_THREADS": "1"}
ROWS_WITHIN_S = 10.0
LOOK_S = 0.5
"""what is written within the same tick of the clock as a look at the journal is seen by then"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What came out of a run, bit for bit."""

    losses: dict[int, tuple[int, str]]
    """step → (data index, loss in hexadecimal) as it counted in the end"""
    repeats_differ: tuple[int, ...]
    """steps that were computed more than once, with different results"""
    weights: str
    """digest"""


Alone = Callable[..., Trained]
"""`alone(steps=60, ranks=2)`: what comes out where nothing disturbs"""


def read(losses: Path, weights: Path) -> Trained:
    """Read what the recipe wrote; a step computed again must come out the same unless the run was rewound."""
    final: dict[int, tuple[int, str]] = {}
    differ = set()
    for line in losses.read_text().splitlines():
        step, index, value = line.split()
        new = (int(index), value)
        if final.get(int(step), new) != new:
            differ.add(int(step))
        final[int(step)] = new
    return Trained(losses=final, repeats_differ=tuple(sorted(differ)), weights=weights.read_text().strip())


def undisturbed(
    folder: Path,
    *args: str,
    ranks: int = 2,
    skips: Sequence[tuple[int, int]] = (),
    within_s: float | None = warm.DEADLINE_S,
) -> Trained:
    """The same training under no supervision at all, from start to end."""
    folder.mkdir()
    _, name, *words = [*gpt(folder), "--step-s", "0", *args]
    places = places_alone(folder, ranks=ranks, skips=skips)
    warm.run(warm.module, *((name, words, ENV | place) for place in places), folder=folder, within_s=within_s)
    return read(folder / "losses", folder / "weights")


def gpt(folder: Path, *args: str, steps: int = STEPS) -> list[str]:
    """The recipe's command, small, writing what it computes into a folder."""
    out = ["--losses", str(folder / "losses"), "--weights", str(folder / "weights")]
    return ["-m", "jobs.recipes.gpt", "--steps", str(steps), *SMALL, "--step-s", STEP_S, *out, *args]


class Lab:
    """One state folder with its supervisor."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"

    def submit(self, command: Sequence[str], **spec: Any) -> str:
        """Submit a run; returns its id."""
        fields: dict[str, Any] = {
            "name": "e2e",
            "command": list(command),
            "workdir": str(self.folder),
            "ranks_per_node": 2,
            "env": ENV,
            "checkpoint": {"every_steps": 10, "probation_steps": 12, "keep": 3},
            **spec,
        }
        body = Spec.model_validate(fields).model_dump(mode="json")
        return str(ask(self.home, {"ask": "submit", "spec": body, "yaml": ""}, start=True)["run"])

    def status(self, run: str) -> dict[str, Any]:
        """What `lastgood status --json` prints."""
        return contract.status(self.home, run)

    def incidents(self, run: str) -> list[dict[str, Any]]:
        """What `lastgood incident ls --json` prints."""
        found: list[dict[str, Any]] = contract.incidents(self.home, run)["incidents"]
        return found

    def concluded(self, run: str) -> list[dict[str, Any]]:
        """Incidents, but for stragglers: whoever shares a core with another test is rightly named as one, and left
        alone; they have tests of their own."""
        return [one for one in self.incidents(run) if one["kind"] != "straggler"]

    def kinds(self, run: str) -> list[str]:
        """Of what was concluded, in order."""
        return [one["kind"] for one in self.concluded(run)]

    def checkpoints(self, run: str) -> list[dict[str, Any]]:
        """What `lastgood ckpt ls --json` prints."""
        found: list[dict[str, Any]] = contract.checkpoints(self.home, run)["checkpoints"]
        return found

    def skips(self, run: str) -> list[tuple[int, int]]:
        """Windows of data that the newest world was told never to feed."""
        with Journal(Home(self.home).journal, read_only=True) as journal:
            state, _ = journal.load(run)
        assert state is not None
        return list(state.skips)

    def rows(self, run: str) -> list[StepReported]:
        """Every step that was heard of, by world."""
        with Journal(Home(self.home).journal, read_only=True) as journal:
            return journal.rows(run)

    def first_step(self, run: str, world: int) -> int:
        """The first step that was heard of in a world; rows are kept a moment after what the state says."""
        deadline = time.monotonic() + ROWS_WITHIN_S
        while not (steps := [row.step for row in self.rows(run) if row.world == world]):
            assert time.monotonic() < deadline, f"{run}: no step of world {world} is kept\n{self.told(run)}"
            time.sleep(0.05)
        return min(steps)

    def wait(self, run: str, until: Callable[[dict[str, Any]], bool], *, within_s: float = 120.0) -> dict[str, Any]:
        """Poll the status until it holds; a run that ends before it does is a failure of the test."""
        deadline = time.monotonic() + within_s
        seen, asked, status = self._written(), time.monotonic(), self.status(run)
        while not until(status):
            ended = status["exit_code"] != contract.NOT_FINISHED
            assert not ended, f"{run} ended: {status}\n{self.told(run)}"
            assert time.monotonic() < deadline, f"{run}: not within {within_s} s: {status}\n{self.told(run)}"
            time.sleep(0.05)
            if (now := self._written()) != seen or time.monotonic() - asked > LOOK_S:
                seen, asked, status = now, time.monotonic(), self.status(run)
        return status

    def _written(self) -> int:
        """Changes when something is added to the journal; a status that is asked for as often as a file's time is half
        of what a test costs while it waits."""
        try:
            return (self.home / "journal.db-wal").stat().st_mtime_ns
        except OSError:
            return 0

    def reach(self, run: str, step: int, **wait: Any) -> dict[str, Any]:
        """Wait until the run trains beyond a step with a checkpoint to fall back to."""

        def there(status: dict[str, Any]) -> bool:
            return bool(status["state"] == "RUNNING" and status["step"] >= step and self.restorable(run))

        return self.wait(run, there, **wait)

    def restorable(self, run: str) -> list[dict[str, Any]]:
        """Checkpoints that a crash may resume from."""
        return [c for c in self.checkpoints(run) if c["state"] in ("verified", "good")]

    def finish(self, run: str, **wait: Any) -> dict[str, Any]:
        """Wait for the end; it must be a success."""
        status = self.wait(run, lambda s: bool(s["exit_code"] != contract.NOT_FINISHED), **wait)
        assert status["state"] == "SUCCEEDED", f"{status}\n{self.told(run)}"
        return status

    def drill(self, run: str, name: str, rank: int = 0) -> str:
        """Inject a fault."""
        return inject(self.home, run, name, rank)

    def supervisor_pid(self) -> int:
        """The process that supervises now."""
        return int(json.loads((self.home / "supervisor.json").read_text())["pid"])

    def told(self, run: str) -> str:
        """The story and the end of the supervisor's log, for a failure's message."""
        story = "\n".join(s["text"] for s in contract.story(self.home, run)["sentences"])
        log = self.home / "supervisor.log"
        tail = log.read_text()[-3000:] if log.exists() else "no supervisor.log"
        return f"{story}\n--- supervisor.log\n{tail}"

    def close(self) -> None:
        """End everything that was started here, and make sure."""
        (self.home / "supervisor.off").touch()
        if (self.home / "supervisor.json").exists():
            _end(self.supervisor_pid())
        for pid in _beside(self.home):  # they outlive a supervisor that is killed
            _end(pid)
        for run in sorted(path.name for path in (self.home / "runs").glob("*")):
            door.dismiss(self.home, run)
            for attempt in sorted((self.home / "runs" / run / "attempts").glob("[0-9]*")):
                assert not registry.end(self.home, run, int(attempt.name)), f"{run}: processes are left"


def commands() -> Iterator[tuple[int, list[bytes]]]:
    """Every process of this machine, and its words."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit():
                yield int(entry.name), (entry / "cmdline").read_bytes().split(b"\0")


def _beside(home: Path) -> list[int]:
    """Processes of ours that work on a state folder from outside of its runs."""
    name = str(home).encode()
    return [pid for pid, words in commands() if name in words and any(w.startswith(b"orchestrator.") for w in words)]


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return

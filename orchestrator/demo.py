"""What does a run that survives look like? `make demo`: the main job, eight faults, nobody touching it.

It drives the same commands that a person has: submit, drill, status, story, ledger. Everything it prints is read from
the journal.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.load import load, resolve
from monitors.clock import SystemClock
from orchestrator import contract
from orchestrator.cli.text import print_ledger, print_story
from orchestrator.client import ask
from orchestrator.drills import DRILLS, inject

RECIPE = Path(__file__).parent.parent / "jobs" / "recipes" / "demo.yaml"
POISON = (190, 206)
"""data indices whose targets are random in the demo's recipe"""
DEADLINE_S = 400.0
CLOCK = SystemClock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One fault, at the first moment from `step` on when a checkpoint is there to fall back to."""

    step: int
    drills: tuple[tuple[str, int], ...]
    """names and ranks"""


SCENES = (
    Scene(step=25, drills=(("kill", 1),)),
    Scene(step=50, drills=(("exception", 1),)),
    Scene(step=75, drills=(("stop", 1),)),
    Scene(step=100, drills=(("spin", 0),)),
    Scene(step=130, drills=(("nan", 1),)),
    # The poisoned window of data needs no drill: it lies in the data.
    Scene(step=225, drills=(("flip", 0), ("kill", 0))),
    Scene(step=250, drills=(("supervisor", 0),)),
)


class Show:
    """Prints what happens, while it happens."""

    def __init__(self, home: Path, run: str) -> None:
        self._home = home
        self._run = run
        self._began = CLOCK.now()
        self._seen = 0

    def say(self, text: str) -> None:
        """One line with the time since the start."""
        print(f"[{CLOCK.now() - self._began:6.1f} s] {text}", flush=True)

    def follow(self) -> dict[str, Any]:
        """Print the new sentences of the story; returns the status."""
        sentences = contract.story(self._home, self._run)["sentences"]
        for sentence in sentences[self._seen :]:
            self.say(f"  {sentence['text']}")
        self._seen = len(sentences)
        return contract.status(self._home, self._run)


def _wait(show: Show, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = CLOCK.now() + DEADLINE_S
    while CLOCK.now() < deadline:
        status = show.follow()
        if until(status) or status["exit_code"] != contract.NOT_FINISHED:
            return status
        time.sleep(0.2)
    raise SystemExit(f"the demo did not get there within {DEADLINE_S:.0f} s: see `lastgood status`")


def _ready(scene: Scene, home: Path, run: str) -> Callable[[dict[str, Any]], bool]:
    def ready(status: dict[str, Any]) -> bool:
        if status["state"] != "RUNNING" or status["step"] < scene.step:
            return False
        return any(c["state"] in ("verified", "good") for c in contract.checkpoints(home, run)["checkpoints"])

    return ready


def play(home: Path) -> int:
    """Run the demo in a state folder; returns the exit status."""
    spec = resolve(load(RECIPE), RECIPE)
    run = str(
        ask(home, {"ask": "submit", "spec": spec.model_dump(mode="json"), "yaml": RECIPE.read_text()}, start=True)[
            "run"
        ]
    )
    show = Show(home, run)
    show.say(f"submitted {run}: {' '.join(spec.argv)} on {spec.nodes * spec.ranks_per_node} ranks")
    for scene in SCENES:
        status = _wait(show, _ready(scene, home, run))
        for name, rank in scene.drills:
            show.say(f"DRILL at step {status['step']}: {DRILLS[name].does}")
            show.say(f"  {inject(home, run, name, rank)}")
    status = _wait(show, lambda _: False)
    print_story(contract.story(home, run), contract.incidents(home, run))
    print_ledger(contract.ledger(home, run))
    print(f"\n{run}: {status['state']}: {status['reason']}")
    return int(status["exit_code"])


def main(argv: list[str] | None = None) -> int:
    """`python -P -m orchestrator.demo [--home HOME]`."""
    parser = argparse.ArgumentParser(prog="lastgood demo")
    parser.add_argument("--home", type=Path, help="state folder; default: a fresh one that is removed after success")
    home = parser.parse_args(argv).home
    if home is not None:
        return play(home.absolute())
    with tempfile.TemporaryDirectory(prefix="lastgood-demo-") as folder:
        status = play(Path(folder) / "home")
        ask(Path(folder) / "home", {"ask": "shutdown"}, start=False)
    return status


if __name__ == "__main__":
    sys.exit(main())

"""What does a run that survives look like? `make demo`: the main job, eight faults, nobody touching it.

It drives the same commands that a person has: submit, drill, status, story, ledger. Everything it prints is read from
the journal.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.load import load, resolve
from jobs.spec import Spec
from monitors.incidents import Kind
from orchestrator import contract, demo_gpu
from orchestrator.cli.text import print_ledger, print_story
from orchestrator.client import ask
from orchestrator.demo_stage import RECIPE, Show, stage, wait
from orchestrator.drills import DRILLS
from orchestrator.home import Home
from orchestrator.injection import inject
from orchestrator.journal import Journal

POISON = (190, 206)
"""data indices whose targets are random in the demo's recipe"""
POISONED = frozenset({Kind.LOSS_SPIKE, Kind.LOSS_DIVERGENCE})
"""what they may be told as: one of them"""
BUSY = frozenset({Kind.STRAGGLER, Kind.HOST_DEGRADED, Kind.RECOVERY_SLOW})
"""What a machine may really be, beside the demo: no problem as long as it is only noted."""
INTERRUPTED = 130


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


def _ready(scene: Scene, home: Path, run: str) -> Callable[[dict[str, Any]], bool]:
    known: set[str] = set()
    flips = any(name == "flip" for name, _ in scene.drills)
    before = sum(len(one.drills) for one in SCENES[: SCENES.index(scene)])

    def ready(status: dict[str, Any]) -> bool:
        if status["state"] != "RUNNING" or status["step"] < scene.step:
            return False
        if sum(one["drill"] is not None for one in contract.incidents(home, run)["incidents"]) < before:
            return False  # a rank that a fault has still to strike cannot be given another
        saves = contract.checkpoints(home, run)["checkpoints"]
        news = {save["name"] for save in saves} - known
        first = not known
        known.update(news)
        # A save that is new leaves the most time for flip and crash: a newer one would be restored in its place.
        if flips and (first or not news):
            return False
        return any(save["state"] in ("verified", "good") for save in saves)

    return ready


ALONE = """
import os, runpy, sys
sys.argv = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
sys.stdout.flush()
os._exit(0)
"""
"""`-m MODULE WORDS`, ended as ranks of a run are: torch's threads may abort a process that takes itself down"""


def places_alone(folder: Path, *, ranks: int, skips: Sequence[tuple[int, int]]) -> list[dict[str, str]]:
    """What the environment tells each rank of a training that nobody watches."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    shared |= {"LASTGOOD_CHECKPOINTS": str(folder / "checkpoints"), "LASTGOOD_SKIPS": json.dumps(list(skips))}
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


def train_alone(
    folder: Path, argv: Sequence[str], *, ranks: int, env: dict[str, str], skips: Sequence[tuple[int, int]]
) -> None:
    """The same training with nobody watching and nothing happening to it. Raises SystemExit when it fails."""
    children = []
    for rank, place in enumerate(places_alone(folder, ranks=ranks, skips=skips)):
        with (folder / f"rank{rank}.log").open("w") as log:
            command = [sys.executable, "-P", "-c", ALONE, *argv]
            child = subprocess.Popen(command, env={**os.environ, **env, **place}, stdout=log, stderr=log, cwd=folder)
        children.append(child)
    for rank, child in enumerate(children):
        if child.wait():
            raise SystemExit(f"undisturbed training failed:\n{(folder / f'rank{rank}.log').read_text()[-2000:]}")


def as_undisturbed(folder: Path, spec: Spec, run: str) -> bool:
    """Whether what was trained through all faults equals, bit for bit, what trains undisturbed."""
    with Journal(Home(folder / "home").journal, read_only=True) as journal:
        state, _ = journal.load(run)
    assert state is not None
    print(f"\nThe same training undisturbed, told to skip the data {[list(skip) for skip in state.skips]}:")
    alone = folder / "undisturbed"
    alone.mkdir()
    argv = [*spec.argv, *_outputs(alone)]
    train_alone(alone, argv, ranks=spec.ranks_per_node, env=spec.env, skips=state.skips)
    same = _trained(alone) == _trained(folder)
    for title, of in (("undisturbed", alone), ("through all faults", folder)):
        print(f"  {(of / 'weights').read_text().split()[-1]}  weights {title}")
    print("bit-identical, and so is the loss of every step" if same else "DIFFERENT: this is a bug, please report it")
    return same


def _outputs(folder: Path) -> tuple[str, ...]:
    return ("--losses", str(folder / "losses"), "--weights", str(folder / "weights"))


def _trained(folder: Path) -> tuple[str, dict[str, str]]:
    """Digest of the weights, and the loss of each step as it counted in the end."""
    rows = (line.split(" ", 1) for line in (folder / "losses").read_text().splitlines())
    return (folder / "weights").read_text(), dict(rows)


def submitted(folder: Path) -> tuple[Spec, str]:
    """Ask for the demo's run; its spec as the recipe has it, and its id."""
    spec = resolve(load(RECIPE), RECIPE)
    asked = spec.model_copy(update={"command": (*spec.argv, *_outputs(folder))})
    order = {"ask": "submit", "spec": asked.model_dump(mode="json"), "yaml": RECIPE.read_text()}
    return spec, str(ask(folder / "home", order, start=True)["run"])


def perform(show: Show, scene: Scene, home: Path, run: str) -> None:
    """Wait for a scene's moment, and play it."""
    status = wait(show, _ready(scene, home, run))
    for name, rank in scene.drills:
        show.say(f"DRILL at step {status['step']}: {DRILLS[name].does}")
        show.say(f"  {inject(home, run, name, rank)}")


def play(folder: Path) -> int:
    """Run the demo in a folder; returns the exit status."""
    home = folder / "home"
    spec, run = submitted(folder)
    show = Show(home, run)
    show.say(f"submitted {run}: {' '.join(spec.argv)} on {spec.nodes * spec.ranks_per_node} ranks")
    for scene in SCENES:
        perform(show, scene, home, run)
    status = wait(show, lambda _: False)
    incidents = contract.incidents(home, run)
    print_story(contract.story(home, run), incidents)
    print_ledger(contract.ledger(home, run))
    print(f"\n{run}: {status['state']}: {status['reason']}")
    wrong = problems(incidents["incidents"])
    print("\n".join(wrong) or "every fault was told as what it is, and nothing else was")
    same = as_undisturbed(folder, spec, run)
    return int(status["exit_code"]) or int(bool(wrong) or not same)


def problems(incidents: Sequence[dict[str, Any]]) -> list[str]:
    """What was not told as it should have been: each fault that was injected or lies in the data, and no other."""
    told = [(one["drill"], one["kind"]) for one in incidents]
    asked = [(name, DRILLS[name].expects) for scene in SCENES for name, _ in scene.drills]
    missing = [f"MISSING: {kind}, which the drill {name} provokes" for name, kind in asked if (name, kind) not in told]
    if not any(kind in POISONED for _, kind in told):
        missing.append(f"MISSING: {' or '.join(sorted(POISONED))}, which the poisoned data provoke")
    known = {*POISONED, *(kind for _, kind in asked)}
    known |= BUSY if all(one["response"] == "observe" for one in incidents if one["kind"] in BUSY) else set()
    return missing + [f"UNEXPECTED: {one['id']} {one['kind']}" for one in incidents if one["kind"] not in known]


def _played(folder: Path, fault: str | None) -> int:
    try:
        with stage(folder / "home"):
            return play(folder) if fault is None else demo_gpu.play(folder, fault)
    except KeyboardInterrupt:
        print("interrupted: nothing of the demo runs on", flush=True)
        return INTERRUPTED


def main(argv: list[str] | None = None) -> int:
    """`lastgood demo`, or `python -P -m orchestrator.demo`."""
    parser = argparse.ArgumentParser(prog="lastgood demo")
    parser.add_argument("--folder", type=Path, help="where everything goes; default: a fresh one, removed in the end")
    parser.add_argument(
        "--fault", choices=list(demo_gpu.FAULTS), help="instead: one fault of a GPU, on a machine without any"
    )
    options = parser.parse_args(argv)
    if options.folder is not None:
        options.folder.mkdir(parents=True)
        return _played(options.folder.absolute(), options.fault)
    with tempfile.TemporaryDirectory(prefix="lastgood-demo-") as fresh:
        return _played(Path(fresh), options.fault)


if __name__ == "__main__":
    sys.exit(main())

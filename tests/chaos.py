"""Does a run get on while something breaks every ten seconds? `make chaos`: 30 minutes, four ranks.

A fault at random, from one seed: a rank is killed, raises, stops or spins, two die at once, the agent or the supervisor
is killed. Nobody touches the run. It must finish with the weights and losses of an undisturbed run, bit for bit; what
share of its time was of use is told by its own ledger.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).with_name("e2e")))

from lab import Lab, gpt, read, undisturbed

from orchestrator import contract

RANKS = 4
STEP_S = 0.1
MODEL = ("--layers", "2")
EVERY_S = 10.0
WANTED = 0.85
FAULTS = ("kill", "kill", "exception", "stop", "spin", "two", "agent", "supervisor")
SAVES = {"every_steps": 20, "probation_steps": 20, "keep": 3, "memory_every_steps": 1}


def inject(lab: Lab, run: str, dice: random.Random) -> str:
    """One fault; the name of what was done, or why nothing was."""
    fault = dice.choice(FAULTS)
    ranks = dice.sample(range(RANKS), 2)
    try:
        for rank in ranks[: 1 + (fault == "two")]:
            lab.drill(run, "kill" if fault == "two" else fault, rank)
    except (LookupError, OSError) as error:  # between two worlds, or between two supervisors
        return f"none: {str(error)[:60]}"
    return fault


def play(lab: Lab, minutes: float, seed: int) -> bool:
    """Run it; whether all of it held."""
    dice, done = random.Random(seed), Counter[str]()
    steps = int(minutes * 60 / STEP_S)
    run = lab.submit(
        gpt(lab.folder, *MODEL, "--step-s", str(STEP_S), steps=steps), ranks_per_node=RANKS, checkpoint=SAVES
    )
    lab.wait(run, lambda status: status["step"] >= 20)
    began = last = time.monotonic()
    while time.monotonic() - began < 60 * minutes and _runs(lab.status(run)):
        time.sleep(max(0.0, last + EVERY_S * dice.uniform(0.5, 1.5) - time.monotonic()))
        last = time.monotonic()
        done[inject(lab, run, dice)] += 1
    lab.finish(run, within_s=60 * minutes + 300)
    books = contract.ledger(lab.home, run)
    _tell(lab, run, done, books)
    undisturbed(lab.folder / "alone", *MODEL, "--steps", str(steps), ranks=RANKS, within_s=None)
    same = _same(lab.folder)
    print("bit-identical to the undisturbed run" if same else "DIFFERENT from the undisturbed run")
    return same and books["ettr"] >= WANTED


def _runs(status: dict[str, Any]) -> bool:
    return bool(status["exit_code"] == contract.NOT_FINISHED)


def _same(folder: Path) -> bool:
    trained = read(folder / "losses", folder / "weights")
    alone = read(folder / "alone" / "losses", folder / "alone" / "weights")
    return (trained.losses, trained.weights) == (alone.losses, alone.weights)


def _tell(lab: Lab, run: str, done: Counter[str], books: dict[str, Any]) -> None:
    incidents = lab.incidents(run)
    print(f"{sum(done.values())} faults in {books['wall_s']:.0f} s: {dict(done)}")
    print(f"told as {dict(Counter(incident['kind'] for incident in incidents))}")
    lost = [incident["steps_lost"] for incident in incidents if incident["steps_lost"] is not None]
    print(f"steps lost: {sum(lost)}, at most {max(lost, default=0)} at once")
    print(f"seconds by bucket: { {name: round(s, 1) for name, s in books['buckets'].items() if s} }")
    print(f"ETTR {books['ettr']:.3f} (wanted {WANTED}), mean time to recover {books['mttr_s']:.2f} s")


def main() -> int:
    """0 when everything held."""
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores, seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="lastgood-chaos-") as folder:
        lab = Lab(Path(folder))
        try:
            return 0 if play(lab, options.minutes, options.seed) else 1
        finally:
            lab.close()


if __name__ == "__main__":
    sys.exit(main())

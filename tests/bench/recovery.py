"""How many seconds from a fault to the first step of the whole world? `python -m tests.bench recovery`

Faults into the recipe's small GPT on 2 ranks, one run for each kind, measured by the run's own journal: from the
drill to the first step after it.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import tempfile
from pathlib import Path
from types import ModuleType

DRILLS = (("kill", 1), ("exception", 1), ("stop", 1), ("spin", 0))
GAP_STEPS = 30
"""between two faults: enough for the hang limits to be learned and a checkpoint to be there"""


def _lab() -> ModuleType:
    path = Path(__file__).parent.parent / "e2e" / "lab.py"
    spec = importlib.util.spec_from_file_location("lab", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["lab"] = module
    spec.loader.exec_module(module)
    return module


def _trials(lab: ModuleType, drill: str, rank: int, trials: int) -> list[dict[str, float]]:
    with tempfile.TemporaryDirectory(prefix="lastgood-bench-") as folder:
        bench = lab.Lab(Path(folder))
        try:
            command = lab.gpt(bench.folder, "--step-s", "0.1", steps=(trials + 2) * GAP_STEPS)
            saves = {"every_steps": 10, "probation_steps": 12, "keep": 3, "memory_every_steps": 1}
            run = bench.submit(command, checkpoint=saves)
            for trial in range(trials):
                bench.reach(run, (trial + 1) * GAP_STEPS)
                bench.drill(run, drill, rank)
                bench.wait(run, lambda _, n=trial: len(_recovered(bench, run)) > n)
            return _recovered(bench, run)
        finally:
            bench.close()


def _recovered(bench: object, run: str) -> list[dict[str, float]]:
    found = bench.incidents(run)  # type: ignore[attr-defined]
    return [
        incident["phases_s"] | {"steps": incident["steps_lost"]}
        for incident in found
        if incident["phases_s"]["total"] is not None
    ]


def main(trials: int) -> None:
    """Print one line for each fault: median and minimum of the whole and of its parts, in seconds."""
    lab = _lab()
    print(f"{'fault':10} {'total s':>14} {'detect':>7} {'stop':>6} {'start':>6} {'restore':>8} {'first':>6} lost")
    for drill, rank in DRILLS:
        found = _trials(lab, drill, rank, trials)
        totals = [phases["total"] for phases in found]
        parts = [
            statistics.median(phases[part] for phases in found)
            for part in ("detect", "stop", "start", "restore", "first_step")
        ]
        whole = f"{statistics.median(totals):.2f} [{min(totals):.2f}]"
        print(
            f"{drill:10} {whole:>14} {parts[0]:7.2f} {parts[1]:6.2f} {parts[2]:6.2f} {parts[3]:8.2f} {parts[4]:6.2f} "
            f"{max(phases['steps'] for phases in found):4.0f}"
        )

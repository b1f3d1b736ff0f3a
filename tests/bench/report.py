"""What does telling the supervisor cost the training loop? `python -m tests.bench.report`

A real run with a real progress file in shared memory, no model: the price of `run.report(...)`, and of a whole step of
an empty `steps` loop (row, orders, bookkeeping) with one report in it. Prints one line of JSON and one for people.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

from lastgood import progress
from lastgood.place import Place
from lastgood.run import Run, open_run
from tests.bench import figures

STEPS = 20_000
REPORTS = 10
"""in each step of the first loop"""
REPORT_US = 5.0
"""at most, in the median"""


def supervised(folder: Path) -> Run:
    """A run whose progress file lies where an agent would put it."""
    progress.create(str(folder / "progress"))
    return open_run(
        Place(
            progress=str(folder / "progress"),
            rank_dir=str(folder),
            checkpoints=str(folder / "checkpoints"),
            resume=(),
            save_every=STEPS,
        )
    )


def reports_us(run: Run) -> list[float]:
    """Microseconds of each report."""
    taken = []
    for _ in run.steps({}, until=STEPS // REPORTS):
        for _ in range(REPORTS):
            began = time.perf_counter_ns()
            run.report(loss=2.5, grad_norm=0.7, lr=3e-4, tokens=4096.0, local_loss=2.4, local_grad_norm=0.9)
            taken.append((time.perf_counter_ns() - began) / 1e3)
    return taken


def steps_us(run: Run) -> list[float]:
    """Microseconds of each step that does nothing but report."""
    taken, began = [], time.perf_counter_ns()
    for _ in run.steps({}, until=STEPS):
        run.report(loss=2.5, grad_norm=0.7, lr=3e-4, tokens=4096.0, local_loss=2.4, local_grad_norm=0.9)
        now = time.perf_counter_ns()
        taken.append((now - began) / 1e3)
        began = now
    return taken[1:]  # the first holds the restoring


def main() -> bool:
    """Measure, print, and say whether the target is met."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as one, tempfile.TemporaryDirectory(dir="/dev/shm") as two:
        report, step = reports_us(supervised(Path(one))), steps_us(supervised(Path(two)))
    found = {
        "report_us_median": round(statistics.median(report), 2),
        "report_us_p99": round(statistics.quantiles(report, n=100)[98], 2),
        "step_us_median": round(statistics.median(step), 2),
        "step_us_p99": round(statistics.quantiles(step, n=100)[98], 2),
    }
    print(json.dumps(found))
    print(
        f"report(): {found['report_us_median']} µs median, {found['report_us_p99']} µs p99; "
        f"a whole empty step: {found['step_us_median']} µs median, {found['step_us_p99']} µs p99"
    )
    missed = figures.above({"report()": found["report_us_median"]}, {"report()": REPORT_US}, " µs in the median")
    print(figures.verdict(missed))
    return not missed


if __name__ == "__main__":
    main()

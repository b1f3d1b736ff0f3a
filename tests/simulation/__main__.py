"""`python -m tests.simulation SEED [--days N] [--seeds K] [-v]`

Exits 0 when all is well, 127 after a crash, 128 for liveness, 129 for correctness.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter

from orchestrator.core.invariants import InvariantBroken
from tests.simulation import planted
from tests.simulation.knobs import Profile, drawn
from tests.simulation.office import decided
from tests.simulation.simulation import Result, Simulation, Stuck
from tests.simulation.truth import Violation

PLANTED = {bug.__name__: bug for bug in planted.ALL}
CRASH, LIVENESS, CORRECTNESS = 127, 128, 129


def main(argv: list[str] | None = None) -> int:
    """Run seeds until one fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("seed", type=int)
    parser.add_argument("--days", type=float, help="how long anything may fail (default: from the seed)")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds, from the given one on")
    parser.add_argument("--profile", type=Profile, choices=list(Profile))
    parser.add_argument("--planted", choices=list(PLANTED), help="run a core with a known bug, to see it found")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first seed that fails")
    parser.add_argument("-v", "--verbose", action="store_true", help="print knobs and decisions")
    asked = parser.parse_args(argv)
    worst, days, began = 0, 0.0, time.process_time()
    ends: Counter[str] = Counter()
    for seed in range(asked.seed, asked.seed + asked.seeds):
        simulation = Simulation(drawn(seed, asked.days, asked.profile), PLANTED.get(asked.planted, decided))
        code, result = _run(simulation, asked.verbose)
        days += simulation._days()
        simulation.forget()
        ends[str(result.state.phase) if result else f"exit {code}"] += 1
        if code:
            given = ((name, getattr(asked, name)) for name in ("days", "profile", "planted"))
            extra = "".join(f" --{name} {value}" for name, value in given if value)
            print(f"reproduce: python -m tests.simulation {seed}{extra}", flush=True)
            worst = max(worst, code)
            if not asked.keep_going:
                break
    spent_s = time.process_time() - began
    print(f"{dict(ends)} {days:.0f} simulated days in {spent_s:.1f} CPU s: {days / spent_s:.0f} days/s")
    return worst


def _run(simulation: Simulation, verbose: bool) -> tuple[int, Result | None]:
    code, result = 0, None
    if verbose:
        print(simulation.knobs)
    try:
        result = simulation.run()
    except Stuck as error:
        print(f"liveness: {error}")
        code = LIVENESS
    except (Violation, InvariantBroken) as error:
        print(f"correctness: {error}")
        code = CORRECTNESS
    except Exception:
        traceback.print_exc()
        code = CRASH
    if verbose:
        _tell(simulation)
        if result is not None:
            print(f"{result.state.phase}: {result.days:.1f} days, {result.worlds} worlds, {result.crashes} crashes "
                  f"of the supervisor, {result.incidents}")  # fmt: skip
    return code, result


def _tell(simulation: Simulation) -> None:
    began = simulation.office.journal.entries[0].event.at
    for entry in simulation.office.journal.entries:
        if entry.decision.reason:
            day = (entry.event.at - began) / 86400
            state = entry.decision.state
            print(f"{day:9.4f} {state.phase:15} w{state.world} {type(entry.event).__name__:20} {entry.decision.reason}")


if __name__ == "__main__":
    sys.exit(main())

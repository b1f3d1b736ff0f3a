"""What does it cost, and how fast does a run come back? `make bench`: every figure that the documents quote.

make bench                                                all of it: two to three hours on 2 cores, nothing beside it
make bench ARGS="recovery --peers torchrun,nvrx"          lastgood and these, 5 rounds: 15 minutes for each
make bench ARGS="recovery --rounds 1 --faults kill"       a look: 2 minutes
make bench ARGS="table FILE --draw docs/recovery.svg"     table and picture of rows that were measured before
make bench ARGS="trials --trials 100"                     100 kills and 100 exceptions inside one run: 25 minutes
make bench ARGS="dashboard"                               its load and latency with 200 runs and ten viewers: a minute
make bench ARGS="overhead"                                what supervision costs a step: 35 minutes
make bench ARGS="report", ARGS="memory", ARGS="ends"      a report, a copy in memory, hearing of an end: seconds
make bench ARGS="processes"                               the memory of each process of a run: seconds

Fails when something is not within its targets, and says what; they stand in the file of each part.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import dashboard, ends, figures, memory, overhead, picture, processes, recovery, report, trials
from tests.bench.environments import ROOT
from tests.bench.peers import PEERS
from tests.bench.referee import TITLES

PICTURE = ROOT / "docs" / "recovery.svg"
USUAL = tuple(name for name, peer in PEERS.items() if peer.usual)
PARTS = ("report", "memory", "ends", "processes", "dashboard", "overhead", "recovery", "trials")
MEMORY_TRIALS = 12


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("which", nargs="?", choices=(*PARTS, "table"), help="default: all but table")
    parser.add_argument("file", nargs="?", type=Path, help="of rows, for table")
    parser.add_argument("--peers", type=_some(PEERS), default=USUAL, help=f"of {', '.join(PEERS)}; lastgood is in")
    parser.add_argument("--faults", type=_some(TITLES), default=tuple(TITLES), help=f"of {', '.join(TITLES)}")
    parser.add_argument("--rounds", type=int, default=5, help="each runs every peer with every fault once")
    parser.add_argument("--trials", type=int, default=100, help="kills, and as many exceptions, in one run")
    parser.add_argument("--blocks", type=int, default=300, help="without supervision, of the overhead")
    parser.add_argument("--out", type=Path, help="rows are appended there; default: bench-TIME.jsonl")
    parser.add_argument("--draw", type=Path, help="the picture; default: docs/recovery.svg, where all peers took part")
    options = parser.parse_args(words)
    if (options.which == "table") != (options.file is not None):
        parser.error("table needs the file of rows, and nothing else does")
    if options.which == "table" and not options.file.is_file():
        parser.error(f"{options.file} is no file")
    if min(options.rounds, options.trials, options.blocks) < 1:
        parser.error("rounds, trials and blocks are at least 1")
    return options


def _some(known: dict[str, object]) -> object:
    def some(text: str) -> tuple[str, ...]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return tuple(name for name in known if name in names or name == "lastgood")

    return some


def main() -> int:
    """0 when what was asked for is within its targets."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that nothing is left behind
    options = parse()
    out = options.out or Path(time.strftime("bench-%Y%m%d-%H%M%S.jsonl"))
    whole = set(options.peers) >= set(USUAL) and set(options.faults) >= set(picture.PANELS)
    draw = options.draw or (PICTURE if whole else None)
    print(f"load {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores", flush=True)
    if options.which == "table":
        rows = [json.loads(line) for line in options.file.read_text().splitlines()]
        return 0 if recovery.tell([row for row in rows if "peer" in row], {}, options.draw) else 1
    parts: dict[str, Callable[[], bool]] = {
        "report": report.main,
        "memory": lambda: memory.main(MEMORY_TRIALS),
        "ends": ends.main,
        "processes": processes.main,
        "dashboard": dashboard.main,
        "overhead": lambda: overhead.main(options.blocks),
        "recovery": lambda: recovery.main(options.peers, options.faults, options.rounds, out, draw),
        "trials": lambda: trials.main(options.trials, out),
    }
    missed = []
    for part in PARTS if options.which is None else (options.which,):
        print(f"\n--- {part}", flush=True)
        if not parts[part]():
            missed.append(part)
    if options.which is None:
        print(f"\n--- all of it\n{figures.verdict(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

"""What does it cost, and how fast does a run come back? `make bench`: every figure that the documents quote.

python -m tests.bench [report|memory|recovery] [--trials N]
"""

from __future__ import annotations

import argparse
import os

from tests.bench import memory, recovery, report


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("which", nargs="?", choices=("report", "memory", "recovery"))
    parser.add_argument("--trials", type=int, default=3, help="of each fault")
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores")
    if options.which in (None, "report"):
        report.main()
    if options.which in (None, "memory"):
        memory.main(4 * options.trials)
    if options.which in (None, "recovery"):
        recovery.main(options.trials)


if __name__ == "__main__":
    main()

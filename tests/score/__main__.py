"""How well do the senses judge labelled cases? `python -m tests.score FOLDER [--json] [--only FAMILY...]`.

FOLDER is laid out like the public cases: `kmsg_cases.jsonl`, `traceback_cases.jsonl`, `loss_curves/`. A family whose
cases are not there is left out; hangs, stragglers and power traces are generated, from one seed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.score.rows import Row

FAMILIES = ("kernel", "tracebacks", "hangs", "stragglers", "power", "loss")


def scored(folder: Path, families: Sequence[str]) -> list[Row]:
    """Every row of these families; progress goes to stderr."""
    rows: list[Row] = []
    for family in families:
        began = time.monotonic()
        found = importlib.import_module(f"tests.score.{family}").score(folder)
        rows += found
        print(f"{family}: {len(found)} rows in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return rows


def table(rows: Sequence[Row]) -> Table:
    """The rows as people read them."""
    drawn = Table(title="the senses on labelled cases", title_justify="left")
    for name in ("family", "what", "cases", "precision", "recall", "more", "target", ""):
        drawn.add_column(name, justify="right" if name in ("cases", "precision", "recall") else "left")
    family = ""
    for row in rows:
        if family and row.family != family:
            drawn.add_section()
        family = row.family
        more = ", ".join(f"{name} {value:.4g}" for name, value in row.more.items())
        met = {True: "met", False: "MISSED", None: ""}[row.met]
        shares = ["" if share is None else f"{share:.3f}" for share in (row.precision, row.recall)]
        drawn.add_row(row.family, row.what, str(row.cases), *shares, more, row.target, met)
    return drawn


def main(words: Sequence[str] | None = None) -> int:
    """Score, print, and say by the status whether every target was met."""
    parser = argparse.ArgumentParser(prog="python -m tests.score", description=__doc__)
    parser.add_argument("folder", type=Path, help="labelled cases")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=FAMILIES, metavar="FAMILY")
    options = parser.parse_args(words)
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder")
    rows = scored(options.folder, options.only)
    if options.json:
        print(json.dumps({"load": os.getloadavg()[0], "rows": [asdict(row) for row in rows]}, indent=1))
    else:
        Console(width=None if sys.stdout.isatty() else 200).print(table(rows))
    return int(any(row.met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())

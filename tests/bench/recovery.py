"""How long until the whole world trains on, here and elsewhere? Peers and faults interleaved, one round at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from tests.bench import environments, figures, picture, referee, table
from tests.bench.peers import PEERS

HOPELESS_AFTER = 5
"""trials of which none came back: more of them would only cost a minute each. No fewer, for a peer must not be called
hopeless by less than what lastgood is called fast by"""


def missing(peers: Sequence[str]) -> dict[str, str]:
    """Peers that cannot be used here, and why; what is not there yet is installed."""
    found = {}
    for name in peers:
        environment = PEERS[name].environment
        why = "" if environment is None else environments.prepare(environment)
        if why:
            found[name] = why
    return found


def schedule(peers: Sequence[str], faults: Sequence[str], rounds: int) -> Iterator[tuple[int, str, str]]:
    """Round, peer, fault: everything once before anything twice; who begins changes with the round."""
    for turn in range(rounds):
        first = turn % len(peers)
        for fault, name in product(faults, (*peers[first:], *peers[:first])):
            only_ours = fault == "supervisor" and PEERS[name].environment is not None
            if fault not in PEERS[name].without and not only_ours:
                yield turn, name, fault


def hopeless(rows: Sequence[dict[str, Any]], peer: str, fault: str) -> bool:
    """It was tried often enough, and never came back."""
    tried = table.of(rows, peer, fault)
    return len(tried) >= HOPELESS_AFTER and not any(row["end"] in ("recovered", "shrunk") for row in tried)


def measure(peers: Sequence[str], faults: Sequence[str], rounds: int, out: Path) -> list[dict[str, Any]]:
    """All trials, each written to `out` as soon as it is over."""
    outcome = referee.reference(PEERS[table.OURS].until)
    rows: list[dict[str, Any]] = []
    for turn, name, fault in schedule(peers, faults, rounds):
        if hopeless(rows, name, fault):
            continue
        row = referee.trial(PEERS[name], fault, outcome, referee.moment(turn)) | {"round": turn + 1}
        rows.append(row)
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"round {turn + 1} {name:15} {fault:10} load {row['load']:4.1f}  {table.cell([row])}", flush=True)
    return rows


def main(peers: Sequence[str], faults: Sequence[str], rounds: int, out: Path, draw: Path | None) -> bool:
    """Measure, and tell; whether the targets are met."""
    gone = missing(peers)
    rows = measure([name for name in peers if name not in gone], faults, rounds, out)
    return tell(rows, gone, draw)


def tell(rows: Sequence[dict[str, Any]], gone: dict[str, str], draw: Path | None) -> bool:
    """The table, the ratios, where the time goes, and the picture; whether the targets are met."""
    print(f"\nSeconds from the fault to the first new step of the whole world, median [minimum]; {table.loads(rows)}\n")
    print(table.markdown(rows, gone), *table.ratios(rows), "", *table.phases(rows), sep="\n")
    if draw is not None:
        draw.write_text(picture.draw(rows))
        print(f"\ndrawn: {draw}")
    missed = table.missed(rows)
    print(f"\n{figures.verdict(missed)}")
    return not missed

"""What do all trials together say? Rows to a table for people, how many times faster than the best peer, and what is
not as it should be.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from tests.bench import figures
from tests.bench.peers import PEERS
from tests.bench.referee import TITLES

Row = dict[str, Any]
OURS = "lastgood"
MOST_S = {"kill": 0.6, "exception": 0.6, "stop": 1.7, "spin": 1.7, "two": 1.2, "launcher": 4.0}
"""seconds until the whole world does a new step, in the median"""
LATE_STEPS = 2.0
"""how much later than usual a step may come while nobody supervises: the time of so many. The supervisor that starts
takes a core for a moment"""
WANTED = {"kill": 8.0, "exception": 8.0, "stop": 5.0, "spin": 5.0}
"""times faster than the best peer that restores the whole world"""


def of(rows: Iterable[Row], peer: str, fault: str) -> list[Row]:
    """The trials of one cell."""
    return [row for row in rows if (row["peer"], row["fault"]) == (peer, fault)]


def recovered(rows: Iterable[Row], field: str = "new_s") -> list[float]:
    """Seconds of those trials in which the whole world came back."""
    return [row[field] for row in rows if row["end"] == "recovered" and row.get(field) is not None]


def cell(rows: Sequence[Row]) -> str:
    """`0.52 [0.48]`, median and minimum; how many of how many where some failed; what happened where all did."""
    if not rows:
        return "-"
    if rows[0]["fault"] == "supervisor":
        return _adopted(rows)
    came = recovered(rows)
    if came:
        told = f"{statistics.median(came):.2f} [{min(came):.2f}]"
        fewer = recovered(rows, "shrunk_s")
        told += f", fewer ranks after {statistics.median(fewer):.2f}" if fewer else ""
        return told if len(came) == len(rows) else f"{told}, {len(came)} of {len(rows)}"
    shrunk = [row["shrunk_s"] for row in rows if row["end"] == "shrunk"]
    if shrunk:
        told = f"{statistics.median(shrunk):.2f} [{min(shrunk):.2f}], the world shrinks"
        return told if len(shrunk) == len(rows) else f"{told}, {len(shrunk)} of {len(rows)}"
    ends = [row["end"] for row in rows]
    return f"{max(set(ends), key=ends.count)} (0 of {len(rows)})"


def _adopted(rows: Sequence[Row]) -> str:
    seen = recovered(rows, "seen_s")
    if not seen:
        return rows[0]["end"]
    gap_s = max(row["gap_s"] for row in rows)
    return f"watched again after {statistics.median(seen):.2f} [{min(seen):.2f}], no step later than {gap_s:.2f}"


def markdown(rows: Sequence[Row], missing: dict[str, str]) -> str:
    """The table; `missing` are peers that could not be installed, and why."""
    faults = [fault for fault in TITLES if any(row["fault"] == fault for row in rows)]
    lines = [
        "| peer | " + " | ".join(TITLES[fault] for fault in faults) + " | steps lost | as undisturbed |",
        "|---|" + "---|" * (len(faults) + 2),
    ]
    for name, peer in PEERS.items():
        own = [row for row in rows if row["peer"] == name]
        if name in missing:
            lines.append(f"| {peer.title} | not installed: {missing[name]}" + " |" * (len(faults) + 2))
        elif own:
            cells = [cell(of(own, name, fault)) for fault in faults]
            lines.append(f"| {peer.title} | " + " | ".join([*cells, _lost(own), _same(own)]) + " |")
    return "\n".join(lines)


def _lost(rows: Iterable[Row]) -> str:
    lost = [row["lost"] for row in rows if row.get("lost") is not None and row["end"] in ("recovered", "shrunk")]
    return "-" if not lost else f"{min(lost)}" if min(lost) == max(lost) else f"{min(lost)} to {max(lost)}"


def _same(rows: Iterable[Row]) -> str:
    """In how many of the runs that finished losses and weights were bit-identical."""
    judged = [row["same"] for row in rows if row.get("same") is not None]
    return f"{sum(judged)} of {len(judged)}" if judged else "-"


def best_peer(rows: Sequence[Row], fault: str) -> tuple[str, float] | None:
    """The one with the lowest median among those that restored the whole world in every trial; None when none did."""
    found = []
    for name in PEERS:
        trials = of(rows, name, fault)
        came = recovered(trials)
        if PEERS[name].environment is not None and came and len(came) == len(trials):
            found.append((statistics.median(came), name))
    return (min(found)[1], min(found)[0]) if found else None


def _times_faster(rows: Sequence[Row]) -> dict[str, tuple[float, str]]:
    """By fault, where both came back: how many times faster, and the sentence that says so."""
    told = {}
    for fault in WANTED:
        ours, best = recovered(of(rows, OURS, fault)), best_peer(rows, fault)
        if ours and best is not None:
            times = best[1] / statistics.median(ours)
            than = f"the best that always restores the whole world ({best[0]}, {best[1]:.2f} s)"
            told[fault] = times, f"{TITLES[fault]}: {times:.1f} times faster than {than}"
    return told


def ratios(rows: Sequence[Row]) -> list[str]:
    """One sentence for each fault."""
    return [sentence for _, sentence in _times_faster(rows).values()]


def missed(rows: Sequence[Row]) -> list[str]:
    """Targets that these trials do not meet, a sentence each. A fault that nobody tried has none."""
    medians_s = {fault: statistics.median(came) for fault in MOST_S if (came := recovered(of(rows, OURS, fault)))}
    slow = figures.above(medians_s, {fault: MOST_S[fault] for fault in medians_s}, " s")
    slower = [
        f"{sentence}, wanted {WANTED[fault]:.0f}"
        for fault, (times, sentence) in _times_faster(rows).items()
        if times < WANTED[fault]
    ]
    ours = [row for row in rows if PEERS[row["peer"]].environment is None]
    return [*slow, *slower, *(f"{row['peer']}, {row['fault']}: {why}" for row in ours if (why := _wrong(row)))]


def _wrong(row: Row) -> str:
    """What no trial of ours may show, however fast the others were; empty when it is well."""
    if row["end"] != "recovered":
        return str(row["end"])
    if not row.get("same"):
        return "it does not end as undisturbed training does"
    if row["fault"] != "supervisor":
        return ""
    if row["lost"] is None:
        return "a rank was started anew"
    late = row["gap_s"] / row["step_s"] - 1.0
    return f"a step came {late:.1f} steps late, wanted at most {LATE_STEPS:g}" if late > LATE_STEPS else ""


PHASES = ("detect", "decide", "stop", "wait", "start", "restore", "first_step")


def phases(rows: Sequence[Row]) -> list[str]:
    """Where lastgood's own time goes: medians of each part, by fault."""
    told = [f"{'seconds of lastgood in':22}" + "".join(f"{phase:>11}" for phase in PHASES)]
    for fault in TITLES:
        spent = [last for row in of(rows, OURS, fault) if (last := _last(row)) is not None]
        if spent:
            parts = [[one[phase] for one in spent if one[phase] is not None] for phase in PHASES]
            told.append(f"{fault:22}" + "".join(f"{statistics.median(p):11.2f}" if p else f"{'-':>11}" for p in parts))
    return told


def _last(row: Row) -> dict[str, float | None] | None:
    whole = [phases for phases in row.get("phases_s", ()) if phases["total"] is not None]
    return whole[-1] if whole else None


def loads(rows: Sequence[Row]) -> str:
    """The load of the machine that the figures were taken under."""
    found = [row["load"] for row in rows]
    return f"{len(rows)} trials under a load of {statistics.median(found):.1f} [{min(found):.1f} to {max(found):.1f}]"

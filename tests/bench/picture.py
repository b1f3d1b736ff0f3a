"""Draws the figures: a panel for each fault, a bar for each peer. Plain SVG that is read on light and on dark pages."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

from tests.bench import table
from tests.bench.peers import PEERS

PANELS = {
    "kill": "a rank is killed",
    "exception": "a rank raises an exception",
    "stop": "a rank is stopped (SIGSTOP)",
    "spin": "a rank spins, without collectives",
}
LONGEST_S = 12.0
"""What takes longer is cut there, and says its number: a bar of 48 s would leave nothing of the others."""
PANEL, NAME, BAR, ROW, TOP, MARGIN, END = 490, 124, 246, 24, 44, 10, 12
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1f2933}.title{font-weight:600;font-size:13px}.note{fill:#52606d}"
    ".ours{fill:#0b69a3}.whole{fill:#9aa5b1}.part{fill:none;stroke:#9aa5b1;stroke-dasharray:3 2}.never{fill:#e4e7eb}"
    ".axis{stroke:#cbd2d9}.mine{font-weight:600}"
    "@media(prefers-color-scheme:dark){text{fill:#e4e7eb}.note{fill:#9aa5b1}.ours{fill:#4fb3e8}.whole{fill:#7b8794}"
    ".part{stroke:#7b8794}.never{fill:#323f4b}.axis{stroke:#52606d}}"
)


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _rect(x: float, y: float, width: float, kind: str) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:.1f}" height="{ROW - 9}" rx="2" class="{kind}"/>'


def bar(rows: Sequence[dict[str, Any]], peer: str) -> tuple[float, str, str]:
    """Seconds, what kind of bar, and what stands beside it."""
    came = table.recovered(rows)
    if came:
        some = "" if len(came) == len(rows) else f", {len(came)} of {len(rows)}"
        median = statistics.median(came)
        return median, "ours" if PEERS[peer].environment is None else "whole", f"{median:.2f} s{some}"
    shrunk = [row["shrunk_s"] for row in rows if row["end"] == "shrunk"]
    if shrunk:
        median = statistics.median(shrunk)
        return median, "part", f"{median:.2f} s, world shrinks"
    return LONGEST_S, "never", ""


def _row(rows: Sequence[dict[str, Any]], peer: str, x: float, y: float) -> str:
    seconds, kind, beside = bar(rows, peer)
    width = max(1.5, min(seconds, LONGEST_S) / LONGEST_S * BAR)
    name = _text(x + NAME - 8, y + 12, peer, "mine" if PEERS[peer].environment is None else "", "end")
    if kind == "never":
        ends = [row["end"] for row in rows]
        return (
            name + _rect(x + NAME, y, BAR, kind) + _text(x + NAME + 8, y + 12, max(set(ends), key=ends.count), "note")
        )
    drawn = _rect(x + NAME, y, width, kind) if seconds <= LONGEST_S else _cut(x + NAME, y, kind)
    return name + drawn + _text(x + NAME + width + 6, y + 12, beside)


def _cut(x: float, y: float, kind: str) -> str:
    """A bar that is longer than there is room for."""
    return _rect(x, y, BAR - END - 4, kind) + _rect(x + BAR - END, y, END, kind)


def _panel(rows: Sequence[dict[str, Any]], fault: str, x: float, y: float) -> str:
    peers = [name for name in PEERS if table.of(rows, name, fault)]
    lines = "".join(
        _row(table.of(rows, name, fault), name, x, y + TOP + number * ROW) for number, name in enumerate(peers)
    )
    left, end = x + NAME, y + TOP + len(peers) * ROW
    axis = f'<path class="axis" d="M{left:g},{y + TOP - 5:g} V{end:g}"/>'
    return _text(left, y + 28, PANELS[fault], "title") + axis + lines


def draw(rows: Sequence[dict[str, Any]]) -> str:
    """The picture as SVG."""
    faults = [fault for fault in PANELS if any(row["fault"] == fault for row in rows)]
    most = max((len({row["peer"] for row in rows if row["fault"] == fault}) for fault in faults), default=0)
    high = TOP + most * ROW + MARGIN
    lines_of_panels = (len(faults) + 1) // 2
    width, height = 2 * PANEL, 30 + lines_of_panels * high + 24
    body = "".join(
        _panel(rows, fault, (number % 2) * PANEL, 30 + (number // 2) * high) for number, fault in enumerate(faults)
    )
    head = _text(NAME, 22, "Seconds from a fault to the first new step of the whole world (shorter is better)", "title")
    trials = max((len(table.of(rows, row["peer"], row["fault"])) for row in rows), default=0)
    job = "2.6 M-parameter GPT, FSDP2 on gloo, 2 ranks, a save every 10 steps"
    foot = f"Medians of up to {trials}; {job}; {table.loads(rows)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(_aloud(rows, faults))}"><style>{STYLE}</style>{head}{body}'
        f"{_text(NAME, height - 10, foot, 'note')}</svg>\n"
    )


def _aloud(rows: Sequence[dict[str, Any]], faults: Sequence[str]) -> str:
    """The same for who cannot see it."""
    told = []
    for fault in faults:
        ours, best = table.recovered(table.of(rows, table.OURS, fault)), table.best_peer(rows, fault)
        if ours:
            against = f", the best peer {best[0]} {best[1]:.2f} s" if best is not None else ""
            told.append(f"{PANELS[fault]}: lastgood {statistics.median(ours):.2f} s{against}")
    return "; ".join(told)

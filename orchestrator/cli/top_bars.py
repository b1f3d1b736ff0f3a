"""How does time look in a row of characters? The loss as a curve, the ledger and the attempts as bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite

from rich.text import Text

from orchestrator.cli.text import clock
from orchestrator.cli.top_sight import Sight
from orchestrator.core.policy import Rung
from orchestrator.spans import Bucket, Span

BLOCKS = "▁▂▃▄▅▆▇█"
ATTEMPTS_MOST = 3
LEGEND_MOST = 2
"""lines: what did not fit is the smallest"""
MARGIN = 6
"""columns for what a bar is of"""
LOOKS: dict[Bucket, tuple[str, str]] = {
    Bucket.PRODUCTIVE: ("█", "green"),
    Bucket.STARTUP: ("s", "cyan"),
    Bucket.RESTORE: ("r", "cyan"),
    Bucket.PREFLIGHT: ("f", "cyan"),
    Bucket.QUEUED: ("·", "dim"),
    Bucket.CHECKPOINT_STALL: ("c", "blue"),
    Bucket.DATA_STALL: ("d", "blue"),
    Bucket.RECOMPUTED: ("x", "yellow"),
    Bucket.DETECTING: ("?", "red"),
    Bucket.HUNG: ("h", "red"),
    Bucket.RECOVERING: ("R", "yellow"),
    Bucket.DEGRADED: ("▒", "yellow"),
    Bucket.PAUSED: ("p", "dim"),
    Bucket.HELD: ("!", "red"),
}
"""the letter says it, the colour only helps the eye"""


def curve(losses: Sequence[float | None], width: int) -> Text:
    """The loss, newest to the right; what is not finite is `!`."""
    shown = [loss for loss in losses if loss is not None][-(width - 30) :]
    finite = [loss for loss in shown if isfinite(loss)]
    if len(finite) < 2:
        return Text("loss  not reported yet" if not shown else "loss  too few steps for a curve", style="dim")
    low, high = min(finite), max(finite)
    line = "".join(_block(loss, low, high) for loss in shown)
    return Text.assemble("loss  ", (line, "cyan"), f"  {low:.4g} to {high:.4g}")


def _block(loss: float, low: float, high: float) -> str:
    if not isfinite(loss):
        return "!"
    share = (loss - low) / (high - low) if high > low else 0.0
    return BLOCKS[min(len(BLOCKS) - 1, int(share * len(BLOCKS)))]


def ledger(buckets: dict[Bucket, float], width: int) -> Iterator[Text]:
    """Where the wall clock went, largest first, and what the letters mean."""
    spent = sorted(((bucket, spent_s) for bucket, spent_s in buckets.items() if spent_s), key=lambda pair: -pair[1])
    wall_s = sum(spent_s for _, spent_s in spent)
    if not spent:
        return
    room = width - MARGIN
    lengths = [round(room * spent_s / wall_s) for _, spent_s in spent]
    lengths[0] = max(0, room - sum(lengths[1:]))
    bar, legend = Text("time".ljust(MARGIN)), [Text(" " * MARGIN)]
    for (bucket, spent_s), length in zip(spent, lengths, strict=True):
        letter, style = LOOKS[bucket]
        bar.append(letter * length, style=style)
        part = Text.assemble((letter, style), f" {bucket.value.replace('_', ' ')} {spent_s / wall_s:.1%}")
        if legend[-1].cell_len + part.cell_len > width and len(legend) < LEGEND_MOST:
            legend.append(Text(" " * MARGIN))
        legend[-1].append_text(part).append("  ")
    yield bar
    yield from legend


def attempts(sight: Sight, width: int) -> Iterator[Text]:
    """A lane for each of the newest attempts, along one clock; where an answered incident began, it is reversed."""
    shown = sight.attempts[-ATTEMPTS_MOST:]
    if not shown or not sight.spans:
        return
    scale = _Scale(round(shown[0].ordered_at * 1000), sight.spans[-1].end_ms, width - MARGIN)
    cells = _cells(sight.spans, scale)
    ends = [round(after.ordered_at * 1000) for after in shown[1:]] + [scale.end_ms]
    for attempt, end_ms in zip(shown, ends, strict=True):
        first, last = scale.column(round(attempt.ordered_at * 1000)), scale.column(end_ms)
        lane = Text(f"a{attempt.number}".ljust(MARGIN) + " " * first)
        for letter, style in cells[first : max(first, last) + 1]:
            lane.append(letter, style=style)
        for case, _ in sight.cases:
            column = scale.column(round(case.incident.onset * 1000))
            if case.rung is not Rung.OBSERVE and first <= column <= last:
                lane.stylize("reverse", MARGIN + column, MARGIN + column + 1)
        yield lane
    start, end = (clock(at_ms / 1000)[:8] for at_ms in (scale.start_ms, scale.end_ms))
    yield Text(" " * MARGIN + start + end.rjust(scale.room - len(start)), style="dim")


class _Scale:
    """Milliseconds to columns."""

    def __init__(self, start_ms: int, end_ms: int, room: int) -> None:
        self.start_ms = start_ms
        self.end_ms = max(end_ms, start_ms + 1)
        self.room = max(1, room)

    def column(self, at_ms: int) -> int:
        """The column that a time is in; the nearest one for a time outside."""
        column = (at_ms - self.start_ms) * self.room // (self.end_ms - self.start_ms)
        return max(0, min(self.room - 1, column))

    def time(self, column: int) -> float:
        """When a column begins."""
        return self.start_ms + column * (self.end_ms - self.start_ms) / self.room


def _cells(spans: Sequence[Span], scale: _Scale) -> list[tuple[str, str]]:
    """Letter and style of what most of the time of each column went to."""
    columns: list[dict[Bucket, float]] = [{} for _ in range(scale.room)]
    for span in spans:
        if span.end_ms <= scale.start_ms:
            continue
        for column in range(scale.column(span.start_ms), scale.column(span.end_ms) + 1):
            inside = min(span.end_ms, scale.time(column + 1)) - max(span.start_ms, scale.time(column))
            columns[column][span.bucket] = columns[column].get(span.bucket, 0.0) + max(0.0, inside)
    return [LOOKS[max(spent, key=lambda bucket: spent[bucket])] if spent else (" ", "") for spent in columns]

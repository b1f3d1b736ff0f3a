"""How does a run look on a terminal, line by line? What is known in, lines of at most so many columns out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.text import Text

from orchestrator.cli import top_bars
from orchestrator.cli.text import COLOURS, clock, count, day, flat, where
from orchestrator.cli.top_sight import Sight
from orchestrator.contract import NOT_FINISHED
from orchestrator.story import seconds

CASES_MOST = 4
RANKS_LEAST, RANKS_ONCE = 2, 8
KEYS = "q quit   p hold the screen   1-9 or arrows: another run"


def frame(
    sight: Sight, runs: Sequence[tuple[str, str]], *, width: int, height: int | None, held: bool = False
) -> list[Text]:
    """The lines, each at most `width` columns wide, at most `height` of them; ranks give way first.

    `runs`: id and state of those to choose from; `held`: the screen stands still.
    """
    above = [*_choice(runs, sight.status["run"], width), *_head(sight, width), *_numbers(sight)]
    above += [top_bars.curve(sight.losses, width), Text(), *top_bars.ledger(sight.ledger.buckets, width)]
    above += [*top_bars.attempts(sight, width), Text()]
    below = [Text(), *_cases(sight)] if sight.cases else []
    if height is None:
        lines = [*above, *_ranks(sight, RANKS_ONCE), *below]
    else:
        room = height - len(above) - len(below) - 1
        lines = [*above, *_ranks(sight, max(RANKS_LEAST, room - 2)), *below][: height - 1]
        lines.append(Text(f"HELD   {KEYS}" if held else KEYS, style="dim"))
    return [_fitting(line, width) for line in lines]


def _fitting(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    return line


def _choice(runs: Sequence[tuple[str, str]], chosen: str, width: int) -> Iterator[Text]:
    """A line of the runs, where there are several; it begins where the chosen one is still on it."""
    if len(runs) < 2:
        return
    line, at = Text(), [run for run, _ in runs].index(chosen)
    for number, (run, state) in list(enumerate(runs, 1))[max(0, at - 1) :]:
        name = Text(f"{number} {run}", style="bold reverse" if run == chosen else "")
        part = Text.assemble(name, " ", (state, COLOURS.get(state, "")), "   ")
        if line.cell_len + part.cell_len > width and line.cell_len:
            break
        line.append_text(part)
    yield line


def _head(sight: Sight, width: int) -> Iterator[Text]:
    status = sight.status
    place = f"attempt {status['attempt']}, world {status['world']}, {count(status['ranks'], 'rank')}"
    yield Text.assemble(
        (status["run"], "bold"), "  ", (status["state"], f"bold {COLOURS.get(status['state'], '')}"), f"  {place}  ",
        (clock(sight.at)[:8], "dim"),
    )  # fmt: skip
    yield from _folded(f"{flat(status['reason'])}, since {day(status['since'])}", width, most=2)
    if sight.next:
        for line in _folded(f"next: {flat(sight.next)}", width, most=2):
            line.stylize("bold red")
            yield line


def _folded(text: str, width: int, most: int) -> Iterator[Text]:
    """In at most so many lines, the last one cut."""
    words, line = text.split(), ""
    for number in range(most):
        last = number == most - 1
        while words and (last or not line or len(line) + 1 + len(words[0]) <= width):
            line = f"{line} {words.pop(0)}".strip()
        if line:
            yield Text(line)
        line = ""


def _numbers(sight: Sight) -> Iterator[Text]:
    status, books = sight.status, sight.ledger
    lately = [f"step {status['step']}"]
    lately += [f"furthest {status['best_step']}"] if status["best_step"] > status["step"] else []
    lately += [f"loss {_number(status['loss'])}"] if status["loss"] is not None else []
    lately += [f"{seconds(status['step_s'])}/step"] if status["step_s"] is not None else []
    lately += [f"{status['tokens_per_s']:,.0f} tok/s"] if status["tokens_per_s"] is not None else []
    yield Text("   ".join(lately), style="bold")
    whole = [
        f"{name} {share:.1%}" for name, share in (("goodput", books.goodput), ("ETTR", books.ettr)) if share is not None
    ]
    whole += [count(status["restarts"], "restart"), f"{count(books.steps_lost, 'step')} lost"]
    whole += [f"MTTR {seconds(books.mttr_s)}"] if books.mttr_s is not None else []
    whole += [f"{books.energy_j / 3.6e6:.3g} kWh"] if books.energy_j is not None else []
    yield Text("   ".join(whole))
    good = status["last_good_step"]
    age = f", {seconds(max(0.0, sight.at - sight.good_at))} old" if sight.good_at is not None else ""
    net = "no good checkpoint yet" if good is None else f"last good checkpoint: step {good}{age}"
    every = f"   saves every {count(status['save_every_steps'], 'step')}" if status["save_every_steps"] else ""
    opened = f"   open: {', '.join(status['open_incidents'])}" if status["open_incidents"] else ""
    yield Text(net + every + opened)


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


RANKS = ("RANK", "NODE", "STEP", "LAG", "PHASE", "OWN S", "STEP S", "TEMP", "POWER", "UTIL", "MEM", "")


def _ranks(sight: Sight, most: int) -> Iterator[Text]:
    """The slowest, then the hottest, first; and how many there are that are not shown."""
    if sight.ranks is None:
        goes_on = sight.status["exit_code"] == NOT_FINISHED
        yield Text("ranks  not known: no supervisor answers" if goes_on else "ranks  none: nothing runs", style="dim")
        return
    named = [dict(zip(sight.ranks, row, strict=True)) for row in zip(*sight.ranks.values(), strict=True)]
    shown = sorted(named, key=_worst_first)[:most]
    table = [RANKS, *(_rank(one) for one in shown)]
    widths = [max(len(row[at]) for row in table) for at in range(len(RANKS))]
    styles = ["dim", *("red" if one["culprit"] else "" for one in shown)]
    for row, style in zip(table, styles, strict=True):
        yield Text("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip(), style=style)
    if len(shown) < len(named):
        yield Text(f"and {count(len(named) - len(shown), 'rank')} more, less slow and less hot", style="dim")


def _worst_first(one: dict[str, Any]) -> tuple[Any, ...]:
    measured = (-(one[name] or 0) for name in ("lag", "own_s", "temperature_c"))
    return (not one["culprit"], *measured, one["rank"])


def _rank(one: dict[str, Any]) -> tuple[str, ...]:
    forms = (
        ("rank", "{}"), ("node", "{}"), ("step", "{}"), ("lag", "{}"), ("phase", "{}"), ("own_s", "{:.3g}"),
        ("step_s", "{:.3g}"), ("temperature_c", "{:.0f}C"), ("power_w", "{:.0f}W"), ("utilisation", "{:.0%}"),
        ("memory_share", "{:.0%}"),
    )  # fmt: skip
    cells = [form.format(one[name]) if one[name] is not None else "-" for name, form in forms]
    return (*cells, "culprit" if one["culprit"] else "")


def _cases(sight: Sight) -> Iterator[Text]:
    """The newest last, so that it is what a person reads first after the rest."""
    for case, spent in sight.cases[-CASES_MOST:]:
        incident = case.incident
        subject = {"node": incident.subject.node, "rank": incident.subject.rank}
        took = seconds(spent.total) if spent.total is not None else "" if case.resolved_at else "not over"
        parts = [case.id, clock(incident.onset)[:8], incident.kind.value, where(subject), took]
        parts += [f"{count(case.steps_lost, 'step')} lost"] if case.steps_lost else []
        parts += ["drill"] if case.drill else []
        is_open = case.id in sight.status["open_incidents"]
        yield Text("  ".join(part for part in parts if part), style="yellow" if is_open else "")

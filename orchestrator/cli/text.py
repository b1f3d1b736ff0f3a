"""How do answers read on a terminal? Tables and sentences; the words themselves come from the contract."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from orchestrator.story import seconds

COLOURS = {
    "RUNNING": "green",
    "SUCCEEDED": "green",
    "good": "green",
    "verified": "green",
    "HELD": "red",
    "PAUSED": "cyan",
    "corrupt": "red",
    "tainted": "yellow",
    "RECOVERING": "yellow",
    "STOPPING": "yellow",
    "STARTING": "cyan",
    "PENDING": "cyan",
}
"""The word says it; the colour only helps the eye, and is left out of pipes."""


LINE_MAX = 400
JOULES_OF_KWH = 3.6e6


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(value, indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Columns as wide as their widest cell; None is `-`."""
    cells = [list(columns), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(columns))]
    for row in cells:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(_coloured(cell) for cell in padded).rstrip())


def _coloured(cell: str) -> str:
    colour = COLOURS.get(cell.strip())
    return click.style(cell, fg=colour) if colour else cell


def flat(text: str) -> str:
    """On one line, and not endless: what a program raised may be a page. The JSON has all of it."""
    line = " ".join(text.split())
    return line if len(line) <= LINE_MAX else f"{line[: LINE_MAX - 4]} ..."


def _cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case float():
            return f"{value:.4g}"
        case _:
            return flat(str(value))


def clock(at: float) -> str:
    """The time of day here, to the millisecond: what logs are compared by."""
    return datetime.fromtimestamp(at).strftime("%H:%M:%S.%f")[:-3]


def count(number: int, noun: str) -> str:
    """`1 rank`, `2 ranks`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def day(at: float) -> str:
    """Date and time here."""
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")


def size(count: int) -> str:
    """Bytes in the units of disks."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def where(subject: dict[str, Any]) -> str:
    """`node 0 rank 3`: the place of an incident, as far as it is known."""
    return " ".join(f"{name} {value}" for name, value in subject.items() if value is not None)


def print_story(story: dict[str, Any], incidents: dict[str, Any]) -> None:
    """The course of a run, and what its incidents cost."""
    today = ""
    for sentence in story["sentences"]:
        if (date := day(sentence["at"]).split()[0]) != today:
            today = date
            click.echo(date)
        click.echo(f"{clock(sentence['at'])}  {flat(sentence['text'])}")
    if incidents["incidents"]:
        click.echo()
        print_incidents(incidents)


def print_incidents(incidents: dict[str, Any]) -> None:
    """One line each."""
    columns = ("ID", "KIND", "WHERE", "BLAME", "STEP", "RESUMED FROM", "LOST", "DETECT", "TOTAL", "")
    rows = [
        (
            one["id"],
            one["kind"],
            where(one["subject"]) or None,
            one["blame"],
            one["step"],
            one["resumed_from_step"],
            one["steps_lost"],
            _seconds(one["phases_s"]["detect"]),
            _seconds(one["phases_s"]["total"]),
            "drill" if one["drill"] else "" if one["resolved"] else "open",
        )
        for one in incidents["incidents"]
    ]
    print_table(columns, rows)


def print_incident(one: dict[str, Any], runbook: Path) -> None:
    """Everything about one incident; `runbook` is the page about its kind."""
    sure = "" if one["confidence"] >= 1 else f", confidence {one['confidence']:.0%}"
    click.echo(
        f"{one['id']}: {one['kind']}, {where(one['subject']) or 'the run as a whole'}; blame: {one['blame']}{sure}"
    )
    step = one["step"] if one["onset_step"] is None else one["onset_step"]
    click.echo(f"  began     {day(one['onset'])}, at step {step}")
    click.echo(f"  detected  {day(one['detected'])}, {seconds(one['detected'] - one['onset'])} later")
    click.echo(f"  resolved  {day(one['resolved']) if one['resolved'] else 'not yet'}")
    click.echo(f"  response  {one['response']}{' (drill: ' + one['drill'] + ')' if one['drill'] else ''}")
    for title, lines in (("evidence", one["evidence"]), ("actions", one["actions"])):
        for number, line in enumerate(lines):
            click.echo(f"  {title if number == 0 else '':9} {flat(line)}")
    if one["resumed_from_step"] is not None:
        again = count(one["steps_lost"] or 0, "step")
        click.echo(f"  resumed   from step {one['resumed_from_step']}, {again} to train again")
    spent = [
        f"{name.replace('_', ' ')} {seconds(value)}" for name, value in one["phases_s"].items() if value is not None
    ]
    click.echo(f"  seconds   {', '.join(spent)}")
    if one["cost"] is not None:
        from orchestrator.cli.amounts import cost_parts

        click.echo(f"  cost      {', '.join(cost_parts(one['cost'], one['cost']['currency']))}")
    click.echo(f"  runbook   {runbook}")


def print_ledger(ledger: dict[str, Any]) -> None:
    """Where the wall clock went, largest first."""
    wall_s = ledger["wall_s"]
    buckets = sorted(ledger["buckets"].items(), key=lambda item: -item[1])
    costs = {cost["bucket"]: cost for cost in ledger["bucket_costs"]}
    lines = [(name, spent_s, costs.get(name)) for name, spent_s in buckets if spent_s]
    rows = [
        (name.replace("_", " "), f"{spent_s:.3f} s", _share(spent_s, wall_s), *_cost(cost))
        for name, spent_s, cost in [*lines, ("wall clock", wall_s, ledger["cost"])]
    ]
    columns = ("BUCKET", "SPENT", "SHARE", ledger["currency"] or "MONEY", "KWH", "G CO2E")
    empty = [n for n in range(3, 6) if all(row[n] is None for row in rows)]
    kept = [n for n in range(len(columns)) if n not in empty]
    print_table([columns[n] for n in kept], [[row[n] for n in kept] for row in rows])
    click.echo()
    ratios = [(name, ledger[key]) for name, key in (("ETTR", "ettr"), ("goodput", "goodput"))]
    parts = [f"{name} {value:.1%}" for name, value in ratios if value is not None]
    parts += [f"{name} {seconds(ledger[key])}" for name, key in (("MTTF", "mttf_s"), ("MTTR", "mttr_s")) if ledger[key]]
    parts += [
        f"{count(ledger['incidents'], 'incident')} answered",
        f"{count(ledger['steps_lost'], 'step')} lost",
        f"{ledger['gpu_hours']:.3f} GPU h",
    ]
    click.echo(", ".join(parts))
    if ledger["energy_j"] is not None:
        click.echo(_energy(ledger))
    if ledger["cost"]["money"] is not None or ledger["cost"]["co2e_g"] is not None:
        from orchestrator.cli.amounts import cost_parts

        click.echo(", ".join(cost_parts(ledger["cost"], ledger["currency"])))
    for text in ledger["unknown"]:
        click.echo(f"not known: {text}", err=True)


def _cost(cost: dict[str, Any] | None) -> tuple[str | None, ...]:
    """Of a bucket: money, kWh, grams."""
    if cost is None:
        return (None, None, None)
    money = None if cost["money"] is None else f"{cost['money']:,.2f}"
    return (money, *(None if cost[name] is None else _amount(cost[name]) for name in ("kwh", "co2e_g")))


def _energy(ledger: dict[str, Any]) -> str:
    parts = [f"GPU energy {_amount(ledger['energy_j'] / JOULES_OF_KWH)} kWh"]
    share = ledger["energy_known_share"]
    parts[0] += f" (read for {share:.1%} of the GPU time)" if share is not None else ""
    means = (("step", ledger["energy_per_step_j"]), ("token", ledger["energy_per_token_j"]))
    parts += [f"{_amount(joules)} J/{what}" for what, joules in means if joules is not None]
    if ledger["energy_lost_j"]:
        parts.append(f"{_amount(ledger['energy_lost_j'] / JOULES_OF_KWH)} kWh on steps rolled back")
    return ", ".join(parts)


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:6.1%}" if whole else "-"


def _seconds(value: float | None) -> str | None:
    return None if value is None else seconds(value)


def line(status: dict[str, Any]) -> str:
    """`RUNNING  step 210  loss 2.31  1,204 tokens/s  2 restarts  last good step 200  open: i3`."""
    parts = [status["state"], f"step {status['step']}"]
    if status["loss"] is not None:
        parts.append(f"loss {status['loss'] if isinstance(status['loss'], str) else format(status['loss'], '.4g')}")
    if status["step_s"] is not None:
        parts.append(f"{seconds(status['step_s'])}/step")
    if status["tokens_per_s"] is not None:
        parts.append(f"{status['tokens_per_s']:,.0f} tokens/s")
    parts.append(count(status["restarts"], "restart"))
    good = status["last_good_step"]
    parts.append("no good checkpoint yet" if good is None else f"last good step {good}")
    if status["open_incidents"]:
        parts.append(f"open: {', '.join(status['open_incidents'])}")
    if not status["supervisor"]["alive"]:
        parts.append("supervisor away")
    return "  ".join(parts)

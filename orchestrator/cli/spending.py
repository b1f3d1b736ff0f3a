"""What may a run spend, and what was spent? `lastgood budget` and `lastgood report`."""

from __future__ import annotations

from typing import Any

import click

from orchestrator.cli.amounts import amount_of, cost_parts, limits_of, lines, power_line
from orchestrator.cli.runs import find, home, json_option, print_answer, run_argument
from orchestrator.cli.steering import ordered

AMOUNT = "AMOUNT|none"


@click.command()
@run_argument
@click.option("--money", metavar=AMOUNT, help="In the currency of the spec's prices.")
@click.option("--gpu-hours", metavar=AMOUNT)
@click.option("--kwh", metavar=AMOUNT)
@click.option("--wall-hours", metavar=AMOUNT, help="Without the time in which it is paused, stopped or held.")
@json_option
def budget(run: str, as_json: bool, **amounts: str | None) -> None:
    """Show what a run may spend, or change it while it goes on; `none` lifts a budget.

    People are told at 50 and 80 %, paged at 95 %; at 100 % the run saves and is held.
    """
    from orchestrator import contract

    root, found = find(run)
    given = tuple(f"{name}={amount}" for name, amount in amounts.items() if amount is not None)
    if given:
        ordered(root, {"ask": "budget", "run": found, "limits": limits_of(given)})
    status = contract.status(root, found)
    if as_json:
        return print_answer(run=found, budget=status["budget"], currency=status["currency"])
    for line in lines(status):
        click.echo(line)
    if not status["budget"]:
        click.echo(f"{found} has no budget; set one: lastgood budget {found} --gpu-hours 100", err=True)
    return None


@click.command()
@run_argument
@click.option("--watts", metavar=AMOUNT, help="All GPUs together; each gets an equal share.")
@json_option
def power(run: str, watts: str | None, as_json: bool) -> None:
    """Show how much power the GPUs of a run may draw, or change it while it goes on; `none` lifts it.

    Their power limits are set, which needs root on the nodes. Without that, the run is paused after a save while its
    GPUs could draw more, and goes on by itself when they may.
    """
    from orchestrator import contract

    root, found = find(run)
    if watts is not None:
        ordered(root, {"ask": "power", "run": found, "watts": amount_of(watts)})
    status = contract.status(root, found)
    if as_json:
        return print_answer(run=found, power=status["power"])
    if status["power"] is None:
        return click.echo(f"{found} may draw as much as its GPUs can", err=True)
    return click.echo(power_line(status["power"]))


@click.command()
@click.option("--days", type=click.FloatRange(min=0, min_open=True), default=7.0, show_default=True, help="Up to now.")
@json_option
def report(days: float, as_json: bool) -> None:
    """Sum up the last days of all runs: interruptions by cause, how fast they were over, what all of it cost."""
    from orchestrator import contract
    from orchestrator.cli.text import print_json

    found = contract.report(home(), days)
    if as_json:
        return print_json(found)
    return _print_report(found)


def _print_report(found: dict[str, Any]) -> None:
    from orchestrator.cli.text import count, day, print_table
    from orchestrator.story import seconds

    click.echo(f"{day(found['since'])} to {day(found['until'])}: {count(found['runs'], 'run')}")
    if found["interruptions"]:
        click.echo()
        rows = [
            (
                c["kind"],
                c["blame"],
                c["count"],
                f"{c['share']:.1%}",
                seconds(c["lost_s"]),
                _seconds(c["mttr_s"]),
                c["drills"],
            )
            for c in found["interruptions"]
        ]
        print_table(("INTERRUPTION", "BLAME", "COUNT", "SHARE", "TIME LOST", "MTTR", "DRILLS"), rows)
    click.echo()
    shares = (("ETTR", "ettr"), ("goodput", "goodput"), ("recovered without a person", "automatic_share"))
    parts = [f"{name} {found[key]:.1%}" for name, key in shares if found[key] is not None]
    times = (("MTTF", "mttf_s"), ("MTTR p50", "mttr_p50_s"), ("MTTR p90", "mttr_p90_s"))
    parts += [f"{name} {seconds(found[key])}" for name, key in times if found[key] is not None]
    click.echo(
        ", ".join([*parts, f"{count(found['steps_lost'], 'step')} lost", f"{found['with_person']} needed a person"])
    )
    for bill in found["bills"]:
        click.echo(", ".join(_bill(bill)))
    right, wrong = (sum(one[key] for one in found["judged"]) for key in ("right", "wrong"))
    if right + wrong:
        told = f"{right} of {count(right + wrong, 'verdict')} called right by people ({right / (right + wrong):.0%})"
        click.echo(f"{told}; {found['unjudged']} not judged")


def _seconds(value: float | None) -> str | None:
    from orchestrator.story import seconds

    return None if value is None else seconds(value)


def _bill(bill: dict[str, Any]) -> list[str]:
    from orchestrator.cli.text import count

    return [count(bill["runs"], "run"), *cost_parts(bill, bill["currency"])]

"""Which hosts do runs have, and which are they not given any more?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from orchestrator.cli.outcome import Exit, Refusal
from orchestrator.cli.runs import find, home, json_option, print_answer
from orchestrator.cli.steering import ordered, refused_beforehand

run_option = click.option("--run", metavar="RUN", help="Only of this run; default: of every run that has not ended.")


@click.group()
def nodes() -> None:
    """List the hosts of runs, or keep one from being given ranks."""


@nodes.command("ls")
@run_option
@json_option
def nodes_ls(run: str | None, as_json: bool) -> None:
    """List the hosts that runs have now, and those that are cordoned."""
    from orchestrator.cli.text import day, print_json, print_table
    from orchestrator.hosts import hosts

    root, only = _meant(run)
    answer = hosts(root, only)
    if as_json:
        return print_json(answer)
    if not answer["hosts"]:
        return click.echo("no run has a host now", err=True)
    return print_table(
        ("HOST", "CORDONED", "RUN", "NODE", "SINCE", "BY", "WHY"),
        [
            (
                one["host"],
                "cordoned" if one["cordoned"] else "",
                one["run"],
                one["node"],
                day(one["since"]),
                one["by"] or "",
                one["why"] or "",
            )
            for one in answer["hosts"]
        ],
    )


@nodes.command("history")
@click.argument("host")
@run_option
@json_option
def nodes_history(host: str, run: str | None, as_json: bool) -> None:
    """What happened on a host: when runs got it, incidents that name it, cordons."""
    from orchestrator.cli.text import clock, print_json
    from orchestrator.hosts import history

    root, only = _meant(run)
    answer = history(root, host, only)
    if as_json:
        return print_json(answer)
    if not answer["history"]:
        raise Refusal(f"no run ever had a host {host!r}: lastgood nodes ls", Exit.NOT_FOUND)
    for one in answer["history"]:
        click.echo(f"{clock(one['at'])}  {one['run']}  {one['what']}")
    return None


@nodes.command("cordon")
@click.argument("host")
@click.argument("why", nargs=-1)
@run_option
@json_option
def nodes_cordon(host: str, why: tuple[str, ...], run: str | None, as_json: bool) -> None:
    """Give a host no ranks any more: worlds that train on it go on, the next ones begin elsewhere."""
    _cordon(host, True, " ".join(why), run, as_json)


@nodes.command("uncordon")
@click.argument("host")
@run_option
@json_option
def nodes_uncordon(host: str, run: str | None, as_json: bool) -> None:
    """Let a host be given ranks again."""
    _cordon(host, False, "", run, as_json)


def _meant(run: str | None) -> tuple[Path, str | None]:
    return (home(), None) if run is None else find(run)


def _cordon(host: str, cordoned: bool, why: str, run: str | None, as_json: bool) -> None:
    from orchestrator import refusals

    root, only = _meant(run)
    names = [only] if only is not None else _going(root)
    if not names:
        raise Refusal("no run goes on that could be kept from a host: lastgood ls")
    request: dict[str, Any] = {"ask": "cordon", "host": host, "cordoned": cordoned, "why": why}
    for name in names:  # all, or none of them
        refused_beforehand(root, name, lambda state: refusals.refuse_cordon(state, host, cordoned))
    for name in names:
        ordered(root, {**request, "run": name})
    if as_json:
        return print_answer(host=host, cordoned=cordoned, runs=names)
    return click.echo(f"{host}: {'gets no ranks' if cordoned else 'may be given ranks again'} of {', '.join(names)}")


def _going(root: Path) -> list[str]:
    from orchestrator import contract

    over = ("SUCCEEDED", "STOPPED")
    return [str(one["run"]) for one in contract.runs(root)["runs"] if one["state"] not in over]

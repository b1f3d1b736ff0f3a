"""Which runs are there? One line each, once or as they change."""

from __future__ import annotations

import select
from collections.abc import Iterator
from typing import Any

import click

from orchestrator.cli import ages
from orchestrator.cli.outcome import nearest
from orchestrator.cli.runs import home, json_option

LOOK_EVERY_S = 1.0
COLUMNS = (
    "RUN", "STATE", "STEP", "LOSS", "STEP S", "TOK/S", "RESTARTS", "LAST GOOD", "RANKS", "SUBMITTED", "ATTENTION",
)  # fmt: skip


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Also runs that ended.")
@click.option("-s", "--state", help="Only runs in this state: RUNNING, HELD, PAUSED, ...")
@click.option("--since", metavar="AGE", help="Also runs that ended, but in the last 10m, 2h, 2d.")
@click.option("-w", "--watch", is_flag=True, help="Go on, and show the list anew whenever it changes.")
@json_option
def ls(everything: bool, state: str | None, since: str | None, watch: bool, as_json: bool) -> None:
    """List runs: those that go on, are paused or held, newest last.

    With -w the JSON is one object a line, whenever it changed.
    """
    from orchestrator import contract

    known = dict.fromkeys(word for word, _ in contract.STATES.values())
    if state is not None and state.upper() not in known:
        raise click.UsageError(f"no state '{state}'; {nearest(state.upper(), known)}")
    ages.since(since)  # before anything is shown
    if not watch:
        return _show(_listed(everything, state, since), state, as_json)
    for answer in _changes(everything, state, since):
        _show_again(answer, state, as_json)
    return None


def _listed(everything: bool, state: str | None, since: str | None) -> dict[str, Any]:
    from orchestrator import contract

    answer = contract.runs(home())
    oldest = ages.since(since)
    rows = [run for run in answer["runs"] if is_shown(run, everything, state, oldest)]
    return {**answer, "runs": rows, "hidden": len(answer["runs"]) - len(rows)}


def _changes(everything: bool, state: str | None, since: str | None) -> Iterator[dict[str, Any]]:
    """The list, and then every other one, for ever."""
    shown = None
    while True:
        answer = _listed(everything, state, since)
        # That the supervisor lives is said every few seconds, and is no change of a run.
        known = [{**run, "supervisor": run["supervisor"]["alive"]} for run in answer["runs"]]
        if known != shown:
            shown = known
            yield answer
        select.select([], [], [], LOOK_EVERY_S)


def is_shown(run: dict[str, Any], everything: bool, state: str | None, oldest: float = 0.0) -> bool:
    """Whether a run is in the list; `oldest`: runs that ended since then are, 0: as ever."""
    if state and run["state"] != state.upper():
        return False
    if oldest:
        return run["ended_at"] is None or bool(run["ended_at"] >= oldest)
    return everything or bool(state) or run["state"] not in ("SUCCEEDED", "STOPPED")


def _show(answer: dict[str, Any], state: str | None, as_json: bool) -> None:
    from orchestrator.cli.text import print_json, print_table

    hidden = answer.pop("hidden")
    if as_json:
        return print_json(answer)
    if not answer["runs"]:
        more = f"; {hidden} ended: lastgood ls -a" if hidden and not state else ""
        return click.echo(f"no runs{f' in state {state}' if state else ''}{more}", err=True)
    return print_table(COLUMNS, [_row(run) for run in answer["runs"]])


def _show_again(answer: dict[str, Any], state: str | None, as_json: bool) -> None:
    import json
    import sys

    if as_json:
        del answer["hidden"]
        return click.echo(json.dumps(answer))
    if sys.stdout.isatty():
        click.clear()
    _show(answer, state, as_json)
    sys.stdout.flush()
    return None


def _row(run: dict[str, Any]) -> tuple[Any, ...]:
    from orchestrator.cli.text import day

    attention = run["reason"] if run["state"] in ("HELD", "PAUSED") else ", ".join(run["open_incidents"])
    if run["unsupervised"]:
        attention = f"unsupervised: {run['unsupervised']}"
    return (
        run["run"],
        run["state"],
        run["step"],
        run["loss"],
        run["step_s"],
        run["tokens_per_s"],
        run["restarts"],
        run["last_good_step"],
        run["ranks"],
        day(run["submitted_at"]),
        attention,
    )

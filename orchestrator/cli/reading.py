"""What is known about a run? Read from the journal, so that every answer is there with the supervisor dead."""

from __future__ import annotations

import select
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.listing import is_shown
from orchestrator.cli.outcome import Exit
from orchestrator.cli.runs import find, home, json_option, optional_run, run_argument, runbook

ENDED = frozenset({"SUCCEEDED", "STOPPED", "HELD"})
LOOK_EVERY_S = 0.5
ORDERED = ("attempt", "world", "checkpoint", "drill", "rank", "title")
"""parts of an order that tell it from others of its kind"""


@click.command()
@optional_run
@click.option("--check", is_flag=True, help="For cron: end with a status that says how the run is.")
@json_option
def status(run: str | None, check: bool, as_json: bool) -> int:
    """Say where a run stands and why; without RUN, every run that has not ended.

    With --check the exit status tells: 0 all is well, 106 a person is needed; for one RUN also how it ended (see
    `lastgood run --help`), or 101 while it goes on.
    """
    from orchestrator import contract
    from orchestrator.cli.text import print_json

    if run is None:
        answer = contract.runs(home())
        shown = [one for one in answer["runs"] if is_shown(one, False, None)]
        print_json({**answer, "runs": shown}) if as_json else _tell_all(shown)
        needed = any(one["state"] == "HELD" or one["unsupervised"] for one in shown)
        return Exit.ATTENTION if check and needed else Exit.SUCCEEDED
    root, found = find(run)
    one = contract.status(root, found)
    print_json(one) if as_json else _tell(one)
    if check and one["unsupervised"]:
        return Exit.ATTENTION
    return int(one["exit_code"]) if check else Exit.SUCCEEDED


def _tell_all(runs: list[dict[str, Any]]) -> None:
    for number, run in enumerate(runs):
        if number:
            click.echo()
        _tell(run)
    if not runs:
        click.echo("no run goes on; those that ended: lastgood ls -a", err=True)


def _tell(run: dict[str, Any]) -> None:
    """One screen: the sentence, the numbers, what comes next."""
    from orchestrator.cli.amounts import forecast_line, power_line
    from orchestrator.cli.amounts import lines as budget_lines
    from orchestrator.cli.text import COLOURS, clock, count, day, flat

    word = click.style(run["state"], fg=COLOURS.get(run["state"]), bold=True)
    click.echo(f"{run['run']}: {word}, {flat(run['reason'])}")
    click.echo(f"  since       {day(run['since'])}, submitted {day(run['submitted_at'])}")
    place = f"attempt {run['attempt']}, world {run['world']}, {count(run['ranks'], 'rank')}"
    click.echo(f"  where       {place}, step {run['step']}")
    forms = (("loss", run["loss"], ".4g"), ("s/step", run["step_s"], ".3g"), ("tokens/s", run["tokens_per_s"], ",.0f"))
    numbers = ", ".join(f"{name} {_number(value, form)}" for name, value, form in forms if value is not None)
    if numbers:
        click.echo(f"  lately      {numbers}")
    off = [f"node {n['node']} {n['clock_offset_s']:+.1f} s" for n in run["nodes"] if n["clock_offset_s"]]
    if off:
        click.echo(f"  clocks      behind the supervisor's, and corrected for: {', '.join(off)}")
    good = run["last_good_step"]
    click.echo(f"  safety net  {'no checkpoint is good yet' if good is None else f'last good checkpoint: step {good}'}")
    if run["save_every_steps"]:
        click.echo(f"  saves       every {count(run['save_every_steps'], 'step')}: {flat(run['save_every_why'])}")
    click.echo(f"  restarts    {run['restarts']}; open incidents: {', '.join(run['open_incidents']) or 'none'}")
    if forecast := forecast_line(run):
        click.echo(f"  ends        {forecast}")
    for use in budget_lines(run):
        click.echo(f"  budget      {use}")
    if run["power"]:
        click.echo(f"  power       {power_line(run['power'])}")
    if run["waits_for"]:
        # While it trains, detectors act on a silence long before this.
        timed = run["deadline"] and run["state"] != "RUNNING"
        until = f", until {clock(run['deadline'])} at most" if timed else ""
        click.echo(f"  waits for   {run['waits_for']}{until}")
    _tell_next(run)


def _tell_next(run: dict[str, Any]) -> None:
    """What a person can do."""
    from orchestrator.cli.text import flat

    if run["unsupervised"]:
        click.echo(f"  broken      {flat(run['unsupervised'])}")
        click.echo(f"  next        lastgood resume {run['run']} tries again; its ranks, if there are any, train on")
    elif run["cause"] == "budget_spent":
        what = next((use["what"] for use in run["budget"] if use["share"] >= 1), "money")
        click.echo(
            f"  next        give it more: lastgood resume {run['run']} --budget {what}=MORE ({what}=none lifts it)"
        )
    elif run["state"] == "HELD":
        page = f"read {runbook(home(), run['run'], run['cause'])}; " if run["cause"] else ""
        click.echo(f"  next        {page}lastgood story {run['run']}; then lastgood resume {run['run']}")
    elif run["state"] == "PAUSED":
        click.echo(f"  next        lastgood resume {run['run']}")
    elif not run["supervisor"]["alive"] and run["state"] not in ENDED:
        click.echo("  supervisor  not running; ranks train on unsupervised: lastgood serve -d")


def _number(value: float | str, form: str) -> str:
    return value if isinstance(value, str) else format(value, form)


@click.command()
@run_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.option("-a", "--all", "everything", is_flag=True, help="Also events about which there was nothing to decide.")
@click.option("--since", "since_id", type=int, default=0, help="Only events after this id.")
@json_option
def events(run: str, follow: bool, everything: bool, since_id: int, as_json: bool) -> None:
    """List what happened and was decided about, with every reason.

    The JSON has every event; with -f it is one JSON object a line.
    """
    from orchestrator import contract
    from orchestrator.cli.text import print_json

    root, found = find(run)
    if as_json and not follow:
        return print_json(contract.events(root, found, since_id))
    last = _print_events(root, found, since_id, as_json, everything)
    while follow and contract.status(root, found)["state"] not in ENDED:
        select.select([], [], [], LOOK_EVERY_S)
        last = _print_events(root, found, last, as_json, everything)
    return None


def _print_events(root: Path, run: str, since_id: int, as_json: bool, everything: bool) -> int:
    import json

    from orchestrator import contract

    for event in contract.events(root, run, since_id)["events"]:
        since_id = event["id"]
        if as_json:
            click.echo(json.dumps(event))
        elif everything or event["reason"] or event["actions"]:
            _print_event(event)
    return since_id


def _print_event(event: dict[str, Any]) -> None:
    """A line for what happened and why it was decided so, one for each order."""
    from orchestrator.cli.text import clock, flat

    click.echo(f"{event['id']:>6}  {clock(event['at'])}  {event['kind']:20}  {flat(event['reason'])}".rstrip())
    for action in event["actions"]:
        facts = ", ".join(f"{name} {value}" for name, value in action.items() if name in ORDERED)
        click.echo(f"{'':42}-> {action['is']} {facts}".rstrip())


@click.command()
@run_argument
@json_option
def story(run: str, as_json: bool) -> None:
    """Tell what happened, what was concluded and why, what was done, and what it cost."""
    from orchestrator import contract
    from orchestrator.cli.text import print_json, print_story

    root, found = find(run)
    told = contract.story(root, found)
    print_json(told) if as_json else print_story(told, contract.incidents(root, found))


@click.command()
@run_argument
@json_option
def ledger(run: str, as_json: bool) -> None:
    """Show where every second of the run's wall clock went."""
    from orchestrator import contract
    from orchestrator.cli.text import print_json, print_ledger

    root, found = find(run)
    answer = contract.ledger(root, found)
    print_json(answer) if as_json else print_ledger(answer)


@click.command()
@run_argument
@click.option(
    "--runbooks", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Folder with other runbooks."
)
@json_option
def replay(run: str, runbooks: Path | None, as_json: bool) -> None:
    """Decide an old run again: as recorded, or under other runbooks. Nothing is started."""
    from orchestrator.cli.text import print_json
    from orchestrator.replay import replay as decided_again

    root, found = find(run)
    answer = decided_again(root, found, runbooks)
    if as_json:
        return print_json(answer)
    return _tell_replay(answer)


def _tell_replay(answer: dict[str, Any]) -> None:
    """The decisions that have a reason; the JSON has the silent ones too."""
    from orchestrator.cli.text import flat

    for one in answer["different"]:
        if one["was"] or one["would_be"]:
            click.echo(f"event {one['event']} ({one['kind']})")
            click.echo(f"  was       {flat(one['was']) or 'nothing to decide'}")
            click.echo(f"  would be  {flat(one['would_be']) or 'nothing to decide'}")
    click.echo(f"{len(answer['different'])} of {answer['decisions']} decisions differ under policy {answer['policy']}")
    if answer["different"]:
        click.echo("after the first difference the events are those of the old decisions: no forecast")
    if answer["end"]:
        click.echo(f"in the end it would be {answer['end']['state']}: {answer['end']['reason']}")

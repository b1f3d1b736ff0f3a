"""How does a person take the wheel? Stop, pause, resume, restart, and faults on purpose."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.outcome import Exit, Refusal, nearest
from orchestrator.cli.runs import find, json_option, print_answer, run_argument

if TYPE_CHECKING:
    from orchestrator.core.state import State

CODES = {
    "not_found": Exit.NOT_FOUND,
    "usage": Exit.USAGE,
    "not_running": Exit.TOOL,
    "running": Exit.TOOL,
    "not_yet": Exit.TOOL,
}


@click.command()
@run_argument
@click.option("--now", is_flag=True, help="End the ranks at once, without a last checkpoint.")
@click.option("--wait", is_flag=True, help="Return only when the run has ended.")
@json_option
def stop(run: str, now: bool, wait: bool, as_json: bool) -> int:
    """End a run: the ranks finish their step, save, and end. `lastgood resume` lets it go on."""
    root, found = find(run)
    _refuse_in(root, found, {"SUCCEEDED": "it is complete", "STOPPED": "it is stopped already"})
    ordered(root, {"ask": "stop", "run": found, "now": now})
    if wait:
        return _wait(root, found, as_json)
    how = "at once" if now else "after a last checkpoint"
    print_answer(run=found) if as_json else click.echo(f"{found}: ends {how}; see `lastgood status {found}`")
    return Exit.SUCCEEDED


def _wait(root: Path, run: str, as_json: bool) -> int:
    from orchestrator.cli.following import until_over

    status = until_over(root, run)
    click.echo(json.dumps(status) if as_json else f"{run}: {status['state']}: {status['reason']}")
    return Exit.SUCCEEDED if status["state"] == "STOPPED" else int(status["exit_code"])


@click.command()
@run_argument
@click.argument("why", nargs=-1)
@json_option
def pause(run: str, why: tuple[str, ...], as_json: bool) -> None:
    """Let a run save and leave its devices; `lastgood resume` lets it go on from there. WHY stands in its story.

    A recovery that is under way goes on where it was. What a person paused only a person resumes.
    """
    from orchestrator import refusals

    root, found = find(run)
    refused_beforehand(root, found, lambda state: refusals.refuse_pause(state, me()))
    ordered(root, {"ask": "pause", "run": found, "why": " ".join(why)})
    print_answer(run=found) if as_json else click.echo(f"{found}: saves, then pauses; lastgood resume {found}")


@click.command()
@run_argument
@click.option("--exclude", metavar="NODE", help="Leave this node's host out: its number in the run, or its name.")
@json_option
def restart(run: str, exclude: str | None, as_json: bool) -> None:
    """Begin a new world now, from a save that is made first when the ranks train.

    With --exclude in a new attempt on other hosts, where the scheduler has some; the host stays cordoned for this run
    (`lastgood nodes uncordon`).
    """
    from orchestrator import contract, refusals

    root, found = find(run)
    status = contract.status(root, found)
    _refuse_in(root, found, dict.fromkeys(("SUCCEEDED", "STOPPED", "HELD", "PAUSED"), f"lastgood resume {found}"))
    without = None if exclude is None else _node(found, status["nodes"], exclude)
    refused_beforehand(root, found, lambda state: refusals.refuse_restart(state, without))
    ordered(root, {"ask": "restart", "run": found, "without": without})
    print_answer(run=found) if as_json else click.echo(f"{found}: restarts; follow it: lastgood follow {found}")


def _node(run: str, nodes: list[dict[str, Any]], text: str) -> int:
    """The node that a person means, by its number or its host. Raises Refusal."""
    known = {str(node["node"]): int(node["node"]) for node in nodes}
    known |= {node["host"]: node["node"] for node in nodes if node["host"]}
    if text not in known:
        raise Refusal(f"{run} has no node {text!r}; {nearest(text, known)}", Exit.USAGE)
    return known[text]


@click.command()
@run_argument
@click.option(
    "--from-step",
    type=click.IntRange(min=0),
    help="Resume from a checkpoint of this step or an older one, and give up all later ones for good; 0: afresh.",
)
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    metavar="WHAT=AMOUNT",
    help="Change a budget first, as `lastgood budget` does.",
)
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change the spec first: command, env.NAME, detect.*, recovery.*.",
)
@json_option
def resume(run: str, from_step: int | None, budgets: tuple[str, ...], sets: tuple[str, ...], as_json: bool) -> None:
    """Let a stopped, held or paused run go on, from its newest checkpoint."""
    from orchestrator import refusals
    from orchestrator.cli.amounts import limits_of

    limits = limits_of(budgets)
    root, found = find(run)
    _refuse_in(root, found, {"SUCCEEDED": "there is nothing to resume: submit it again with more steps"})
    refused_beforehand(root, found, lambda state: refusals.refuse_step(state, from_step))
    if limits:
        ordered(root, {"ask": "budget", "run": found, "limits": limits})
    ordered(root, {"ask": "resume", "run": found, "from_step": from_step, "sets": sets})
    print_answer(run=found) if as_json else click.echo(f"{found}: resumes; follow it: lastgood follow {found}")


@click.command()
@click.argument("run", metavar="RUN", required=False)
@click.argument("drill", metavar="DRILL", required=False)
@click.option("--rank", type=click.IntRange(min=0), default=0, show_default=True, help="The rank it happens to.")
@click.option("--list", "listing", is_flag=True, help="List the drills, and what each should be recognised as.")
@json_option
def drill(run: str | None, drill: str | None, rank: int, listing: bool, as_json: bool) -> None:
    """Inject a fault on purpose, and see the run survive it. It is noted as a drill in story and ledger."""
    from orchestrator import refusals
    from orchestrator.drills import DRILLS
    from orchestrator.injection import inject

    if listing:
        return _list_drills(as_json)
    if run is None or drill is None:
        raise click.UsageError("needs RUN and DRILL; `lastgood drill --list` shows the drills")
    if drill not in DRILLS:
        raise click.UsageError(f"no drill {drill!r}; {nearest(drill, DRILLS)}")
    root, found = find(run)
    _refuse_in(root, found, dict.fromkeys(("SUCCEEDED", "STOPPED", "HELD", "PAUSED"), "nothing is there to fail"))
    named = rank if DRILLS[drill].by_agent else None
    refused_beforehand(root, found, lambda state: refusals.refuse_drill(state, drill, named))
    done = _injected(lambda: inject(root, found, drill, rank, by=me()))
    when = f" once it is read: lastgood drill {found} kill" if drill == "flip" else ""
    text = f"{done}; expected: {DRILLS[drill].expects}{when}; follow it: lastgood incident ls {found}"
    if as_json:
        return print_answer(run=found, drill=drill, done=done, expects=DRILLS[drill].expects)
    return click.echo(text)


def _refuse_in(root: Path, run: str, why: dict[str, str]) -> None:
    """Raises Refusal when the run is in one of the states named."""
    from orchestrator import contract

    status = contract.status(root, run)
    if status["state"] in why:
        raise Refusal(f"{run} is {status['state']} ({status['reason']}): {why[status['state']]}")


def refused_beforehand(root: Path, run: str, refuse: Callable[[State], None]) -> None:
    """What the supervisor would refuse is refused without one being started for it."""
    from orchestrator.home import Home
    from orchestrator.journal import Journal
    from orchestrator.requests import AskError

    with Journal(Home(root).journal, read_only=True) as journal:
        state = journal.state(run)
    try:
        if state is not None:
            refuse(state)
    except AskError as error:
        raise Refusal(str(error), CODES[error.code]) from None


def _injected(inject: Any) -> str:
    try:
        return str(inject())
    except LookupError as error:
        raise Refusal(str(error.args[0])) from None


def _list_drills(as_json: bool) -> None:
    from orchestrator.drills import DRILLS

    if as_json:
        rows = [{"drill": d.name, "does": d.does, "expects": d.expects} for d in DRILLS.values()]
        return print_answer(drills=rows)
    return click.echo("\n".join(f"{d.name:12} {d.does:42} {d.expects}" for d in DRILLS.values()))


def me() -> str:
    """Who asks."""
    return os.environ.get("USER") or f"user {os.geteuid()}"


def ordered(root: Path, request: dict[str, Any], *, start: bool = True) -> dict[str, Any]:
    """The supervisor's answer to a request that it did not refuse. Raises Refusal with its words."""
    from orchestrator.client import ask

    answer = ask(root, {**request, "by": me()}, start=start)
    if not answer["ok"]:
        raise Refusal(str(answer["error"]), CODES.get(str(answer.get("code")), Exit.TOOL))
    return answer

"""What went wrong, and what does a person say about it?"""

from __future__ import annotations

from typing import Any

import click

from orchestrator.cli.outcome import Exit, Refusal
from orchestrator.cli.runs import find, json_option, print_answer, run_argument, runbook
from orchestrator.cli.steering import ordered, refused_beforehand

incident_argument = click.argument("incident_id", metavar="INCIDENT")


@click.group()
def incident() -> None:
    """List incidents, show one with its evidence, or say something about it."""


@incident.command("ls")
@run_argument
@json_option
def incident_ls(run: str, as_json: bool) -> None:
    """List the incidents of a run, oldest first."""
    from orchestrator import contract
    from orchestrator.cli.text import print_incidents, print_json

    root, found = find(run)
    answer = contract.incidents(root, found)
    if as_json:
        return print_json(answer)
    if not answer["incidents"]:
        return click.echo(f"{found} had no incident", err=True)
    return print_incidents(answer)


@incident.command("show")
@run_argument
@click.argument("incident_id", metavar="INCIDENT")
@json_option
def incident_show(run: str, incident_id: str, as_json: bool) -> None:
    """Show one incident: what, where, since when, why we think so, what was done."""
    from orchestrator import contract
    from orchestrator.cli.text import print_incident, print_json

    root, found = find(run)
    try:
        answer = contract.incident(root, found, incident_id)
    except LookupError as error:
        raise Refusal(str(error.args[0]), Exit.NOT_FOUND) from None
    if as_json:
        return print_json(answer)
    one = answer["incident"]
    return print_incident(one, runbook(root, found, one["kind"]))


def _say(run: str, request: dict[str, Any], done: str, as_json: bool) -> None:
    """Have the supervisor write it into the journal; what it would refuse is refused without one."""
    from orchestrator import refusals

    root, found = find(run)
    refused_beforehand(root, found, lambda state: refusals.refuse_incident(state, request["incident"]))
    ordered(root, {**request, "run": found})
    if as_json:
        return print_answer(run=found, incident=request["incident"])
    return click.echo(f"{found}: {done}")


@incident.command("ack")
@run_argument
@incident_argument
@json_option
def incident_ack(run: str, incident_id: str, as_json: bool) -> None:
    """Say that you see to an incident: nobody else is called for it."""
    _say(run, {"ask": "acknowledge", "incident": incident_id}, f"{incident_id} is acknowledged", as_json)


@incident.command("resolve")
@run_argument
@incident_argument
@click.argument("text", nargs=-1)
@json_option
def incident_resolve(run: str, incident_id: str, text: tuple[str, ...], as_json: bool) -> None:
    """Say that an open incident is over, which only shows and ends nothing: it is told anew if it comes again.

    Only one that was observed and stays open (a save that failed, a node that is not seen): one that is being answered
    is over when the run has proved that.
    """
    said = " ".join(text)
    _say(run, {"ask": "resolve", "incident": incident_id, "text": said}, f"{incident_id} is over", as_json)


@incident.command("note")
@run_argument
@incident_argument
@click.argument("text", nargs=-1, required=True)
@json_option
def incident_note(run: str, incident_id: str, text: tuple[str, ...], as_json: bool) -> None:
    """Write down what you know about an incident; it stays with it for good."""
    _say(run, {"ask": "note", "incident": incident_id, "text": " ".join(text)}, "noted", as_json)


@incident.command("judge")
@run_argument
@incident_argument
@click.argument("verdict", type=click.Choice(["right", "wrong"]))
@click.argument("text", nargs=-1)
@json_option
def incident_judge(run: str, incident_id: str, verdict: str, text: tuple[str, ...], as_json: bool) -> None:
    """Say whether the verdict was right: what it was, and whom it names. Reports count how often it is."""
    request = {"ask": "judge", "incident": incident_id, "right": verdict == "right", "text": " ".join(text)}
    _say(run, request, f"{incident_id} was judged {verdict}", as_json)

"""Who is told when a run needs somebody, and when not? Channels, threads, silences."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.outcome import Exit, Refusal, nearest
from orchestrator.cli.runs import json_option, print_answer

if TYPE_CHECKING:
    from orchestrator.alerts.outbox import Outbox
    from orchestrator.home import Home

THREADS = 20
"""told of on a terminal; the JSON has more"""


@click.group()
def alerts() -> None:
    """Set up who is told of what, try it, and see what was told."""


@alerts.command("init")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@json_option
def alerts_init(force: bool, as_json: bool) -> None:
    """Write a commented alerts.yaml into the state folder, closed to others."""
    from orchestrator.alerts.config import EXAMPLE, FILE_NAME

    path = _home().root / FILE_NAME
    if path.exists() and not force:
        raise Refusal(f"{path}: is there already: edit it, or replace it with --force", Exit.USAGE)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(EXAMPLE.read_text())
    click.echo("edit it, then: lastgood alerts test", err=True)
    return print_answer(file=str(path)) if as_json else click.echo(str(path))


@alerts.command("test")
@click.argument("channel", required=False)
@json_option
def alerts_test(channel: str | None, as_json: bool) -> int:
    """Send a test message to CHANNEL, or to each one, and say what the service answered."""
    from monitors.clock import SystemClock
    from orchestrator.alerts import reading
    from orchestrator.alerts.config import FILE_NAME
    from orchestrator.alerts.trying import tried

    loaded = reading.load(_home().root / FILE_NAME, os.environ)
    known = loaded.config.channels
    if channel is not None and channel not in known:
        raise Refusal(f"no channel '{channel}'; {nearest(channel, known)}", Exit.USAGE)
    names = [channel] if channel is not None else list(known)
    found = tried(loaded, names, os.uname().nodename, SystemClock().now())
    if as_json:
        print_answer(tried=[{"channel": one.channel, "kind": one.kind, "error": one.error} for one in found])
    for one in () if as_json else found:
        said = click.style("not delivered", fg="red") + f": {one.error}" if one.error else "delivered"
        click.echo(f"{one.channel} ({one.kind}): {said}")
    return Exit.TOOL if any(one.error for one in found) else Exit.SUCCEEDED


@alerts.command("ls")
@json_option
def alerts_ls(as_json: bool) -> None:
    """List channels with their last delivery, what stands, silences, and what was told."""
    from monitors.clock import SystemClock
    from orchestrator.alerts.shown import shown

    answer = shown(_home(), SystemClock().now())
    if as_json:
        return print_answer(**answer)
    if answer["why"]:
        click.echo(answer["why"], err=True)
    return _tell(answer)


def _tell(answer: dict[str, Any]) -> None:
    from orchestrator.cli.text import day, flat, print_table

    if answer["channels"]:
        columns = ("CHANNEL", "SERVICE", "FROM", "DELIVERED", "WAITING", "LAST ERROR")
        print_table(columns, [_channel(one) for one in answer["channels"]])
    if answer["threads"]:
        click.echo("\nstands:")
    for thread in answer["threads"]:
        known = f", {thread['acknowledged_by']} knows of it" if thread["acknowledged_by"] else ""
        told = f"told {', '.join(thread['channels'])}" if thread["channels"] else "nobody had to be told yet"
        silenced = ", silenced" if thread["silenced"] else ""
        click.echo(f"  {thread['severity'].upper():8}  {flat(thread['title'])}; {told}{silenced}{known}")
    if answer["silences"]:
        click.echo("\nsilences:")
        _tell_silences(answer["silences"])
    if answer["history"]:
        click.echo("\ntold lately:")
    for one in answer["history"][:THREADS]:
        where = ", ".join(one["channels"])
        click.echo(f"  {day(one['at'])}  {one['state']:8}  {flat(one['title'])} -> {where}")


def _channel(one: dict[str, Any]) -> tuple[Any, ...]:
    from orchestrator.cli.text import day, flat

    delivered = None if one["last_ok"] is None else day(one["last_ok"])
    error = None if one["last_error"] is None else flat(one["last_error"])
    return one["name"], one["kind"], one["minimum"], delivered, one["waiting"], error


def _tell_silences(silences: list[dict[str, Any]]) -> None:
    from orchestrator.cli.text import day, flat

    for one in silences:
        why = f": {flat(one['why'])}" if one["why"] else ""
        click.echo(f"  {one['id']}  until {day(one['until'])}, {one['matches']}, by {one['by']}{why}")


@click.group()
def silence() -> None:
    """Tell nobody of some runs or kinds for a while."""


@silence.command("add")
@click.argument("duration")
@click.option("--run", default="*", help="Which runs; * is any text. Default: all.")
@click.option("--kind", default="*", help="Which kinds of incidents, such as gpu_*. Default: all.")
@click.option("--why", default="", help="For who looks at it later.")
@json_option
def silence_add(duration: str, run: str, kind: str, why: str, as_json: bool) -> None:
    """Tell nobody anything new for DURATION: 90s, 30m, 2h, 1d. What still stands then is told."""
    import getpass

    from monitors.clock import SystemClock
    from orchestrator.alerts.config import seconds
    from orchestrator.alerts.rules import Silence

    try:
        length_s = seconds(duration)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    _check_kind(kind)
    now = SystemClock().now()
    by = getpass.getuser()
    with _outbox() as outbox:
        id_ = outbox.silence(Silence(id=0, until=now + length_s, run=run, kind=kind, by=by, why=why, created_at=now))
    told = f"silence {id_}: run {run}, kind {kind}, for {duration}; it ends earlier by: lastgood silence rm {id_}"
    return print_answer(silence=id_) if as_json else click.echo(told)


def _check_kind(kind: str) -> None:
    """A pattern that means nothing silences nothing, and nobody would notice."""
    from monitors.incidents import Kind
    from orchestrator.alerts.rules import matches
    from orchestrator.alerts.wording import HEADINGS

    known = [*(member.value for member in Kind), *HEADINGS]
    if not any(matches(kind, name) for name in known):
        raise click.UsageError(f"no kind '{kind}'; {nearest(kind, known)}")


@silence.command("ls")
@json_option
def silence_ls(as_json: bool) -> None:
    """List the silences in force."""
    from monitors.clock import SystemClock
    from orchestrator.alerts.shown import shown

    silences = shown(_home(), SystemClock().now())["silences"]
    if as_json:
        return print_answer(silences=silences)
    if not silences:
        return click.echo("no silence is in force", err=True)
    return _tell_silences(silences)


@silence.command("rm")
@click.argument("number", type=int)
@json_option
def silence_rm(number: int, as_json: bool) -> None:
    """End a silence now."""
    from monitors.clock import SystemClock

    with _outbox() as outbox:
        ended = outbox.end_silence(number, SystemClock().now())
    if not ended:
        raise Refusal(f"no silence {number} is in force: lastgood silence ls", Exit.NOT_FOUND)
    return print_answer(silence=number) if as_json else click.echo(f"silence {number} has ended")


def _home() -> Home:
    """The state folder, made where it is missing. Raises HomeError."""
    from orchestrator.home import default

    found = default()
    found.create()
    return found


def _outbox() -> Outbox:
    from orchestrator.alerts.outbox import FILE_NAME, Outbox

    return Outbox(Path(_home().root) / FILE_NAME)

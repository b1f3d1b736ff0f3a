"""Where is the dashboard, and who may see it?"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

import click

from orchestrator.cli.outcome import Refusal
from orchestrator.cli.runs import json_option, print_answer

if TYPE_CHECKING:
    from orchestrator.api.wish import Address, Wish
    from orchestrator.home import Home

START_S = 30.0
LOOK_EVERY_S = 0.05


@click.group(invoke_without_command=True)
@click.option("--host", help="Listen there; anything but loopback needs a token (`dashboard token add`).")
@click.option("--port", type=click.IntRange(0, 65535), help="Default: 7117, or any when that is taken.")
@click.option("--name", "names", multiple=True, metavar="HOST", help="Browsers call it so; may be repeated.")
@click.option("--no-open", is_flag=True, help="Open no browser.")
@click.option("--stop", is_flag=True, help="End it, and keep it ended.")
@json_option
@click.pass_context
def dashboard(
    ctx: click.Context,
    *,
    host: str | None,
    port: int | None,
    names: tuple[str, ...],
    no_open: bool,
    stop: bool,
    as_json: bool,
) -> None:
    """Start the dashboard, or find it running, and print its address.

    It is a process beside the supervisor, which keeps it alive until --stop. On loopback (the default) nobody logs in;
    anywhere else everybody does, with a token.
    """
    if ctx.invoked_subcommand is not None:
        return None
    from orchestrator.api import wish as wishes
    from orchestrator.home import default

    home = default()
    if stop:
        wanted = wishes.forget(home) if home.root.exists() else False
        text = "ends now" if wanted else "was not wanted"
        return print_answer(ok=True, wanted=wanted) if as_json else click.echo(f"dashboard: {text}")
    home.create()
    found = _there(home, _wish(home, host, port, names))
    if as_json:
        return print_answer(url=found.url, pid=found.pid)
    click.echo(found.url)
    if not no_open and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        import webbrowser

        webbrowser.open(found.url)
    return None


def _wish(home: Home, host: str | None, port: int | None, names: tuple[str, ...]) -> Wish:
    """What is wanted: what is said now, else what was said before. Raises Refusal for what is not allowed."""
    from orchestrator.api import wish as wishes
    from orchestrator.api.bind import refuse_open
    from orchestrator.api.tokens import Tokens

    before = wishes.read(home) or wishes.Wish()
    said = host is not None or port is not None or bool(names)
    wish = wishes.Wish(host=host or before.host, port=port, names=names) if said else before
    if why := refuse_open(wish.host, Tokens(home.root).all(), wish.names):
        raise Refusal(why)
    return wish


def _there(home: Home, wish: Wish) -> Address:
    """Want it, and wait until it listens. Raises Refusal."""
    from monitors.clock import SystemClock
    from orchestrator import client
    from orchestrator.api import wish as wishes

    wishes.write(home, wish)
    client.ask(home.root, {"ask": "ping"}, start=True)
    clock = SystemClock()
    deadline = clock.now() + START_S
    while clock.now() < deadline:
        found = wishes.address(home)
        if found is not None and found.wish == wish:
            return found
        select.select([], [], [], LOOK_EVERY_S)
    log = home.root / "dashboard.log"
    words = log.read_text(errors="replace").splitlines()[-3:] if log.exists() else ["(its log is empty)"]
    raise Refusal(f"the dashboard does not listen after {START_S:.0f} s; its last words: {' | '.join(words)}")


@dashboard.group()
def token() -> None:
    """Make, list and take away tokens, with which people log in."""


@token.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice(["viewer", "operator"]), default="viewer", show_default=True)
@json_option
def token_add(name: str, role: str, as_json: bool) -> None:
    """Make a token for NAME. It is shown once: only a digest of it is kept."""
    from monitors.clock import SystemClock
    from orchestrator.api.tokens import Role, TokenError, Tokens
    from orchestrator.home import default

    home = default()
    home.create()
    try:
        made = Tokens(home.root).add(name, Role(role), SystemClock().now())
    except TokenError as error:
        raise Refusal(str(error)) from None
    if as_json:
        return print_answer(name=name, role=role, token=made)
    click.echo(made)
    return click.echo(f"this token of {name} ({role}) is shown once: keep it safe", err=True)


@token.command("ls")
@json_option
def token_ls(as_json: bool) -> None:
    """List tokens: names and roles."""
    from orchestrator.api.tokens import TokenError, Tokens
    from orchestrator.cli.runs import home
    from orchestrator.cli.text import day, print_table

    try:
        known = Tokens(home()).all()
    except TokenError as error:
        raise Refusal(str(error)) from None
    if as_json:
        rows = [{"name": one.name, "role": one.role.value, "made_at": one.made_at} for one in known]
        return print_answer(tokens=rows)
    if not known:
        return click.echo("no tokens; `lastgood dashboard token add NAME` makes one", err=True)
    return print_table(("NAME", "ROLE", "MADE"), [(one.name, one.role.value, day(one.made_at)) for one in known])


@token.command("rm")
@click.argument("name")
@json_option
def token_rm(name: str, as_json: bool) -> None:
    """Take a token away; whoever logged in with it is out at once."""
    from orchestrator.api.tokens import TokenError, Tokens
    from orchestrator.cli.runs import home

    try:
        Tokens(home()).remove(name)
    except TokenError as error:
        raise Refusal(str(error)) from None
    return print_answer(name=name) if as_json else click.echo(f"{name} can log in no more")

"""Where are the metrics of this state folder, and what do they say now?"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

import click

from orchestrator.cli.outcome import Refusal
from orchestrator.cli.runs import home as root_of
from orchestrator.cli.runs import json_option, print_answer

if TYPE_CHECKING:
    from orchestrator.home import Home

WAIT_S = 20.0
LOOK_EVERY_S = 0.1


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Serve them at this port from now on; 0: any.")
@click.option("--off", is_flag=True, help="Serve them no longer.")
@click.option("--once", is_flag=True, help="Print the page that a scraper would get; nothing need be served.")
@json_option
def metrics(port: int | None, off: bool, once: bool, as_json: bool) -> None:
    """Print the address that Prometheus is to scrape. Serve the metrics there first, with --port.

    A process beside the supervisor serves it, on loopback, as HOME/metrics.yaml says, for as long as that file is
    there. What is told, under which names: docs/metrics.md.
    """
    from orchestrator import metrics_settings
    from orchestrator.home import Home

    home = Home(root_of())
    if once:
        return _print_page(home)
    if off:
        metrics_settings.path(home).unlink(missing_ok=True)
        return print_answer(address=None) if as_json else click.echo("metrics are not served any more", err=True)
    found = _address(home) if port is None else _serve(home, port)
    return print_answer(address=found) if as_json else click.echo(found)


def _print_page(home: Home) -> None:
    from orchestrator import metrics, metrics_settings

    settings = metrics_settings.read(home) if metrics_settings.path(home).exists() else metrics_settings.Settings()
    click.echo(metrics.once(home, settings), nl=False)


def _address(home: Home) -> str:
    from orchestrator import metrics_settings

    found = metrics_settings.address(home)
    if found is not None:
        return found.url
    if not metrics_settings.path(home).exists():
        port = metrics_settings.PORT
        raise Refusal(f"nobody serves metrics of {home.root}: lastgood metrics --port {port} does, --once prints them")
    raise Refusal(f"the metrics are not served: lastgood serve -d, and see {home.root / 'metrics.log'}")


def _serve(home: Home, port: int) -> str:
    """The supervisor starts who serves them within a second or two."""
    from monitors.clock import SystemClock
    from orchestrator import client, metrics_settings

    home.create()
    metrics_settings.write(home, port)
    client.ask(home.root, {"ask": "ping"}, start=True)
    clock = SystemClock()
    end = clock.now() + WAIT_S
    while clock.now() < end:
        found = metrics_settings.address(home)
        if found is not None and port in (0, found.port):
            return found.url
        select.select([], [], [], LOOK_EVERY_S)
    raise Refusal(f"the metrics are not there after {WAIT_S:.0f} s; see {home.root / 'metrics.log'}")

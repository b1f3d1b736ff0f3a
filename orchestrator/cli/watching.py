"""What do the senses of this machine see, with no run at all? Signals and incidents as they come, until Ctrl-C."""

from __future__ import annotations

import os
import select
import signal as signals
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from orchestrator.cli.outcome import Exit

if TYPE_CHECKING:
    from monitors.incidents import Incident
    from monitors.signals import Signal

SUMMARY_EVERY_S = 60.0
FIRST_SUMMARY_S = 6.0
"""by then each sense has looked twice: rates are known"""
WAIT_MOST_S = 1.0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print signals and incidents as JSON, a line each.")
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(min=0),
    metavar="S",
    help="Seconds between two lines about what is well: 60; with --json 0, which is each look.",
)
@click.option("--kernel", default="auto", metavar="FILE", help="Read the kernel's lines here; `off`: do not read them.")
@click.option("--path", "paths", multiple=True, metavar="DIR", help="A folder whose disk matters; may be repeated.")
def watch(as_json: bool, every_s: float | None, kernel: str, paths: tuple[str, ...]) -> int:
    """Watch this machine, without a run: GPUs, kernel log, memory, disks, mounts, ports, clock.

    One line for each event and each incident, and one a minute about what is well. Nothing is changed, nothing is
    sent. Ctrl-C ends it.
    """
    from monitors.sense.station import Choice

    choice = Choice(kernel=kernel, paths=paths)
    try:
        if as_json:
            _follow(choice, Lines(0.0 if every_s is None else every_s))
        else:
            _follow(choice, Sentences(SUMMARY_EVERY_S if every_s is None else every_s))
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # Whoever read has enough. What is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.SUCCEEDED


class Lines:
    """JSON lines. Looks that say nothing new are thinned out."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._said: dict[tuple[str, str], float] = {}

    def signal(self, signal: Signal) -> None:
        """Print it, unless the same device was looked at a moment ago."""
        from monitors.hardware import GpuLooked, HostLooked

        if isinstance(signal, GpuLooked | HostLooked):
            whom = (type(signal).__name__, getattr(signal, "device", ""))
            if signal.at - self._said.get(whom, float("-inf")) < self._every_s:
                return
            self._said[whom] = signal.at
        self._print(signal)

    def incident(self, incident: Incident) -> None:
        """Print it."""
        self._print(incident)

    def turn(self, now: float) -> None:
        """Nothing: whoever reads JSON adds up for himself."""

    def _print(self, value: object) -> None:
        from monitors import wire

        click.echo(wire.dumps(value))


class Sentences:
    """Lines for people. Looks are added up; the rest is told at once."""

    def __init__(self, every_s: float) -> None:
        from monitors.sense.sentences import Summary

        self._every_s = every_s
        self._summary = Summary()
        self._due: float | None = None

    def signal(self, signal: Signal) -> None:
        """Say it, or keep it for the next summary."""
        from monitors.sense.sentences import sentence

        if not self._summary.takes(signal):
            click.echo(sentence(signal))

    def incident(self, incident: Incident) -> None:
        """Say it so that the eye finds it."""
        from monitors.sense.sentences import clock

        subject = incident.subject
        where = subject.device or f"node {subject.node}"
        kind = click.style(incident.kind.upper(), fg="red", bold=True)
        click.echo(f"{clock(incident.at)}  {kind} {where}, {incident.confidence:.0%} sure")
        for line in incident.evidence:
            click.echo(f"{'':10}{line}")

    def turn(self, now: float) -> None:
        """Say how things are, when it is time."""
        if self._due is None:
            self._due = now + min(FIRST_SUMMARY_S, self._every_s)
        if now >= self._due:
            self._due = now + self._every_s
            click.echo(self._summary.sentence(now))


def _follow(choice: object, teller: Lines | Sentences) -> None:
    from monitors.clock import SystemClock
    from monitors.sense.ending import Ending
    from monitors.sense.station import Choice, Station, senses
    from monitors.watch import Watch, WatchConfig

    assert isinstance(choice, Choice)
    clock, monitors = SystemClock(), Watch(WatchConfig(), nodes=1, ranks_per_node=1)

    def seen(signal: Signal) -> None:
        teller.signal(signal)
        _tell(monitors.see(signal), teller.incident)

    ending = Ending(signals.SIGINT)
    station = Station(senses(choice), node=choice.node, clock=clock, tell=seen)
    try:
        while not ending.asked:
            wait_s = station.turn()
            _tell(monitors.silent(clock.now()), teller.incident)
            teller.turn(clock.now())
            sys.stdout.flush()
            select.select([], [], [], min(wait_s, WAIT_MOST_S))
    finally:
        station.close()


def _tell(incidents: list[Incident], say: Callable[[Incident], None]) -> None:
    for incident in incidents:
        say(incident)

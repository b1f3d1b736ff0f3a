"""How is the supervisor run by hand? Mostly it need not be: submitting a run starts it."""

from __future__ import annotations

import os
import select
import signal
import sys

import click

from orchestrator.cli.outcome import Refusal
from orchestrator.cli.runs import json_option, print_answer

STOP_S = 10.0


@click.command()
@click.option("-d", "--detach", is_flag=True, help="Start it in the background, and return once it listens.")
@click.option("--stop", is_flag=True, help="End it, and keep it ended; training goes on unsupervised.")
@json_option
def serve(detach: bool, stop: bool, as_json: bool) -> None:
    """Run the supervisor of this state folder: in the foreground, until Ctrl-C.

    `submit` and `run` start it when it does not run; agents start it anew when it dies. It listens on a loopback port
    only, and answers only who can read the token in the state folder.
    """
    from orchestrator import client
    from orchestrator.home import default

    home = default()
    home.create()
    if stop:
        _stop(as_json)
    elif detach:
        answer = client.ask(home.root, {"ask": "ping"}, start=True)
        print_answer(**answer) if as_json else click.echo(f"the supervisor runs as process {answer['pid']}")
    else:
        home.off.unlink(missing_ok=True)
        command = [sys.executable, "-P", "-m", "orchestrator.serve", "--home", str(home.root)]
        os.execv(sys.executable, command)


def _stop(as_json: bool) -> None:
    from orchestrator import client
    from orchestrator.home import default

    home = default()
    # Before the signal: an agent that sees the supervisor end looks for this.
    home.off.touch()
    address = client.running(home)
    if address is not None:
        handle = os.pidfd_open(address.pid)
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        if not select.select([handle], [], [], STOP_S)[0]:
            raise Refusal(f"process {address.pid} does not end within {STOP_S:.0f} s: kill -9 {address.pid}")
    pid = address.pid if address else None
    ended = f"process {pid} has ended" if pid else "none was running"
    print_answer(ok=True, pid=pid) if as_json else click.echo(f"supervisor: {ended}; `lastgood serve -d` starts it")

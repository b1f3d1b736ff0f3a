"""How does a person see what `lastgood` is for, before trusting it with anything? The demo, as a command."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path

import click

from orchestrator.cli.outcome import nearest
from orchestrator.cli.runs import json_option, print_answer


@click.command()
@click.option("--fault", help="One fault of a GPU that is made up, such as xid79; without it, the eight of the demo.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where everything goes; must not exist yet.")
@json_option
def demo(fault: str | None, folder: Path | None, as_json: bool) -> int:
    """Play the demo: train a small GPT on two CPU ranks while faults are injected, in a state folder of its own."""
    from orchestrator.demo import main
    from orchestrator.demo_gpu import FAULTS

    if fault is not None and fault not in FAULTS:
        raise click.UsageError(f"no fault '{fault}'; {nearest(fault, FAULTS)}")
    if folder is not None and folder.exists():
        raise click.UsageError(f"{folder} is there already: name a folder that is not")
    words = ["--fault", fault] if fault is not None else []
    words += ["--folder", str(folder)] if folder is not None else []
    if not as_json:
        return main(words)
    with redirect_stdout(sys.stderr):
        status = main(words)
    print_answer(demo=fault or "eight faults", exit_code=status, passed=status == 0)
    return status

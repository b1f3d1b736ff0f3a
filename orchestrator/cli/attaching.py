"""How does a person come back to a run that goes on? With the view that `lastgood run` had."""

from __future__ import annotations

import click

from orchestrator.cli.runs import find, json_option, run_argument


@click.command()
@run_argument
@json_option
def follow(run: str, as_json: bool) -> int:
    """Follow a run to its end, as `lastgood run` does: what happens, and where it stands. Ctrl-C stops the following.

    Ends with the status that `lastgood run` would end with.
    """
    from orchestrator.cli import following

    root, found = find(run)
    return following.follow(root, found, as_json=as_json)

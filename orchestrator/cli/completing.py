"""How does a shell learn the commands? It evaluates a script of click's, which asks `lastgood` itself at every tab."""

from __future__ import annotations

from typing import Any

import click

from orchestrator.cli.outcome import nearest
from orchestrator.cli.runs import json_option, print_answer

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_LASTGOOD_COMPLETE"
"""by which click knows that a shell asks"""


class Shell(click.Choice[str]):
    """The name of one, or an error with the nearest."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        """The name."""
        if value not in SHELLS:
            raise click.UsageError(f"no completion for '{value}'; {nearest(value, SHELLS)}", ctx)
        return str(value)


@click.command()
@click.argument("shell", type=Shell(SHELLS))
@json_option
def completion(shell: str, as_json: bool) -> None:
    """Print what lets a shell complete commands, options and ids of runs.

    \b
    source <(lastgood completion bash)    in ~/.bashrc
    source <(lastgood completion zsh)     in ~/.zshrc, after compinit
    lastgood completion fish | source     in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    from orchestrator.cli import lastgood

    known = get_completion_class(shell)
    assert known is not None
    script = known(lastgood, {}, "lastgood", VARIABLE).source()
    return print_answer(shell=shell, script=script) if as_json else click.echo(script)

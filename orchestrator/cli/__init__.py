"""What can a person say? The commands, loaded one by one: `--help` must not wait for what it does not show.

Results go to stdout and nothing else does; progress and errors go to stderr. Every error says what, where, why, and
the command that repairs it; only our own bugs show a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from orchestrator.cli.outcome import Exit, failure_of, nearest

COMMANDS = {
    "init": ("starting", "Write a spec to start from."),
    "doctor": ("doctor", "Check this machine: versions, GPUs, folders, clock, supervisor."),
    "run": ("submitting", "Submit a run and follow it."),
    "submit": ("submitting", "Hand a run over to the supervisor."),
    "follow": ("attaching", "Follow a run to its end, as `run` does."),
    "alerts": ("alerting", "Set up, try and list who is told of what."),
    "silence": ("alerting", "Tell nobody of some runs or kinds for a while."),
    "serve": ("serving", "Run the supervisor of this state folder."),
    "ls": ("listing", "List runs."),
    "status": ("reading", "Say where a run stands, and why."),
    "logs": ("logs", "Show what the ranks wrote."),
    "events": ("reading", "List every decision and its reason."),
    "story": ("reading", "Tell what happened, what was concluded, what was done."),
    "incident": ("incidents", "List incidents, show one with its evidence, or say something about it."),
    "ckpt": ("checkpoints", "List checkpoints, read them back, or keep one for good."),
    "ledger": ("reading", "Show where the wall clock went."),
    "report": ("spending", "Sum up days: interruptions by cause, how fast they were over, the cost."),
    "budget": ("spending", "Show or change what a run may spend."),
    "power": ("spending", "Show or change how much power the GPUs of a run may draw."),
    "stop": ("steering", "End a run, after a last checkpoint."),
    "pause": ("steering", "Let a run save and leave its devices, until it is resumed."),
    "resume": ("steering", "Let a stopped, held or paused run go on."),
    "restart": ("steering", "Begin a new world now, from a new save."),
    "nodes": ("nodes", "List the hosts of runs, or keep one from being given ranks."),
    "drill": ("steering", "Inject a fault on purpose."),
    "replay": ("reading", "Decide an old run again, under other runbooks."),
    "watch": ("watching", "Watch this machine, without a run."),
    "top": ("top", "Watch a run live in the terminal."),
    "metrics": ("scraping", "Serve metrics for Prometheus, or print them once."),
    "demo": ("demoing", "Play the demo: faults, and nobody touching the run."),
    "dashboard": ("dashboard", "Start the dashboard, and print its address."),
    "completion": ("completing", "Print what lets a shell complete commands, options and runs."),
    "version": ("starting", "Print the version."),
}
"""name: module of this package, and what `--help` says"""
ALIASES = {
    "list": "ls",
    "ps": "ls",
    "queue": "ls",
    "cancel": "stop",
    "checkpoint": "ckpt",
    "incidents": "incident",
    "ui": "dashboard",
}


class Commands(click.Group):
    """The commands as they are in the table; a module is imported when one of its commands is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        module = import_module(f"{__name__}.{COMMANDS[name][0]}")
        command: click.Command = getattr(module, name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is meant; an unknown one is an error with the nearest name."""
        if not ctx.resilient_parsing and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"no command '{args[0]}'; {nearest(args[0], COMMANDS, unlisted=ALIASES)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **_: Any) -> Any:  # type: ignore[override]
        """Run a command and end with its status; whatever a person can repair is a sentence, not a traceback."""
        try:
            status = super().main(args=args, prog_name=prog_name or "lastgood", standalone_mode=False)
        except click.ClickException as error:
            error.show()
            status = error.exit_code
        except (KeyboardInterrupt, click.Abort):
            click.echo("interrupted", err=True)
            status = Exit.INTERRUPTED
        except BrokenPipeError:
            # The reader of a pipe left, as `head` does: nothing is wrong, and nothing can be said to it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = 0
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise
            click.echo(f"Error: {failure.text}", err=True)
            status = failure.status
        sys.exit(status if isinstance(status, int) else 0)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def lastgood(ctx: click.Context) -> None:
    """Keeps training runs alive: launches, watches, names the culprit, restarts from the last good checkpoint.

    RUN is the id of a run, the beginning of one, or `-` for the newest. State lies in $LASTGOOD_HOME (~/.lastgood).
    """
    ctx.color = False if os.environ.get("NO_COLOR") else None


def main() -> None:
    """The `lastgood` command."""
    lastgood.main()

"""How does a run begin? A spec, or a command alone, becomes a request to the supervisor."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.outcome import Exit
from orchestrator.cli.runs import json_option, print_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobs.spec import Spec

COMMAND = "lastgood.command"


class WithCommand(click.Command):
    """Everything after `--` is a command to run, whatever it looks like."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[COMMAND] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.argument("spec", metavar="[SPEC.yaml | -- COMMAND...]", required=False, type=click.Path(path_type=Path)),
        click.option("-n", "--name", help="Name of the run, instead of the spec's."),
        click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="Change the spec: checkpoint.keep=5."),
        click.option("--env", metavar="NAME=VALUE", multiple=True, help="Set a variable of the ranks."),
        click.option(
            "--dry-run", is_flag=True, help="Check everything; print the plan and the resolved spec; start nothing."
        ),
        json_option,
        click.pass_context,
    )[::-1]:
        function = option(function)
    return function


@click.command(cls=WithCommand)
@_options
@click.option(
    "--probe",
    is_flag=True,
    help="Will it recover? Train it as a run of its own, kill a rank, see it come back, stop it, and say how it went.",
)
@click.option("--probe-timeout", default="10m", show_default=True, help="How long the probe may take: 90s, 10m, 1h.")
def submit(
    ctx: click.Context,
    *,
    spec: Path | None,
    name: str | None,
    sets: tuple[str, ...],
    env: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    probe: bool,
    probe_timeout: str,
) -> int:
    """Hand a run over to the supervisor, which is started when it does not run; print the id of the run.

    With --probe nothing is handed over to stay: it ends with 0 when the run came back from a killed rank, 100 when it
    did not. Its saves go into a folder of its own; what else the command writes, it writes as ever.
    """
    if probe and dry_run:
        raise click.UsageError("--dry-run starts nothing and --probe does: one of them", ctx)
    resolved, yaml = _resolved(ctx, spec, name, sets, env)
    if probe:
        from orchestrator.cli import ages, probing

        limit_s = ages.seconds_of(probe_timeout, option="--probe-timeout")
        return probing.probe(resolved, lambda trial: _submit(trial, yaml), limit_s, as_json=as_json)
    if dry_run:
        return _dry(resolved, as_json)
    run = _submit(resolved, yaml)
    click.echo(f"submitted; follow it: lastgood follow {run}; what its ranks write: lastgood logs {run} -f", err=True)
    print_answer(run=run) if as_json else click.echo(run)
    return Exit.SUCCEEDED


@click.command(cls=WithCommand)
@_options
@click.option("-d", "--detach", is_flag=True, help="Submit only: the same as `lastgood submit`.")
def run(
    ctx: click.Context,
    *,
    spec: Path | None,
    name: str | None,
    sets: tuple[str, ...],
    env: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    detach: bool,
) -> int:
    """Submit a run and follow it to its end. Ctrl-C leaves it running and stops following.

    \b
    lastgood run gpt.yaml --set ranks_per_node=8
    lastgood run -- train.py --lr 3e-4

    Ends with 0 when the run succeeded, 100 when its code failed for good, 103 when a person stopped it, 104 when its
    restarts are exhausted, 105 for infrastructure, 106 when it waits for a person, 130 after Ctrl-C.
    """
    resolved, yaml = _resolved(ctx, spec, name, sets, env)
    if dry_run:
        return _dry(resolved, as_json)
    # Imported before the run is handed over: Ctrl-C in between would leave a person without the run's id.
    from orchestrator.cli.following import follow
    from orchestrator.home import default

    found = _submit(resolved, yaml)
    if detach:
        print_answer(run=found) if as_json else click.echo(found)
        return Exit.SUCCEEDED
    return follow(default().root, found, as_json=as_json)


def _dry(spec: Spec, as_json: bool) -> int:
    """What would be: the plan, then the spec."""
    from orchestrator.cli import planning

    plan = planning.plan(spec)
    if as_json:
        print_answer(**spec.model_dump(mode="json"), plan=plan)
    else:
        click.echo("\n".join(planning.lines(plan)))
        click.echo(f"\n{spec.model_dump_json(indent=2)}")
    return Exit.SUCCEEDED


def _submit(spec: Spec, yaml: str) -> str:
    from orchestrator.cli.steering import ordered
    from orchestrator.home import default

    request = {"ask": "submit", "spec": spec.model_dump(mode="json"), "yaml": yaml}
    try:
        return str(ordered(default().root, request)["run"])
    except KeyboardInterrupt:
        # Once asked, the supervisor takes the run in, whether or not anybody waits for its answer.
        click.echo(f"{spec.name} may have been submitted: see `lastgood ls`; `lastgood stop RUN` ends it", err=True)
        raise


def _resolved(
    ctx: click.Context, path: Path | None, name: str | None, sets: tuple[str, ...], env: tuple[str, ...]
) -> tuple[Spec, str]:
    """The spec with every folder absolute, and its text as written."""
    from jobs.load import BARE, submitted

    words: list[str] | None = ctx.meta.get(COMMAND)
    if (path is None) == (words is None):
        raise click.UsageError("needs a spec's file, or `-- COMMAND`: one of them", ctx)
    if words is not None:
        path = Path(BARE)
        body = _spec_of(words).encode()
    else:
        assert path is not None
        from jobs.load import read_file

        body = read_file(path)
    found = submitted(path, body, called=name, sets=sets, env=env, environ=_inherited())
    if found.recovery.runbooks is not None:
        from orchestrator import runbooks

        runbooks.load(Path(found.recovery.runbooks))
    return found, body.decode("utf-8-sig")


def _inherited() -> dict[str, str] | None:
    """The environment that ranks inherit: of the supervisor that runs, or ours, which starts it; None: unknown."""
    from jobs import registry
    from orchestrator import client
    from orchestrator.home import default

    address = client.running(default())
    if address is None:
        return dict(os.environ)
    try:
        same = os.path.samefile(f"/proc/{address.pid}/exe", "/proc/self/exe")
    except OSError:
        return None
    # Under another Python, what can be imported here says nothing.
    return registry.environment(address.pid) or None if same else None


def _spec_of(words: list[str]) -> str:
    """The YAML that says the same as a bare command line."""
    called = bool(words) and re.fullmatch(r"(.*/)?python[0-9.]*", words[0]) is not None
    # An interpreter with options of its own is left to start as it was written.
    command = words[1:] if called and not _is_option(words[1:]) else words
    script = bool(command) and (command[0] == "-m" or command[0].endswith(".py"))
    subject = next((word for word in words[called:] if not word.startswith("-")), "run")
    name = re.sub(r"[^a-z0-9]+", "-", Path(subject).stem.lower()).strip("-")[:40].strip("-") or "run"
    # JSON is YAML, and quotes every word.
    return f"name: {name}\ncommand: {json.dumps(command)}\npython: {json.dumps(script)}\n"


def _is_option(words: list[str]) -> bool:
    return not words or (words[0].startswith("-") and words[0] != "-m")

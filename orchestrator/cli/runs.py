"""Which state folder, which run? What most commands need first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.outcome import Exit, Refusal

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def home() -> Path:
    """The state folder, whether or not it is there yet. Raises HomeError when it is not private."""
    from orchestrator.home import default

    found = default()
    if found.root.exists():
        found.check()
    return found.root


def find(text: str) -> tuple[Path, str]:
    """State folder and full id of the run that `text` means: an id, the beginning of one, `-` for the newest."""
    from orchestrator import contract

    root = home()
    try:
        return root, contract.find(root, text)
    except LookupError as error:
        raise Refusal(str(error.args[0] if error.args else error), Exit.NOT_FOUND) from None


def _complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from orchestrator.home import default

    # The folder's names are enough for a shell, and cost nothing.
    folder = default().root / "runs"
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def runbook(root: Path, run: str, kind: str) -> Path:
    """The page in force about a kind of incident: of the run's own folder where that has one, else the built-in."""
    import json

    from orchestrator.home import Home
    from orchestrator.runbooks import BUILT_IN

    page = f"{kind}.md"
    try:
        own = json.loads((Home(root).run(run) / "spec.json").read_text())["recovery"]["runbooks"]
    except (OSError, ValueError, KeyError, TypeError):  # a page to read is worth more than the reason
        own = None
    return Path(own) / page if own and (Path(own) / page).exists() else BUILT_IN / page


def print_answer(**parts: Any) -> None:
    """One JSON object on stdout, with the version of the contract; its parts are in docs/contract.md."""
    import json

    from orchestrator.contract import SCHEMA

    click.echo(json.dumps({"schema": SCHEMA, **parts}))


run_argument = click.argument("run", metavar="RUN", shell_complete=_complete)
optional_run = click.argument("run", metavar="[RUN]", required=False, shell_complete=_complete)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON (schema lastgood/1).")

"""How does one begin? A spec to start from, the schema for editors, the version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.outcome import Exit, Refusal, nearest
from orchestrator.cli.runs import json_option, print_answer

TEMPLATES = {
    "pretrain": "a GPT with FSDP2 and the SDK: everything works, loss incidents included",
    "plain": "your own script, unchanged: crashes and hangs",
}
SCHEMA_FILE = "lastgood.schema.json"


class Template(click.Choice[str]):
    """The name of one, or an error with the nearest."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        """The name."""
        if value not in TEMPLATES:
            raise click.UsageError(f"no template '{value}'; {nearest(value, TEMPLATES)}", ctx)
        return str(value)


@click.command()
@click.argument("template", type=Template(list(TEMPLATES)), default="pretrain")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write; default: TEMPLATE.yaml.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@click.option("--list", "listing", is_flag=True, help="List the templates.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of specs instead.")
@json_option
def init(*, template: str, output: Path | None, force: bool, listing: bool, schema: bool, as_json: bool) -> None:
    """Write a commented spec to start from, and beside it the schema that lets editors check it."""
    if schema:
        return click.echo(_schema())
    if listing:
        return print_answer(templates=TEMPLATES) if as_json else click.echo(_listing())
    path = output or Path(f"{template}.yaml")
    if path.exists() and not force:
        raise Refusal(f"{path}: is there already: name another file with -o, or replace it with --force", Exit.USAGE)
    schema_path = path.parent / SCHEMA_FILE
    schema_path.write_text(_schema() + "\n")
    path.write_text(f"# yaml-language-server: $schema={SCHEMA_FILE}\n{_template(template)}")
    click.echo(f"wrote {path} and {schema_path}; next: lastgood run {path}", err=True)
    return print_answer(spec=str(path), spec_schema=str(schema_path)) if as_json else click.echo(str(path))


def _template(name: str) -> str:
    return (Path(__file__).parent / "templates" / f"{name}.yaml").read_text()


def _schema() -> str:
    from jobs.load import schema

    return json.dumps(schema(), indent=2)


def _listing() -> str:
    return "\n".join(f"{name:10} {text}" for name, text in TEMPLATES.items())


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    number = installed("lastgood")
    print_answer(version=number) if as_json else click.echo(f"lastgood {number}")

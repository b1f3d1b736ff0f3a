"""Do the documents tell the truth? Runbooks, commands that they name, and words that must not stay."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from monitors.incidents import Kind
from orchestrator import runbooks
from orchestrator.cli import lastgood
from orchestrator.drills import DRILLS

ROOT = Path(__file__).parent.parent
LINES_OF_RUNBOOK = 45
"""what fits on a screen at night: the median page of the best public collection has 28"""
E2E = ROOT / "tests" / "e2e" / "drills.py"
"""DRILLS there: name of a drill to the test that runs it, `tests/e2e/test_file.py::test_name`"""
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "runbooks").glob("*.md"))]
KINDS = pytest.mark.parametrize("kind", list(Kind))


def test_every_kind_has_a_runbook_and_nothing_else_has() -> None:
    assert {file.stem for file in runbooks.BUILT_IN.glob("*.md")} == set(Kind)


@KINDS
def test_a_runbook_has_its_sections_and_fits_on_a_screen(kind: Kind) -> None:
    text = (runbooks.BUILT_IN / f"{kind}.md").read_text()
    page = runbooks.page(kind)
    assert page.startswith(f"# {runbooks.front(kind).title}\n")
    assert tuple(re.findall(r"^## (.*)$", page, re.MULTILINE)) == runbooks.SECTIONS
    assert text.count("\n") <= LINES_OF_RUNBOOK
    assert max(map(len, text.splitlines())) <= 130, "a terminal at night is narrow"


@cache
def run_by_tests() -> dict[str, str]:
    """The drills that the end-to-end tests run, or a skip while their table is not there."""
    if not E2E.exists():
        pytest.skip(f"{E2E.relative_to(ROOT)} is not there yet")
    spec = importlib.util.spec_from_file_location("drills", E2E)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    table: dict[str, str] = module.DRILLS
    return table


@KINDS
def test_a_drill_of_the_command_line_provokes_its_kind(kind: Kind) -> None:
    drill = runbooks.front(kind).drill
    words = shlex.split(drill.command)
    assert drill.command in runbooks.page(kind), "the page explains another command"
    if words[:2] == ["lastgood", "drill"] and drill.name in DRILLS:
        assert words[3] == drill.name
        assert DRILLS[drill.name].expects is kind


@KINDS
def test_the_drill_of_a_runbook_runs_in_the_tests(kind: Kind) -> None:
    where = run_by_tests()[runbooks.front(kind).drill.name]
    file, _, test = where.partition("::")
    assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE), f"no {where}"


def commands(text: str) -> Iterator[list[str]]:
    """The words of every shell command in Markdown, in `spans` and in fenced blocks."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", text)
    for line in [*"".join(fenced).splitlines(), *spans]:
        for part in re.split(r"&&|[|;#]", line):
            words = part.strip().removeprefix("$ ").split()
            if words and words[0] in ("lastgood", "make"):
                yield words


def unknown(words: list[str]) -> str:
    """What of a `lastgood` command does not exist; empty when all of it does."""
    command: click.Command | None = lastgood
    rest = words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        command = command.get_command(click.Context(command), rest.pop(0))
    if command is None:
        return "no such command"
    options = {"-h", "--help"} | {o for param in command.params for o in (*param.opts, *param.secondary_opts)}
    own = rest[: rest.index("--")] if "--" in rest else rest
    named = [word.partition("=")[0] for word in own if re.match(r"--?[a-z]", word)]
    return ", ".join(f"no option {option}" for option in named if option not in options)


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_every_command_that_a_document_names_exists(file: Path) -> None:
    if not file.exists():
        pytest.skip(f"{file.name} is not there yet")
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wrong = []
    for words in commands(file.read_text()):
        why = unknown(words) if words[0] == "lastgood" else ", ".join(set(words[1:2]) - targets)
        if why:
            wrong.append(f"`{' '.join(words)}`: {why}")
    assert not wrong, "\n".join([f"{file.name} names what does not exist:", *wrong])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("`lastgood lss`", "no such command"),
        ("```\n$ lastgood drill RUN kill --rnk 1\n```", "no option --rnk"),
        ("`lastgood run -- train.py --lr 1`", ""),
        ("`lastgood status RUN | head`", ""),
    ],
)
def test_commands_are_found_and_judged(text: str, problem: str) -> None:
    assert [problem] == [unknown(words) for words in commands(text)]


UNFINISHED = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "Not" + "ImplementedError", r"\bX{3}\b")))
MACHINE = re.compile(r"(?<![\w.~}])/(?:work|farm|root|home|Users)/")


def _ours(path: Path) -> bool:
    return path.suffix not in (".pyc", ".gz") and "vendor" not in path.parts


def ours() -> Iterator[Path]:
    """Every text file of the repository that somebody else did not write."""
    for top in ("orchestrator", "jobs", "monitors", "tests", "runbooks", ".ci"):
        yield from (p for p in sorted((ROOT / top).rglob("*")) if p.is_file() and _ours(p))
    yield from (p for p in sorted(ROOT.glob("*")) if p.suffix in (".md", ".toml") or p.name == "Makefile")


@pytest.mark.parametrize(("pattern", "why"), [(UNFINISHED, "finish it"), (MACHINE, "a path of one machine")])
def test_nothing_unfinished_and_no_path_of_one_machine_is_left(pattern: re.Pattern[str], why: str) -> None:
    found = [
        f"{file.relative_to(ROOT)}:{number}: {why}: {line.strip()[:100]}"
        for file in ours()
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, "\n".join(found)

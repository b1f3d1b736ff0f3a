"""What did the ranks write? The files of the newest world, or of those that are asked for."""

from __future__ import annotations

import json
import os
import re
import select
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import click

from orchestrator.cli import ages
from orchestrator.cli.outcome import Exit, Refusal
from orchestrator.cli.runs import find, json_option, run_argument

LOOK_EVERY_S = 0.2
PLACE = re.compile(
    r"attempts/(?P<attempt>\d+)/node(?P<node>\d+)/w(?P<world>\d+)/rank(?P<rank>\d+)/(?P<stream>\w+)\.log$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One log file, and whose."""

    path: Path
    attempt: int
    world: int
    rank: int
    """-1 for the supervisor"""
    stream: str

    @property
    def label(self) -> str:
        """Whose lines they are, in front of each when there are several."""
        return self.stream if self.rank < 0 else f"a{self.attempt}w{self.world} rank{self.rank}"


@click.command()
@run_argument
@click.option("-f", "--follow", is_flag=True, help="Go on, through every restart, until the run ends.")
@click.option(
    "--rank",
    "ranks",
    multiple=True,
    metavar="R|culprit|all",
    help="Whose: a rank (default 0), the rank that caused the last incident, all.",
)
@click.option("--attempt", metavar="N|all", help="Which attempt; default: the newest, or that of the world.")
@click.option("--world", metavar="N|all", help="Which world; default: the newest (with culprit: the one it failed in).")
@click.option("--tail", type=click.IntRange(min=0), help="Only the last N lines of each file.")
@click.option("--grep", "pattern", metavar="RE", help="Only lines in which this regular expression is found.")
@click.option("--stderr", "only_stderr", is_flag=True, help="Only stderr; default: both.")
@click.option("--supervisor", is_flag=True, help="The supervisor's log instead.")
@click.option("--since", metavar="AGE", help="Only files written to in the last 90s, 10m, 2h, 1d.")
@json_option
def logs(
    *,
    run: str,
    follow: bool,
    ranks: tuple[str, ...],
    attempt: str | None,
    world: str | None,
    tail: int | None,
    pattern: str | None,
    only_stderr: bool,
    supervisor: bool,
    since: str | None,
    as_json: bool,
) -> None:
    """Show what the ranks wrote: by default rank 0 of the newest world."""
    root, found = find(run)
    if supervisor:
        choose = partial(_supervisor, root)
    else:
        numbers, failed_world = _ranks(root, found, ranks)
        wanted = Wanted(
            attempt=attempt,
            world=str(failed_world) if world is None and failed_world is not None else world,
            ranks=numbers,
            oldest=ages.since(since),
            only_stderr=only_stderr,
        )
        choose = partial(wanted.among, root / "runs" / found)
    sources = choose()
    if not sources and not follow:
        raise Refusal(_nothing(root, found), Exit.NOT_FOUND)
    many = follow or len({source.label for source in sources}) > 1
    printer = Printer(matches=_matcher(pattern), labelled=many, as_json=as_json, whole_lines=follow)
    for source in sources:
        printer.show(source, tail)
    if follow:
        _follow(root, found, choose, printer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which logs are asked for."""

    attempt: str | None
    """a number, `all`, or None for the newest; so is world"""
    world: str | None
    ranks: frozenset[int] | None
    """None: all"""
    oldest: float
    only_stderr: bool

    def among(self, folder: Path) -> list[Source]:
        """The logs of a run's folder that are meant, oldest world first."""
        found = _sources(folder)
        # Numbers of worlds never repeat within a run: one that is named says which attempt is meant.
        attempt = "all" if self.attempt is None and self.world not in (None, "all") else self.attempt
        found = [s for s in found if _meant(attempt, s.attempt, max(one.attempt for one in found))]
        found = [s for s in found if _meant(self.world, s.world, max(one.world for one in found))]
        return [
            source
            for source in found
            if (self.ranks is None or source.rank in self.ranks)
            and (source.stream == "stderr" or not self.only_stderr)
            and source.path.stat().st_mtime >= self.oldest
        ]


def _supervisor(root: Path) -> list[Source]:
    return [Source(path=root / "supervisor.log", attempt=0, world=0, rank=-1, stream="supervisor")]


def _matcher(pattern: str | None) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern) if pattern else None
    except re.error as error:
        raise click.BadParameter(f"is not a regular expression: {error}", param_hint="--grep") from None


def _meant(text: str | None, number: int, default: int) -> bool:
    if text == "all":
        return True
    if text is not None and not text.isdecimal():
        raise click.UsageError(f"'{text}': needs a number, or `all`")
    return number == (default if text is None else int(text))


def _ranks(root: Path, run: str, words: tuple[str, ...]) -> tuple[frozenset[int] | None, int | None]:
    """The ranks that are meant (None: all), and the world of the incident that named them."""
    if not words:
        return frozenset({0}), None
    if "all" in words:
        return None, None
    if "culprit" in words:
        return _culprit(root, run)
    wrong = [word for word in words if not word.isdecimal()]
    if wrong:
        raise click.BadParameter(f"'{wrong[0]}' is neither a number, nor `culprit`, nor `all`", param_hint="--rank")
    return frozenset(int(word) for word in words), None


def _culprit(root: Path, run: str) -> tuple[frozenset[int], int]:
    from orchestrator import contract

    named = [one for one in contract.incidents(root, run)["incidents"] if one["subject"]["rank"] is not None]
    if not named:
        raise Refusal(f"{run}: no incident names a rank; see `lastgood incident ls {run}`", Exit.NOT_FOUND)
    click.echo(f"{named[-1]['id']}: {named[-1]['kind']}, rank {named[-1]['subject']['rank']}", err=True)
    return frozenset({int(named[-1]["subject"]["rank"])}), int(named[-1]["world"])


def _sources(folder: Path) -> list[Source]:
    """Every log of every rank, oldest world first; stderr last, so that an error is what the screen ends with."""
    found = []
    for path in folder.glob("attempts/*/node*/w*/rank*/std*.log"):
        place = PLACE.search(path.as_posix())
        if place is None:
            continue
        found.append(
            Source(
                path=path,
                attempt=int(place["attempt"]),
                world=int(place["world"]),
                rank=int(place["rank"]),
                stream=place["stream"],
            )
        )
    return sorted(found, key=lambda s: (s.attempt, s.world, s.rank, s.stream == "stderr"))


def _nothing(root: Path, run: str) -> str:
    every = _sources(root / "runs" / run)
    if not every:
        return f"{run}: no rank was started yet; see `lastgood status {run}` and `lastgood logs {run} --supervisor`"
    newest = every[-1]
    ranks = sorted({source.rank for source in every if source.world == newest.world})
    return f"{run}: no such log; the newest is attempt {newest.attempt}, world {newest.world}, ranks {ranks}"


def _follow(root: Path, run: str, choose: Callable[[], list[Source]], printer: Printer) -> None:
    from orchestrator import contract

    while True:
        # The status first: what a rank wrote last is then in the files that are read after it.
        over = contract.status(root, run)["exit_code"] != contract.NOT_FINISHED
        for source in choose():
            printer.show(source)
        if over:
            return
        select.select([], [], [], LOOK_EVERY_S)


class Printer:
    """Prints files line by line, each from where it was left."""

    def __init__(self, *, matches: re.Pattern[str] | None, labelled: bool, as_json: bool, whole_lines: bool) -> None:
        self._matches = matches
        self._labelled = labelled
        self._as_json = as_json
        self._whole_lines = whole_lines
        self._left_at: dict[Path, int] = {}

    def show(self, source: Source, tail: int | None = None) -> None:
        """Print what was written since the last time, or the end of it."""
        with source.path.open("rb") as file:
            file.seek(self._left_at.get(source.path, 0))
            lines = self._lines(file)
            for text in lines if tail is None else deque(lines, tail):
                self._print(source, text)
            self._left_at[source.path] = file.tell()

    def _lines(self, file: BinaryIO) -> Iterator[str]:
        while raw := file.readline():
            if self._whole_lines and not raw.endswith(b"\n"):
                file.seek(-len(raw), os.SEEK_CUR)  # the rest of the line is still to come
                return
            text = raw.decode(errors="replace").rstrip("\r\n")
            if self._matches is None or self._matches.search(text):
                yield text

    def _print(self, source: Source, text: str) -> None:
        if self._as_json:
            place = {"attempt": source.attempt, "world": source.world, "rank": source.rank, "stream": source.stream}
            click.echo(json.dumps({**place, "text": text}))
        else:
            click.echo(f"[{source.label}] {text}" if self._labelled else text)

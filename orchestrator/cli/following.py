"""What does a person see who follows a run? One line that moves on a terminal, one line per event in a log."""

from __future__ import annotations

import select
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import click

from orchestrator import contract
from orchestrator.cli.outcome import Exit
from orchestrator.cli.text import clock, count, flat, line, print_json

LOOK_EVERY_S = 0.25
SAY_EVERY_LOOKS = 40
"""in a log, a line every 10 s shows that the run lives"""


class View(Protocol):
    """Where progress is shown."""

    def show(self, status: dict[str, Any]) -> None:
        """The run stands here now."""

    def say(self, text: str) -> None:
        """This happened."""


def follow(root: Path, run: str, *, as_json: bool) -> int:
    """Show a run until it ends; returns the exit status. Ctrl-C stops the showing, not the run."""
    try:
        click.echo(f"run {run}; Ctrl-C stops following it, not the run", err=True)
        with shown() as view:
            status = _until_over(root, run, view)
    except KeyboardInterrupt:
        click.echo(f"\n{run} goes on. Stop it: lastgood stop {run}; follow it again: lastgood follow {run}", err=True)
        return Exit.INTERRUPTED
    if as_json:
        print_json(status)
    else:
        word = click.style(status["state"], bold=True)
        restarts = count(status["restarts"], "restart")
        click.echo(f"{run}: {word} at step {status['step']}, {restarts}: {flat(status['reason'])}")
    if status["exit_code"]:
        click.echo(
            f"what happened: lastgood story {run}; what the ranks said: lastgood logs {run} --rank culprit", err=True
        )
    return int(status["exit_code"])


def until_over(root: Path, run: str) -> dict[str, Any]:
    """Wait for the end of a run, in silence; returns its last status."""
    return _until_over(root, run, None)


def _until_over(root: Path, run: str, view: View | None) -> dict[str, Any]:
    telling = None if view is None else Telling(root, run, view)
    while True:
        # The status first: what ended the run is then in the story that is read after it.
        status = contract.status(root, run)
        if telling is not None:
            telling.go_on(status)
        if status["exit_code"] != contract.NOT_FINISHED:
            return status
        select.select([], [], [], LOOK_EVERY_S)


class Telling:
    """The story of a run to somebody who listens: each sentence once."""

    def __init__(self, root: Path, run: str, view: View) -> None:
        self._root = root
        self._run = run
        self._view = view
        self._event = 0
        self._told = 0

    def go_on(self, status: dict[str, Any]) -> None:
        """Say what is new, and show where the run stands."""
        if self._is_news():
            sentences = contract.story(self._root, self._run)["sentences"]
            for sentence in sentences[self._told :]:
                self._view.say(f"{clock(sentence['at'])}  {flat(sentence['text'])}")
            self._told = len(sentences)
        self._view.show(status)

    def _is_news(self) -> bool:
        """Whether the story has grown: telling it anew four times a second would cost more than the supervisor."""
        news = contract.events(self._root, self._run, self._event)["events"]
        if news:
            self._event = news[-1]["id"]
        return any(event["kind"] != "Progressed" or event["reason"] for event in news)


def shown() -> AbstractContextManager[View]:
    """One line that moves where somebody looks at a terminal, else lines."""
    if sys.stderr.isatty():
        from orchestrator.cli.screen import Screen

        return Screen()
    return nullcontext(Log())


class Log:
    """Progress as lines on stderr: for files, pipes and CI."""

    def __init__(self) -> None:
        self._looks = 0

    def show(self, status: dict[str, Any]) -> None:
        """Say it, now and then."""
        if self._looks % SAY_EVERY_LOOKS == 0:
            self.say(line(status))
        self._looks += 1

    def say(self, text: str) -> None:
        """One line."""
        click.echo(text, err=True)

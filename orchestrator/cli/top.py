"""What does a run do now? The run page's essentials in a terminal, live; one frame where there is no terminal."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from orchestrator.cli.outcome import Exit
from orchestrator.cli.runs import find, home, json_option, optional_run, print_answer

if TYPE_CHECKING:
    from orchestrator.cli.top_sight import Reader, Sight

REFRESH_S = 1.0
RUNS_EVERY = 5
"""refreshes between two looks for runs that are new"""
WIDTH_LEAST = 40
KEYS = {
    "\x1b[A": "before", "\x1b[D": "before", "k": "before",
    "\x1b[B": "after", "\x1b[C": "after", "j": "after",
    "q": "quit", "\x03": "quit", "\x04": "quit",
    "p": "hold", " ": "hold",
}  # fmt: skip
"""what a terminal sends, and what is meant"""


@click.command()
@optional_run
@click.option("--once", is_flag=True, help="Print one frame; so it is done too where stdout is no terminal.")
@json_option
def top(run: str | None, once: bool, as_json: bool) -> int:
    """Watch a run live: why it is where it is, where its time goes, slowest and hottest ranks, incidents.

    Without RUN it is the newest that has not ended. Keys: q quits, p holds the screen still, 1 to 9 and the arrows
    choose another run. Nothing of the run is changed.
    """
    from rich.console import Console

    root, chosen = _chosen(run)
    if as_json:
        _print_json(root, chosen)
        return Exit.SUCCEEDED
    console = Console(highlight=False)
    if once or not console.is_terminal:
        _print(root, chosen, console)
    else:
        _Screen(root, chosen, console).show()
    return Exit.SUCCEEDED


def _chosen(run: str | None) -> tuple[Path, str]:
    from orchestrator.contract import NEWEST

    going_on = _runs(home()) if run is None else []
    return (home(), going_on[-1][0]) if going_on else find(run or NEWEST)


def _runs(root: Path, also: str | None = None) -> list[tuple[str, str]]:
    """Id and state of the runs that are not over, oldest first, and of `also`."""
    from orchestrator.contract import STATES
    from orchestrator.core.state import Phase
    from orchestrator.home import Home
    from orchestrator.journal import Journal

    if not Home(root).journal.exists():
        return []
    with Journal(Home(root).journal, read_only=True) as journal:
        known = [(one.run, Phase(journal.phase(one.run) or Phase.LAUNCHING)) for one in journal.runs()]
    over = (Phase.SUCCEEDED, Phase.STOPPED)
    return [(run, STATES[phase][0]) for run, phase in known if phase not in over or run == also]


def _print_json(root: Path, run: str) -> None:
    from orchestrator import contract
    from orchestrator.cli.top_sight import ranks

    status = contract.status(root, run)
    parts = {"status": status, "ledger": contract.ledger(root, run), "incidents": contract.incidents(root, run)}
    print_answer(
        **{name: {k: v for k, v in part.items() if k != "schema"} for name, part in parts.items()},
        ranks=ranks(root, status),
    )


def _print(root: Path, run: str, console: Any) -> None:
    from monitors.clock import SystemClock
    from orchestrator.cli.top_frame import frame
    from orchestrator.cli.top_sight import Reader

    reader = Reader(root, run)
    width = max(WIDTH_LEAST, console.width)
    for line in frame(reader.look(SystemClock().now()), [], width=width, height=None):
        console.print(line, soft_wrap=True)
    reader.close()


class Keys:
    """Single keys of the terminal, without Enter; none where stdin is no terminal."""

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        if self._fd is not None:
            self._before = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._fd is not None and self._before is not None:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def wait(self, seconds: float) -> str:
        """What was pressed: of KEYS, a digit, or empty when nothing that means anything was."""
        if self._fd is None:
            select.select([], [], [], seconds)
            return ""
        if not select.select([self._fd], [], [], seconds)[0]:
            return ""
        said = os.read(self._fd, 32).decode(errors="replace")
        if not said:  # the terminal is gone
            return "quit"
        return KEYS.get(said, said if said in set("123456789") else "")


class _Screen:
    """The frames, until somebody has seen enough."""

    def __init__(self, root: Path, run: str, console: Any) -> None:
        self._root = root
        self._run = run
        self._console = console
        self._runs: Sequence[tuple[str, str]] = ()
        self._reader: Reader | None = None
        self._sight: Sight | None = None
        self._held = False

    def show(self) -> None:
        """Refresh until `q`."""
        from rich.live import Live

        # No thread of its own, which would draw what has not changed.
        with Keys() as keys, Live(console=self._console, screen=True, auto_refresh=False) as live:
            turn = 0
            while True:
                if turn % RUNS_EVERY == 0:
                    self._runs = _runs(self._root, self._run)
                live.update(self._frame(), refresh=True)
                pressed = keys.wait(REFRESH_S)
                if pressed == "quit":
                    return
                turn = self._obey(pressed, turn + 1)

    def _obey(self, pressed: str, turn: int) -> int:
        ids = [run for run, _ in self._runs]
        at = ids.index(self._run) if self._run in ids else 0
        if pressed == "hold":
            self._held = not self._held
        elif pressed.isdigit() and int(pressed) <= len(ids):
            self._turn_to(ids[int(pressed) - 1])
        elif pressed in ("before", "after") and ids:
            self._turn_to(ids[(at + (1 if pressed == "after" else -1)) % len(ids)])
        return turn

    def _turn_to(self, run: str) -> None:
        if run != self._run:
            self._run, self._sight = run, None
            if self._reader is not None:
                self._reader.close()
            self._reader = None

    def _frame(self) -> Any:
        from rich.console import Group

        from monitors.clock import SystemClock
        from orchestrator.cli.top_frame import frame
        from orchestrator.cli.top_sight import Reader

        if self._sight is None or not self._held:
            self._reader = self._reader or Reader(self._root, self._run)
            self._sight = self._reader.look(SystemClock().now())
        size = self._console.size
        width = max(WIDTH_LEAST, size.width)
        return Group(*frame(self._sight, self._runs, width=width, height=size.height, held=self._held))

"""How is a run shown on a terminal? The story scrolls by, and one line at the bottom moves."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from orchestrator.cli.text import COLOURS, line


class Screen:
    """Progress on a terminal, on stderr: stdout is for the result. Honours NO_COLOR (rich does)."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._spinner = Spinner("dots")
        self._live = Live(self._spinner, console=self._console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._live.stop()

    def show(self, status: dict[str, Any]) -> None:
        """Move the line at the bottom."""
        state, _, rest = line(status).partition(" ")
        self._spinner.update(text=Text.assemble((state, COLOURS.get(state, "")), " ", rest))

    def say(self, text: str) -> None:
        """Scroll a line by, above it."""
        self._console.print(Text(text))

"""What does every demo need? The run's story, told while it happens, and a patience that ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from monitors.clock import SystemClock
from orchestrator import contract
from orchestrator.client import NoSupervisor, ask

RECIPE = Path(__file__).parent.parent / "jobs" / "recipes" / "demo.yaml"
DEADLINE_S = 400.0
CLEAR_S = 30.0
CLOCK = SystemClock()


class Show:
    """Prints what happens, while it happens."""

    def __init__(self, home: Path, run: str) -> None:
        self._home = home
        self._run = run
        self._began = CLOCK.now()
        self._seen = 0

    def say(self, text: str) -> None:
        """One line with the time since the start."""
        print(f"[{CLOCK.now() - self._began:6.1f} s] {text}", flush=True)

    def follow(self) -> dict[str, Any]:
        """Print the new sentences of the story; returns the status."""
        sentences = contract.story(self._home, self._run)["sentences"]
        for sentence in sentences[self._seen :]:
            self.say(f"  {sentence['text']}")
        self._seen = len(sentences)
        return contract.status(self._home, self._run)


def wait(show: Show, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Follow the run until it holds, or the run has ended. Raises SystemExit when neither happens."""
    deadline = CLOCK.now() + DEADLINE_S
    while CLOCK.now() < deadline:
        status = show.follow()
        if until(status) or status["exit_code"] != contract.NOT_FINISHED:
            return status
        time.sleep(0.2)
    raise SystemExit(f"the demo did not get there within {DEADLINE_S:.0f} s: see `lastgood status`")


@contextmanager
def stage(home: Path) -> Iterator[None]:
    """At the end nothing goes on. A demo that is interrupted ends its run; one that is over has seen it end."""
    try:
        yield
    except BaseException:
        with suppress(NoSupervisor):
            _clear(home)
        raise
    finally:
        with suppress(NoSupervisor):
            ask(home, {"ask": "shutdown"}, start=False)


def _clear(home: Path) -> None:
    deadline = CLOCK.now() + CLEAR_S
    while going := [one for one in contract.runs(home)["runs"] if one["exit_code"] == contract.NOT_FINISHED]:
        for run in going:
            ask(home, {"ask": "stop", "run": run["run"], "now": True}, start=True)
        if CLOCK.now() >= deadline:
            return
        time.sleep(0.2)

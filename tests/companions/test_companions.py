"""Are the processes beside the supervisor there when they are wanted, once each, and do they outlive it?"""

from __future__ import annotations

import os
import signal
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from monitors.clock import SystemClock
from orchestrator.companions import Companion, Companions
from orchestrator.home import Home

MODULE = """
    import asyncio, os

    async def companion(home):
        with (home.root / "said").open("a") as said:
            print(os.getpid(), file=said, flush=True)
        if (home.root / "poison").exists():
            raise SystemExit(3)
        await asyncio.Event().wait()
"""


class Desk:
    """A state folder, and a companion that writes its process number down."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.wanted = True
        self.kind = Companion(name="parrot", module="parrot", wanted=lambda _home, _specs: self.wanted)
        self.now = 1000.0
        self._all: list[Companions] = []

    def companions(self) -> Companions:
        self._all.append(Companions(self.home, (self.kind,)))
        return self._all[-1]

    def close(self) -> None:
        for place in (place for one in self._all for place in one._places.values() if place.process):
            place.process.kill()
            place.process.wait()

    def pids(self) -> list[int]:
        said = self.home.root / "said"
        return [int(line) for line in said.read_text().split()] if said.exists() else []

    def until(self, companions: Companions, what: Callable[[], bool], most_s: float = 30.0) -> None:
        """Tend, with a clock of its own that runs ahead, until it is so."""
        clock = SystemClock()
        end = clock.now() + most_s
        never = threading.Event()
        while not what():
            assert clock.now() < end, (self.home.root / "parrot.log").read_text()
            companions.tend([], self.now)
            self.now += 0.5
            never.wait(0.02)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    (tmp_path / "parrot.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    desk = Desk(tmp_path / "home")
    desk.home.root.mkdir(mode=0o700)
    yield desk
    desk.close()


def test_it_is_started_once_and_anew_when_it_died(desk: Desk) -> None:
    companions = desk.companions()
    desk.until(companions, lambda: len(desk.pids()) == 1)
    os.kill(desk.pids()[0], signal.SIGKILL)
    desk.until(companions, lambda: len(desk.pids()) == 2)


def test_it_ends_when_it_is_not_wanted_any_more(desk: Desk) -> None:
    companions = desk.companions()
    desk.until(companions, lambda: len(desk.pids()) == 1)
    desk.wanted = False
    desk.until(companions, lambda: gone(desk.pids()[0]))


def test_one_that_fails_at_once_is_tried_later_and_later(desk: Desk) -> None:
    (desk.home.root / "poison").touch()
    companions = desk.companions()
    desk.until(companions, lambda: len(desk.pids()) == 4)
    assert desk.now >= 1000.0 + 2 + 4 + 8, "each wait is twice the one before"


def test_the_next_supervisors_waits_until_the_one_that_outlived_the_last_has_ended(desk: Desk) -> None:
    desk.until(desk.companions(), lambda: len(desk.pids()) == 1)
    first = desk.pids()[0]
    following = desk.companions()
    for _ in range(20):
        following.tend([], desk.now)
    os.kill(first, signal.SIGKILL)
    desk.until(following, lambda: len(desk.pids()) == 2)
    assert desk.pids()[1] != first


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True

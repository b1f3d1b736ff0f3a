"""Are ranks forked when they can be, and started cold, with the reason, when they cannot?"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.agent.child import Child, Exit
from jobs.agent.nursery import Cold, Nursery

RANK = """
import os, sys
import mine
print(os.environ["RANK"], os.getppid(), os.getpid() == os.getsid(0), os.getcwd(), sys.argv[1:], __name__, mine.VALUE)
print("torch" in sys.modules, file=sys.stderr)
sys.exit(7)
"""


class Nest:
    """A program, and a nursery for it."""

    def __init__(self, folder: Path, *, mine: str = "VALUE = 1", program: str = RANK) -> None:
        self.folder = folder
        self.mine, self.program = folder / "mine.py", folder / "train.py"
        self.mine.write_text(mine)
        self.program.write_text(program)
        self.argv = [str(folder / "train.py"), "--lr", "1"]
        self._words: asyncio.Queue[str] = asyncio.Queue()
        env = {**os.environ, "LASTGOOD_MARK": "test:1", "LASTGOOD_NODE": "0"}
        self.nursery = Nursery(self.argv, env=env, cwd=folder, log_file=folder / "zygote.log", settled=self._settle)

    def _settle(self, why: str) -> None:
        self._words.put_nowait(why)

    async def ready(self) -> str:
        """Prepared, or not: the reason."""
        self.nursery.start()
        return await self.settled()

    async def settled(self) -> str:
        """The next word on whether ranks can be forked."""
        return await asyncio.wait_for(self._words.get(), 60)

    def fork(self, world: int, ended: Callable[[Exit], None]) -> Child:
        """A rank of this world."""
        env = {
            **os.environ,
            "RANK": "3",
            "LASTGOOD_WORLD": str(world),
            "LASTGOOD_AGENT_PID": str(os.getpid()),
            "LASTGOOD_RANK_DIR": str(self.folder),
        }
        with (self.folder / "out").open("wb") as out, (self.folder / "err").open("wb") as err:
            return self.nursery.fork(["--", *self.argv], ended, env=env, stdout=out, stderr=err)

    async def run(self, world: int = 12) -> tuple[Exit, list[str]]:
        """Fork a rank and wait for its end."""
        ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.fork(world, ended.set_result)
        end = await asyncio.wait_for(ended, 30)
        return end, (self.folder / "out").read_text().split()

    async def end(self) -> None:
        """Leave nothing behind."""
        self.nursery.close()
        zygote: Any = self.nursery
        while zygote._child.exit is None:
            await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    """Where the nest of all tests lives."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def nest_of_all(loop: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nest]:
    """To prepare one takes two seconds of a core."""
    nest = Nest(tmp_path_factory.mktemp("nest"))
    yield nest
    loop.run(nest.end())


@pytest.fixture
def nest(loop: asyncio.Runner, nest_of_all: Nest) -> Nest:
    """One that ranks can be forked from, whatever the test before did to it."""
    nest_of_all.program.write_text(RANK)
    if nest_of_all.nursery.why:
        assert loop.run(nest_of_all.ready()) == ""
    return nest_of_all


def played(folder: Path, play: Callable[[Nest], Awaitable[None]], **files: str) -> None:
    """In a nest of its own."""

    async def whole() -> None:
        nest = Nest(folder, **files)
        try:
            await play(nest)
        finally:
            await nest.end()

    asyncio.run(whole())


def test_a_forked_rank_is_what_a_started_one_would_be(loop: asyncio.Runner, nest: Nest) -> None:
    end, said = loop.run(nest.run())
    assert end == Exit(code=7, signal=None)
    assert said[:3] == ["3", str(os.getpid()), "True"]
    value = nest.mine.read_text().partition("= ")[2]
    assert " ".join(said[3:]) == f"{nest.folder} ['--lr', '1'] __main__ {value}"
    assert (nest.folder / "err").read_text() == "True\n"


COLLECTS = "import gc, mine\nprint(gc.isenabled(), gc.get_threshold()[0] > 0, gc.get_freeze_count() > 100_000)"


def test_a_rank_collects_garbage_but_not_what_it_shares(loop: asyncio.Runner, nest: Nest) -> None:
    nest.program.write_text(COLLECTS)
    assert loop.run(nest.run())[1] == ["True", "True", "True"]


def test_a_rank_collects_no_garbage_if_its_program_says_so(tmp_path: Path) -> None:
    async def play(nest: Nest) -> None:
        assert await nest.ready() == ""
        assert (await nest.run())[1] == ["False", "True", "True"]

    played(tmp_path, play, mine="import gc\ngc.disable()", program=COLLECTS)


def test_what_a_rank_leaves_behind_shows_its_world(loop: asyncio.Runner, nest: Nest) -> None:
    nest.program.write_text("import os, time\nos.fork()\ntime.sleep(60)")

    async def play() -> None:
        ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        rank = nest.fork(41, ended.set_result)
        children = Path(f"/proc/{rank.pid}/task/{rank.pid}/children")
        while not children.read_text():
            await asyncio.sleep(0.02)
        for pid in (rank.pid, int(children.read_text())):
            shown = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            assert {b"LASTGOOD_WORLD=41", b"LASTGOOD_MARK=test:1", b"LASTGOOD_NODE=0"} <= set(shown)
        rank.send_group(signal.SIGKILL)
        assert (await asyncio.wait_for(ended, 30)).signal == signal.SIGKILL

    loop.run(play())


@pytest.mark.parametrize(
    ("mine", "why"),
    [
        ("import os\nRANK = int(os.environ.get('RANK', 0))", "mine asks for RANK when it is imported"),
        ("import os\nLOCAL = os.getenv('LOCAL_RANK')", "mine asks for LOCAL_RANK when it is imported"),
        (
            "import threading, time\nthreading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
            "1 threads were started while importing",
        ),
        ("import os\nos._exit(3)", "ended"),
    ],
)
def test_what_makes_a_fork_unsound_is_named(tmp_path: Path, mine: str, why: str) -> None:
    async def play(nest: Nest) -> None:
        assert why in await nest.ready()
        with pytest.raises(Cold, match=why):
            nest.fork(1, print)

    played(tmp_path, play, mine=mine)


def test_a_module_that_cannot_be_imported_is_left_to_the_rank(tmp_path: Path) -> None:
    async def play(nest: Nest) -> None:
        assert await nest.ready() == ""
        end, _ = await nest.run()
        assert end.code == 1
        assert json.loads((tmp_path / "error.json").read_text())["message"] == "not today"

    played(tmp_path, play, mine="raise RuntimeError('not today')")


def test_a_file_that_changed_is_imported_anew_for_the_next_world(loop: asyncio.Runner, nest: Nest) -> None:
    async def play() -> None:
        nest.mine.write_text(f"{nest.mine.read_text()}0")
        with pytest.raises(Cold, match=r"mine\.py changed since it was imported"):
            nest.fork(1, print)
        assert await nest.settled() != ""
        assert await nest.settled() == ""
        _, said = await nest.run()
        assert said[-1] == "10"

    loop.run(play())


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_zygote_that_does_not_answer_costs_a_second_at_most(loop: asyncio.Runner, nest: Nest, number: int) -> None:
    async def play() -> None:
        zygote: Any = nest.nursery
        os.kill(zygote._child.pid, number)
        now = asyncio.get_running_loop().time
        began = now()
        with pytest.raises(Cold):
            nest.fork(1, print)
        assert now() - began < 2.0
        assert await nest.settled() != ""
        assert await nest.settled() == ""
        assert (await nest.run())[0].code == 7

    loop.run(play())


def test_ranks_outlive_the_zygote(loop: asyncio.Runner, nest: Nest) -> None:
    nest.program.write_text("import time, sys\ntime.sleep(0.5)\nsys.exit(5)")

    async def play() -> None:
        ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        nest.fork(2, ended.set_result)
        await nest.end()
        assert (await asyncio.wait_for(ended, 30)).code == 5

    loop.run(play())

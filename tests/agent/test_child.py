"""Is the end of a process told once, as it was, and as early as nothing of it can run any more?"""

from __future__ import annotations

import asyncio
import os
import platform
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from stage import Stage, until

from jobs.agent.child import Child, Exit
from monitors import signals as s
from monitors.sense import processes

HELD = "import os, time; from lastgood import tether; tether.hold(os.environ); "
LARGE_BYTES = 200 << 20
EXIT = {"x86_64": 60, "aarch64": 93}
"""number of the system call that ends one thread"""


class Watched:
    """A tethered process, and what was told of its end."""

    def __init__(self, program: str) -> None:
        self.told: list[Exit] = []
        self.gone_when_told = False
        argv = (sys.executable, "-P", "-c", HELD + program)
        self._reading, writing = os.pipe()
        with os.fdopen(writing, "wb") as out:
            self.child = Child(argv, self._hear, stdout=out, tethered=True)

    def _hear(self, how: Exit) -> None:
        self.told.append(how)
        self.gone_when_told = self.child.gone.is_set()

    async def ready(self) -> None:
        """It has said something."""
        await asyncio.to_thread(os.read, self._reading, 1)

    async def end(self) -> Exit:
        """How it ended, once nothing of it is left."""
        await asyncio.wait_for(self.child.gone.wait(), 30)
        os.close(self._reading)
        await asyncio.sleep(0.05)  # nothing more is told
        (how,) = self.told
        return how


async def killed(program: str) -> tuple[Exit, bool]:
    """How it ended, and whether it was gone when that was told."""
    watched = Watched(program)
    await watched.ready()
    os.kill(watched.child.pid, signal.SIGKILL)
    return await watched.end(), watched.gone_when_told


def test_a_killed_process_is_told_before_its_memory_is_taken_down() -> None:
    program = f"much = b'1' * {LARGE_BYTES}; os.write(1, b'1'); time.sleep(60)"

    async def play() -> list[tuple[Exit, bool]]:
        return [await killed(program) for _ in range(3)]

    ends = asyncio.run(play())
    assert {how for how, _ in ends} == {Exit(code=None, signal=signal.SIGKILL)}
    assert not all(gone for _, gone in ends), "on no machine does a kernel take that much down in a moment"


@pytest.mark.parametrize("code", [0, 3])
def test_a_process_that_ends_by_itself_is_told_once(code: int) -> None:
    async def play() -> Exit:
        return await Watched(f"os._exit({code})").end()

    assert asyncio.run(play()) == Exit(code=code, signal=None)


def test_a_process_that_becomes_another_program_has_not_ended() -> None:
    async def play() -> Exit:
        watched = Watched("os.execlp('sh', 'sh', '-c', 'echo there; exec sleep 60')")
        await watched.ready()
        await asyncio.sleep(0.3)
        assert watched.told == []
        watched.child.send(signal.SIGTERM)
        return await watched.end()

    assert asyncio.run(play()) == Exit(code=None, signal=signal.SIGTERM)


@pytest.mark.skipif(platform.machine() not in EXIT, reason="the number of exit(2) is not known here")
def test_a_process_whose_main_thread_alone_ends_has_not_ended() -> None:
    program = (
        "import ctypes, threading\n"
        "def last():\n    time.sleep(0.4)\n    os._exit(4)\n"
        "threading.Thread(target=last).start()\n"
        f"os.write(1, b'1')\nctypes.CDLL(None).syscall({EXIT.get(platform.machine())}, 3)"
    )

    async def play() -> Exit:
        watched = Watched(program)
        await watched.ready()
        await asyncio.sleep(0.2)
        assert watched.told == [], "a thread of it lives"
        return await watched.end()

    assert asyncio.run(play()) == Exit(code=4, signal=None)


def other_device() -> int | None:
    """A device that is no terminal and none of memory's, and that does nothing when it is opened."""
    for path in ("/dev/fuse", "/dev/hwrng", "/dev/net/tun"):
        with suppress(OSError):
            return os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    return None


def test_who_has_a_device_open_keeps_it() -> None:
    with Path("/dev/null").open("rb"):
        assert not processes.has_device(os.getpid())
    if (fd := other_device()) is None:
        pytest.skip("no device here that may be opened")
    assert processes.has_device(os.getpid())
    os.close(fd)


@pytest.mark.parametrize("ask", [processes.has_device, lambda pid: processes.last_status(pid) is None])
def test_of_a_process_that_is_not_there_nothing_is_known(ask: Callable[[int], bool]) -> None:
    assert ask(2**22 + 1)


LARGE = """
import os, time
device = os.open("/dev/fuse", os.O_RDWR)
much = b"1" * (600 << 20)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="no device here that may be opened")
def test_a_world_is_over_when_its_dead_have_let_go_of_their_devices(stage: Stage) -> None:
    stage.spec(stage.script(LARGE))
    stage.launch()
    stage.start_world(1)
    until(lambda: stage.output(rank=0) != "", "not there")
    held = os.pidfd_open(stage.pid(0, world=1))
    signal.pidfd_send_signal(held, signal.SIGKILL)
    (exited,) = stage.wait_for(s.RankExited)
    assert exited.signal == signal.SIGKILL
    stage.wait_for(s.WorldStopped, world=1)
    assert select.select([held], [], [], 0.0)[0], "the next world would have found the device in use"
    os.close(held)

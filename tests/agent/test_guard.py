"""Does the agent bring a dead or hanging supervisor back, and leave a living or unwanted one alone?"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from stage import until

from jobs.agent.guard import Guard
from monitors.clock import SystemClock


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def publish(home: Path, pid: int, **fields: object) -> None:
    body = {"host": "127.0.0.1", "port": 1, "pid": pid, "started_at": time.time(), "version": "0", **fields}
    (home / "supervisor.json").write_text(json.dumps(body))


def looks(
    home: Path,
    times: Sequence[float],
    *,
    linked: bool = False,
    silent: bool = False,
    argv: Sequence[str] = ("true",),
) -> list[float]:
    """When, of these times, a guard started the supervisor."""

    async def watch() -> list[float]:
        before = psutil.Process().children()
        guard = Guard(home, SystemClock(), is_linked=lambda: linked, is_silent=lambda: silent, argv=argv)
        started = [now for now in times if guard.look(now)]
        while set(psutil.Process().children()) - set(before):
            await asyncio.sleep(0.01)
        return started

    return asyncio.run(watch())


class Ticking(SystemClock):
    """Two seconds later each time it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def now(self) -> float:
        self.asked += 1
        return 2.0 * self.asked


class Looking(Guard):
    """Remembers when it looked."""

    looked: tuple[float, ...] = ()

    def look(self, now: float) -> bool:
        self.looked += (now,)
        return super().look(now)


@pytest.mark.parametrize(
    ("linked", "silent", "times"),
    [
        (True, False, (2.0, 12.0)),
        (True, True, tuple(map(float, range(2, 15, 2)))),
        (False, False, tuple(map(float, range(2, 15, 2)))),
    ],
)
def test_while_it_answers_looks_are_seldom(
    tmp_path: Path, linked: bool, silent: bool, times: tuple[float, ...]
) -> None:
    async def watch() -> tuple[float, ...]:
        clock = Ticking()
        guard = Looking(tmp_path, clock, is_linked=lambda: linked, is_silent=lambda: silent, argv=("true",))
        running = asyncio.create_task(guard.run())
        while clock.asked < 7:
            await asyncio.sleep(0.01)
        running.cancel()
        return guard.looked

    assert asyncio.run(watch()) == times


def test_a_dead_supervisor_is_started_anew_ever_less_often(tmp_path: Path, dead_pid: int) -> None:
    publish(tmp_path, dead_pid)
    every_tenth = [number / 10 for number in range(1200)]
    assert looks(tmp_path, every_tenth)[:6] == [0.3, 2.3, 6.3, 14.3, 30.3, 60.3]


def test_it_gets_its_own_session_and_none_of_our_marks(tmp_path: Path, dead_pid: int) -> None:
    publish(tmp_path, dead_pid)
    says = tmp_path / "says"
    script = (
        "import json, os; "
        f"open({str(says)!r}, 'w').write(json.dumps([dict(os.environ), os.getsid(0) == os.getpid()]) + '\\n')"
    )
    program = (
        "import asyncio, sys; from pathlib import Path; from jobs.agent.guard import Guard; "
        "from monitors.clock import SystemClock\n"
        "async def main():\n"
        "    home, argv = Path(sys.argv[1]), (sys.executable, '-c', sys.argv[2])\n"
        "    guard = Guard(home, SystemClock(), is_linked=lambda: False, is_silent=lambda: False, argv=argv)\n"
        "    assert [guard.look(now) for now in (0.0, 1.0)] == [False, True]\n"
        "asyncio.run(main())"
    )
    env = {**os.environ, "LASTGOOD_MARK": "r:1", "LASTGOOD_HOME": "kept", "TORCHX_JOB_ID": "x"}
    subprocess.run([sys.executable, "-c", program, str(tmp_path), script], env=env, check=True)
    until(lambda: says.exists() and says.read_text().endswith("\n"), "nothing started")
    found, leads_session = json.loads(says.read_text())
    assert leads_session
    assert "LASTGOOD_MARK" not in found
    assert "TORCHX_JOB_ID" not in found
    assert found["LASTGOOD_HOME"] == "kept"


def test_it_gets_the_environment_of_the_one_before_not_a_share_of_the_devices(tmp_path: Path) -> None:
    says = tmp_path / "says"
    script = f"import json, os; open({str(says)!r}, 'w').write(json.dumps(dict(os.environ)) + '\\n')"
    ours = {"CUDA_VISIBLE_DEVICES": "3", "PET_LOG_DIR": "/x", "TORCHELASTIC_ERROR_FILE": "/x", "KEPT": "yes"}
    program = (
        "import asyncio, json, sys; from pathlib import Path; from jobs.agent.guard import Guard; "
        "from monitors.clock import SystemClock\n"
        "async def main():\n"
        "    home, argv = Path(sys.argv[1]), (sys.executable, '-c', sys.argv[2])\n"
        "    guard = Guard(home, SystemClock(), is_linked=lambda: False, is_silent=lambda: False, argv=argv)\n"
        "    guard.look(0.0)\n"
        "    print('looked', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    assert any(guard.look(now) for now in (1.0, 2.0))\n"
        "asyncio.run(main())"
    )
    for known, devices in ((True, "0,1"), (False, None)):
        says.unlink(missing_ok=True)
        with hanging(tmp_path, env={**os.environ, "CUDA_VISIBLE_DEVICES": "0,1", "KEPT": "yes"}) as supervisor:
            if not known:
                supervisor.kill()
                supervisor.wait()
            agent = subprocess.Popen(
                [sys.executable, "-c", program, str(tmp_path), script],
                env={**os.environ, **ours},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert agent.stdout is not None
            assert agent.stdout.readline()
            supervisor.kill()
            supervisor.wait()
            agent.communicate(b"\n")
        assert agent.returncode == 0
        until(lambda: says.exists() and says.read_text().endswith("\n"), "nothing started")
        found = json.loads(says.read_text())
        assert found.get("CUDA_VISIBLE_DEVICES") == devices
        assert found["KEPT"] == "yes"
        assert not found.keys() & {"PET_LOG_DIR", "TORCHELASTIC_ERROR_FILE"}


@contextmanager
def hanging(home: Path, *, locked: bool = True, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process that says that it is the supervisor, holds the lock as one, and does nothing; not even end on ABRT."""
    script = (
        "import fcntl, signal, sys, time\n"
        "signal.signal(signal.SIGABRT, lambda *_: print('abort', flush=True))\n"
        "lock = open(sys.argv[1], 'w')\n"
        f"{locked} and fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(600)\n"
    )
    argv = [sys.executable, "-c", script, str(home / "supervisor.lock")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        publish(home, process.pid)
        try:
            yield process
        finally:
            process.kill()


def test_one_that_hangs_says_where_and_is_replaced(tmp_path: Path) -> None:
    seconds = list(map(float, range(122)))
    with hanging(tmp_path) as process:
        assert looks(tmp_path, seconds[:-2], silent=True) == []
        assert process.poll() is None
        assert looks(tmp_path, seconds, silent=True) == []
        assert process.stdout is not None
        assert process.stdout.readline() == b"abort\n"
        assert process.poll() is None, "it was to be given time for its last words"
        looks(tmp_path, [*seconds, *(seconds[-1] + after for after in range(1, 6))], silent=True)
        assert process.wait(10) == -signal.SIGKILL
        assert looks(tmp_path, [200.0, 201.0], silent=True) == [201.0]


@pytest.mark.parametrize("silent", [True, False])
def test_time_in_which_the_host_stood_still_and_answers_are_no_silence(tmp_path: Path, *, silent: bool) -> None:
    times = [0.0, 1.0, 500.0, 501.0, 1000.0] if silent else list(map(float, range(500)))
    with hanging(tmp_path) as process:
        looks(tmp_path, times, silent=silent)
        assert process.poll() is None


def test_who_holds_no_lock_is_no_supervisor(tmp_path: Path) -> None:
    with hanging(tmp_path, locked=False) as process:
        looks(tmp_path, list(map(float, range(200))), silent=True)
        assert process.poll() is None


def test_one_that_lives_is_left_alone(tmp_path: Path) -> None:
    publish(tmp_path, os.getpid())
    assert looks(tmp_path, [0.0, 1.0, 2.0]) == []


def test_a_number_that_went_to_a_stranger_is_dead(tmp_path: Path) -> None:
    publish(tmp_path, os.getpid(), started_at=time.time() - 1e6)
    assert looks(tmp_path, [0.0, 1.0]) == [1.0]


def test_one_that_is_starting_holds_the_lock(tmp_path: Path, dead_pid: int) -> None:
    publish(tmp_path, dead_pid)
    with (tmp_path / "supervisor.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert looks(tmp_path, [0.0, 1.0, 2.0]) == []
    assert looks(tmp_path, [0.0, 1.0]) == [1.0]


def test_one_that_a_person_ended_stays_away(tmp_path: Path, dead_pid: int) -> None:
    publish(tmp_path, dead_pid)
    (tmp_path / "supervisor.off").touch()
    assert looks(tmp_path, [0.0, 1.0]) == []


def test_one_of_another_host_is_not_ours_to_start(tmp_path: Path, dead_pid: int) -> None:
    publish(tmp_path, dead_pid, host="192.0.2.1")
    assert looks(tmp_path, [0.0, 1.0]) == []


def test_where_there_never_was_one_none_is_started(tmp_path: Path) -> None:
    assert looks(tmp_path, [0.0, 1.0]) == []


def test_a_link_that_is_up_means_that_it_lives(tmp_path: Path, dead_pid: int) -> None:
    publish(tmp_path, dead_pid)
    assert looks(tmp_path, [0.0, 1.0], linked=True) == []

"""Does the agent bring a dead supervisor back, and leave a living or unwanted one alone?"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
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


def looks(home: Path, times: Sequence[float], *, linked: bool = False, argv: Sequence[str] = ("true",)) -> list[float]:
    """When, of these times, a guard started the supervisor."""

    async def watch() -> list[float]:
        guard = Guard(home, SystemClock(), is_linked=lambda: linked, argv=argv)
        started = [now for now in times if guard.look(now)]
        while psutil.Process().children():
            await asyncio.sleep(0.01)
        return started

    return asyncio.run(watch())


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
        "    guard = Guard(home, SystemClock(), is_linked=lambda: False, argv=argv)\n"
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

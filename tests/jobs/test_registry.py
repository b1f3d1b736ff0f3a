"""What runs where, on real processes: living, dead, zombie, a number that somebody else has, and none left."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import registry

RUN = "gpt-test1"


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes of a test, ended with it."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for child in started:
        child.kill()
        child.wait()


def sleeper(children: list[subprocess.Popen[bytes]], *words: str, mark: str | None = None) -> subprocess.Popen[bytes]:
    env = {**os.environ, **({registry.MARK: mark} if mark else {})}
    program = "import os, sys, time; os.write(1, b'.'); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", program, *words], env=env, stdout=subprocess.PIPE)
    children.append(child)
    assert child.stdout is not None
    child.stdout.read(1)
    child.stdout.close()
    return child


def recorded(home: Path, pid: int, started_at: float, host: str | None = None) -> registry.Record:
    record = registry.Record(
        run=RUN,
        attempt=1,
        handle="local_cwd://lastgood/x",
        scheduler="local_cwd",
        host=host or os.uname().nodename,
        at=1.0,
        agents=(registry.Process(node=0, pid=pid, started_at=started_at),),
    )
    registry.attempt_folder(home, RUN, 1).mkdir(parents=True, exist_ok=True)
    registry.write(home, record)
    return record


def start_of(pid: int) -> float:
    started = registry.started_at(pid)
    assert started is not None
    return started


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert registry.read(tmp_path, RUN, 1) is None
    assert recorded(tmp_path, 17, 4.5) == registry.read(tmp_path, RUN, 1)


def test_a_process_lives_until_it_is_dead_even_as_a_zombie(children: list[subprocess.Popen[bytes]]) -> None:
    child = sleeper(children)
    started = start_of(child.pid)
    assert registry.alive(child.pid, started)
    handle = os.pidfd_open(child.pid)
    child.kill()
    select.select([handle], [], [], 10)
    os.close(handle)
    assert registry.why_dead(child.pid, started) == f"process {child.pid} is dead and waits for its parent (state Z)"
    child.wait()
    assert registry.why_dead(child.pid, started) == f"process {child.pid} is gone"


def test_a_number_that_another_process_got_is_not_the_process(children: list[subprocess.Popen[bytes]]) -> None:
    child = sleeper(children)
    why = registry.why_dead(child.pid, start_of(child.pid) - 60)
    assert why == f"process number {child.pid} belongs to another process, started +60 s after"


def test_only_processes_with_the_mark_of_the_attempt_are_found(children: list[subprocess.Popen[bytes]]) -> None:
    mine = sleeper(children, mark=registry.mark(RUN, 1))
    sleeper(children, mark=registry.mark(RUN, 12))
    sleeper(children, f"{registry.MARK}={registry.mark(RUN, 1)}")
    assert registry.marked(RUN, 1) == (mine.pid,)


def test_end_leaves_nothing_not_even_what_hides_in_a_session_of_its_own(tmp_path: Path) -> None:
    program = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        os.fork()\n"
        "        time.sleep(600)\n"
        "os.write(1, b'.')\n"
        "time.sleep(600)\n"
    )
    env = {**os.environ, registry.MARK: registry.mark(RUN, 2)}
    child = subprocess.Popen([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read(1)
    assert len(registry.marked(RUN, 2)) >= 4
    assert registry.end(tmp_path, RUN, 2) == ()
    assert registry.marked(RUN, 2) == ()
    assert registry.ended(tmp_path, RUN, 2)
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()


def test_end_of_what_never_ran_is_an_end_too(tmp_path: Path) -> None:
    assert registry.end(tmp_path, RUN, 3) == ()
    assert registry.end(tmp_path, RUN, 3) == ()


def test_end_does_its_work_where_it_cannot_write(tmp_path: Path, children: list[subprocess.Popen[bytes]]) -> None:
    folder = registry.attempt_folder(tmp_path, RUN, 4)
    folder.parent.mkdir(parents=True)
    folder.touch()
    child = sleeper(children, mark=registry.mark(RUN, 4))
    assert registry.end(tmp_path, RUN, 4) == ()
    assert child.wait() == -signal.SIGKILL
    folder.unlink()
    (folder / "ended.json").mkdir(parents=True)
    child = sleeper(children, mark=registry.mark(RUN, 4))
    with pytest.raises(IsADirectoryError):
        registry.end(tmp_path, RUN, 4)
    assert child.wait() == -signal.SIGKILL


def test_a_living_agent_has_no_witnesses_of_its_death(tmp_path: Path, children: list[subprocess.Popen[bytes]]) -> None:
    agent = sleeper(children, "jobs.agent", "--node", "0", mark=registry.mark(RUN, 1))
    recorded(tmp_path, agent.pid, start_of(agent.pid))
    assert [found.pid for found in registry.agents(RUN, 1)] == [agent.pid]
    assert registry.witnesses(tmp_path, RUN, 1, 0) == ()
    # Also when the clock was set back since: the mark still says that it lives.
    recorded(tmp_path, agent.pid, start_of(agent.pid) - 3600)
    assert registry.witnesses(tmp_path, RUN, 1, 0) == ()


def test_a_dead_agent_has_two_witnesses(tmp_path: Path, children: list[subprocess.Popen[bytes]]) -> None:
    agent = sleeper(children, "jobs.agent", "--node", "0", mark=registry.mark(RUN, 1))
    recorded(tmp_path, agent.pid, start_of(agent.pid))
    agent.kill()
    agent.wait()
    first, second = registry.witnesses(tmp_path, RUN, 1, 0)
    assert first == f"process {agent.pid} is gone"
    assert "no agent among the processes of" in second


def test_nothing_is_known_of_other_hosts_and_of_what_was_not_recorded(tmp_path: Path) -> None:
    assert registry.witnesses(tmp_path, RUN, 1, 0) == ()
    recorded(tmp_path, 2**22 + 1, 0.0, host="elsewhere")
    assert registry.witnesses(tmp_path, RUN, 1, 0) == ()


@pytest.mark.parametrize("record", [None, "half of i", '{"run": 1}'])
def test_without_a_record_the_agents_own_is_the_second_witness(
    tmp_path: Path, children: list[subprocess.Popen[bytes]], record: str | None
) -> None:
    agent = sleeper(children, "jobs.agent", "--node", "0", mark=registry.mark(RUN, 1))
    own = registry.attempt_folder(tmp_path, RUN, 1) / "node0" / "agent.json"
    own.parent.mkdir(parents=True)
    said = {"pid": agent.pid, "started_at": start_of(agent.pid), "host": os.uname().nodename, "home": "x"}
    own.write_text(json.dumps(said))
    if record is not None:
        (own.parent.parent / "launched.json").write_text(record)
    assert registry.witnesses(tmp_path, RUN, 1, 0) == ()
    agent.kill()
    agent.wait()
    assert len(registry.witnesses(tmp_path, RUN, 1, 0)) == 2
    own.write_text(json.dumps({**said, "host": "elsewhere"}))
    assert registry.witnesses(tmp_path, RUN, 1, 0) == ()

"""Does a rank say what it has called when it is asked, whatever it does at the moment?"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lastgood import recorder
from monitors.sense import flight_recorder
from monitors.sense.flight_recorder import Where, look, looked
from monitors.sense.flight_recorder_dump import POINT_TO_POINT, Dump
from monitors.signals import GroupStatus

DEADLINE_S = 60.0
PAIR = """
import os, sys, time
import torch.distributed as dist
import torch
dist.init_process_group("gloo", init_method="file://{store}", rank=int(sys.argv[1]), world_size=2)
pair = dist.new_group([0, 1], group_desc="tp")
for _ in range(3):
    dist.all_reduce(torch.ones(4))
dist.barrier(pair)
print("up", flush=True)
if sys.argv[1] == "1":
    {stuck}
{waits}
"""
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts ranks under the worker; none outlives the test."""
    with ExitStack() as ends:

        def go(script: str, rank: int = 0) -> subprocess.Popen[str]:
            folder = tmp_path / f"rank{rank}"
            folder.mkdir()
            (tmp_path / "script.py").write_text(script)
            env = {**os.environ, "LASTGOOD_RANK_DIR": str(folder), "LASTGOOD_AGENT_PID": str(os.getpid())}
            words = [sys.executable, "-P", "-m", "lastgood.worker", "--", "script.py", str(rank)]
            process = ends.enter_context(
                subprocess.Popen(
                    words, cwd=tmp_path, env=env, text=True, stdout=subprocess.PIPE, start_new_session=True
                )
            )
            ends.callback(os.killpg, process.pid, signal.SIGKILL)
            return process

        yield go


def asked(tmp_path: Path, rank: int = 0) -> Dump | None:
    where = Where(node=0, world=1, rank=rank, folder=tmp_path / f"rank{rank}")
    return asyncio.run(look(time.time(), where))


def until(tmp_path: Path, rank: int, holds: Callable[[Dump], bool]) -> Dump:
    """Ask until the answer is so."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        dump = asked(tmp_path, rank)
        if dump is not None and holds(dump):
            return dump
        assert time.monotonic() < deadline, dump


def pair(start: Start, tmp_path: Path, *, stuck: str, waits: str) -> list[subprocess.Popen[str]]:
    script = PAIR.format(store=tmp_path / "store", stuck=stuck, waits=waits)
    ranks = [start(script, rank) for rank in (0, 1)]
    for rank in ranks:
        assert rank.stdout is not None
        assert rank.stdout.readline() == "up\n"
    return ranks


def _stands(status: GroupStatus, enqueued: int, completed: int) -> bool:
    return (status.group, status.enqueued, status.completed) == ("gloo:0", enqueued, completed)


def test_ranks_say_which_of_them_never_came(start: Start, tmp_path: Path) -> None:
    pair(start, tmp_path, stuck="time.sleep(3600)", waits="dist.all_reduce(torch.ones(4))")
    waits = until(tmp_path, 0, lambda dump: any(_stands(s, 4, 3) for s in dump.statuses))
    sleeps = until(tmp_path, 1, lambda dump: any(_stands(s, 3, 3) for s in dump.statuses))
    (ours, theirs) = ({status.group: status for status in dump.statuses} for dump in (waits, sleeps))
    assert (ours["gloo:0"].enqueued, ours["gloo:0"].completed) == (4, 3)
    assert (theirs["gloo:0"].enqueued, theirs["gloo:0"].completed) == (3, 3)
    assert [(s.desc, s.ranks, s.op) for s in (ours["gloo:1"],)] == [("tp", (0, 1), "barrier")]
    signal_of = looked(1.0, Where(node=0, world=1, rank=0, folder=tmp_path), waits)
    assert (signal_of.rank, signal_of.groups) == (0, waits.statuses)


def test_a_rank_in_a_receive_says_for_whom_it_waits(start: Start, tmp_path: Path) -> None:
    pair(start, tmp_path, stuck="while True: pass", waits="dist.recv(torch.ones(4), 1)")
    dump = until(tmp_path, 0, lambda dump: bool(dump.waits))
    assert [(s.op, s.peers) for s in dump.statuses if s.group == POINT_TO_POINT] == [("recv", (1,))]
    assert until(tmp_path, 1, lambda dump: bool(dump.entries)).waits == ()


def test_the_answer_holds_the_stacks_of_all_threads(start: Start, tmp_path: Path) -> None:
    script = """
import threading, time
def aside():
    print("up", flush=True)
    time.sleep(3600)
threading.Thread(target=aside, daemon=True).start()
def stuck():
    while True: pass
stuck()
"""
    rank = start(script)
    assert rank.stdout is not None
    rank.stdout.readline()
    until(tmp_path, 0, lambda _: innermost(tmp_path) == {"stuck": True, "aside": False, "answer": False})


def innermost(tmp_path: Path) -> dict[str, bool]:
    """The function in which each thread stands, and whether it is the main one."""
    threads = json.loads((tmp_path / "rank0" / recorder.ANSWER).read_text())["threads"]
    return {thread["frames"][-1].rpartition(" in ")[2]: thread["main"] for thread in threads}


def test_one_that_is_stopped_does_not_answer_and_does_when_it_goes_on(start: Start, tmp_path: Path) -> None:
    rank = start("import time\nprint('up', flush=True)\ntime.sleep(3600)")
    assert rank.stdout is not None
    rank.stdout.readline()
    rank.send_signal(signal.SIGSTOP)
    # Each thread is stopped for itself, some time after the order.
    tasks = list(Path(f"/proc/{rank.pid}/task").iterdir())
    while any((task / "stat").read_text().rpartition(")")[2].split()[0] != "T" for task in tasks):
        time.sleep(0.01)
    assert asked(tmp_path) is None
    rank.send_signal(signal.SIGCONT)
    until(tmp_path, 0, lambda _: True)


def test_a_forked_child_does_not_answer_for_its_parent(start: Start, tmp_path: Path) -> None:
    script = """
import os, time
child = os.fork()
if child:
    print("up", flush=True)
time.sleep(3600)
"""
    rank = start(script)
    assert rank.stdout is not None
    rank.stdout.readline()
    until(tmp_path, 0, lambda _: True)
    answer = json.loads((tmp_path / "rank0" / recorder.ANSWER).read_text())
    assert answer["pid"] == rank.pid


def test_a_question_never_blocks_whoever_asks(tmp_path: Path) -> None:
    (tmp_path / "rank0").mkdir()
    assert asked(tmp_path) is None
    os.mkfifo(tmp_path / "rank0" / recorder.PIPE)
    began = time.monotonic()
    assert asked(tmp_path) is None, "nobody reads this pipe"
    assert time.monotonic() - began < 1


def test_a_rank_without_torch_answers_that_it_has_called_nothing() -> None:
    body = json.loads(recorder.answer("q"))
    assert (body["asked"], body["pid"]) == ("q", os.getpid())
    assert len(body["recorders"]) in (0, 1, 2)  # what other tests loaded here, and a build for CUDA has NCCL's too


def test_both_sides_mean_the_same_files() -> None:
    assert (recorder.PIPE, recorder.ANSWER) == (flight_recorder.PIPE, flight_recorder.ANSWER)

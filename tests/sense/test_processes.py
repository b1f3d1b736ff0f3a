"""What does the kernel say of real processes, and what do the parsers make of recorded stacks?"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from monitors.sense import processes
from monitors.sense.processes import STACK_SIGNAL, CpuUse, parse_py_spy, parse_stack

SPIN = "print('on', flush=True)\nwhile True: pass"
REST = "import time\nprint('on', flush=True)\ntime.sleep(600)"


class Farm:
    """Starts processes that are ended with the test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def python(self, script: str) -> int:
        """Start a script, wait until it prints a line; gives its number."""
        process = self._stack.enter_context(
            subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True)
        )
        self._stack.callback(os.killpg, process.pid, signal.SIGKILL)  # with the children it starts
        assert process.stdout is not None
        process.stdout.readline()
        return process.pid


@pytest.fixture
def farm() -> Iterator[Farm]:
    with ExitStack() as stack:
        yield Farm(stack)


def test_a_process_that_works_is_busy_also_when_its_child_does(farm: Farm) -> None:
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {SPIN!r}])"
    spins, rests, lets_spin = farm.python(SPIN), farm.python(REST), farm.python(parent)
    cpu = CpuUse()
    pids = (spins, rests, lets_spin)
    assert cpu.busy(0.0, pids) == frozenset()
    assert cpu.busy(0.5, pids) == frozenset(), "a window is a second"
    until_cpu_s = processes.tree_cpu_s(processes.table(), lets_spin) + 0.2
    deadline = time.monotonic() + 20
    while processes.tree_cpu_s(processes.table(), lets_spin) < until_cpu_s:
        assert time.monotonic() < deadline
    assert cpu.busy(1.0, pids) == {spins, lets_spin}


def test_a_name_with_parentheses_is_no_trap(farm: Farm) -> None:
    script = "import ctypes\nctypes.CDLL(None).prctl(15, b'a) R 1 (b', 0, 0, 0)\n" + REST
    found = processes.stat(farm.python(script))
    assert found is not None
    assert found.state in "RS"
    assert found.parent == os.getpid()


def test_a_look_reads_the_stack_of_one_that_has_a_handler(farm: Farm, tmp_path: Path) -> None:
    stack = tmp_path / "stack.txt"
    stack.write_text("older\n")
    pid = farm.python(
        "import faulthandler\n"
        f"faulthandler.register({int(STACK_SIGNAL)}, file=open({str(stack)!r}, 'a'), all_threads=False)\n"
        "def inner():\n    print('on', flush=True)\n    while True: pass\n"
        "def outer():\n    inner()\nouter()\n"
    )
    seen = processes.look(1.0, node=0, world=1, rank=2, pid=pid)
    assert (seen.state, seen.rank) == ("R", 2)
    frames = asyncio.run(processes.stack(pid, stack))
    assert [frame.rpartition(" in ")[2] for frame in frames] == ["<module>", "outer", "inner"]


def test_a_look_never_harms_one_that_has_none(farm: Farm, tmp_path: Path) -> None:
    pid = farm.python(REST)
    assert asyncio.run(processes.stack(pid, tmp_path / "stack.txt")) == ()
    after = processes.stat(pid)
    assert after is not None
    assert after.state in "RS"


def test_a_look_at_one_that_is_stopped_or_gone(farm: Farm, tmp_path: Path) -> None:
    pid = farm.python(REST)
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 5
    while (found := processes.stat(pid)) is not None and found.state != "T":
        assert time.monotonic() < deadline
    assert processes.look(1.0, node=0, world=1, rank=0, pid=pid).state == "T"
    assert asyncio.run(processes.stack(pid, tmp_path / "stack.txt")) == ()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert processes.look(1.0, node=0, world=1, rank=0, pid=gone.pid).state == "Z"


def test_the_thread_that_answered_is_the_one_shown() -> None:
    text = (
        "Thread 0x00007f01 (most recent call first):\n"
        '  File "threading.py", line 1 in wait\n\n'
        "Current thread 0x00007f02 (most recent call first):\n"
        '  File "train.py", line 9 in step\n'
        '  File "train.py", line 20 in main\n'
    )
    assert parse_stack(text) == ('File "train.py", line 20 in main', 'File "train.py", line 9 in step')
    assert parse_stack(text.replace("Current thread", "Thread"))[-1] == 'File "train.py", line 9 in step'
    assert parse_stack("") == ()


def test_py_spy_shows_the_main_thread() -> None:
    text = (
        "Process 7: python train.py\nPython v3.11.7 (/usr/bin/python3.11)\n\n"
        'Thread 7 (active): "MainThread"\n    step (train.py:9)\n    main (train.py:20)\n'
        'Thread 8 (idle): "loader"\n    wait (threading.py:1)\n'
    )
    assert parse_py_spy(text) == ("main (train.py:20)", "step (train.py:9)")

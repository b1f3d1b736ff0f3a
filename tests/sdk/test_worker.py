"""The wrapper around every rank, on real processes without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lastgood.stacks import SIGNAL as STACK_SIGNAL
from monitors.sense import processes

DEADLINE_S = 20.0

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts workers; none outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def go(*argv: str, script: str | None = None, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        if script is not None:
            (tmp_path / "script.py").write_text(script)
        env = {**os.environ, "LASTGOOD_RANK_DIR": str(tmp_path), "LASTGOOD_AGENT_PID": str(os.getpid())}
        words = [sys.executable, "-P", "-m", "lastgood.worker", *options, "--", *argv]
        pipe = subprocess.PIPE
        process = subprocess.Popen(words, cwd=tmp_path, env=env, text=True, stdin=pipe, stdout=pipe, stderr=pipe)
        started.append(process)
        return process

    yield go
    for process in started:
        process.kill()
        process.communicate()


def until(holds: Callable[[], object]) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.01)


WHERE = "import sys; print([sys.argv, sys.path[0], __file__, __name__, __spec__ and __spec__.name, __package__])"


@pytest.mark.parametrize(
    "argv", [["folder/it.py", "--lr", "3"], ["link.py"], ["-m", "folder.it", "--lr", "3"], ["-m", "folder"]]
)
def test_a_command_finds_what_python_would_show_it(start: Start, tmp_path: Path, argv: list[str]) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("it.py", "__main__.py"):
        (tmp_path / "folder" / name).write_text(WHERE)
    (tmp_path / "folder/__init__.py").touch()
    (tmp_path / "link.py").symlink_to("folder/it.py")
    plain = subprocess.run([sys.executable, *argv], cwd=tmp_path, capture_output=True, text=True, check=True)
    out, err = start(*argv).communicate(timeout=DEADLINE_S)
    assert (out, err) == (plain.stdout, plain.stderr)


def test_classes_of_the_script_travel_to_spawned_processes(start: Start) -> None:
    """A spawned child imports `__main__` anew to unpickle what is defined there: data loaders do that."""
    script = """
import multiprocessing
def double(x): return 2 * x
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(double, [21]))
"""
    out, err = start("script.py", script=script).communicate(timeout=DEADLINE_S)
    assert (out, err) == ("[42]\n", "")


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        ("pass", 0, ""),
        ("raise SystemExit", 0, ""),
        ("raise SystemExit(7)", 7, ""),
        ("raise SystemExit('no data')", 1, "no data\n"),
    ],
)
def test_an_orderly_end_keeps_its_status_and_its_last_words(start: Start, ending: str, status: int, said: str) -> None:
    script = f"""
import atexit, threading, time
atexit.register(print, "left")
threading.Thread(target=lambda: (time.sleep(0.1), print("thread done"))).start()
print("end", end="\\n")
{ending}
"""
    process = start("script.py", script=script)
    assert process.communicate(timeout=DEADLINE_S) == ("end\nthread done\nleft\n", said)
    assert process.returncode == status


def test_an_exception_is_written_down_and_ends_the_process_at_once(start: Start, tmp_path: Path) -> None:
    script = """
import atexit, threading, time
atexit.register(print, "left")
threading.Thread(target=lambda: time.sleep(3600)).start()
def work():
    print("working")
    raise ValueError("bad batch 17")
work()
"""
    process = start("script.py", script=script)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out) == (1, "working\n")
    told = json.loads((tmp_path / "error.json").read_text())
    assert (told["kind"], told["message"]) == ("ValueError", "bad batch 17")
    assert told["traceback"] == err
    assert "worker.py" not in err
    assert err.startswith("Traceback (most recent call last):\n")


def test_the_users_own_hook_is_called_and_cannot_hold_the_process(start: Start, tmp_path: Path) -> None:
    script = """
import sys
def hook(kind, error, trace):
    print("my hook saw", error)
    raise RuntimeError("and broke")
sys.excepthook = hook
1 / 0
"""
    process = start("script.py", script=script)
    out, _ = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out) == (1, "my hook saw division by zero\n")
    assert json.loads((tmp_path / "error.json").read_text())["kind"] == "ZeroDivisionError"


def test_code_that_is_no_python_fails_like_any_other(start: Start, tmp_path: Path) -> None:
    process = start("script.py", script="def f(:\n")
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "SyntaxError" in err
    assert json.loads((tmp_path / "error.json").read_text())["kind"] == "SyntaxError"


@pytest.mark.parametrize(
    ("argv", "status", "said"),
    [
        (["nowhere.py"], 2, "cannot open nowhere.py: No such file or directory"),
        (["-m", "no_such_module_at_all"], 1, "there is no module no_such_module_at_all"),
        (["-m"], 1, "-m needs the name of a module"),
        ([], 1, "no command was given"),
    ],
)
def test_a_command_that_cannot_start_says_why(start: Start, argv: list[str], status: int, said: str) -> None:
    process = start(*argv)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == status
    assert said in err


def test_output_is_seen_line_by_line(start: Start) -> None:
    process = start("script.py", script="import time\nprint('step 1')\ntime.sleep(3600)")
    assert process.stdout is not None
    assert process.stdout.readline() == "step 1\n"


def test_sigterm_ends_python_in_order(start: Start) -> None:
    script = "import atexit, time\natexit.register(print, 'left')\nprint('up')\ntime.sleep(3600)"
    process = start("script.py", script=script)
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    out, _ = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out) == (143, "left\n")


@pytest.mark.parametrize(
    "busy", ["while True: pass", "import time; time.sleep(3600)", "import os; os.read(os.pipe()[0], 1)"]
)
def test_stacks_are_written_on_order_and_the_rank_goes_on(start: Start, tmp_path: Path, busy: str) -> None:
    process = start("script.py", script=f"def stuck():\n    {busy}\nstuck()\n")
    stacks = tmp_path / "stack.txt"
    until(stacks.exists)
    until(lambda: _stack(process, stacks))
    assert "script.py" in stacks.read_text()
    assert process.poll() is None


def _stack(process: subprocess.Popen[str], stacks: Path) -> bool:
    # Asked again each time: the first order may come before the script does.
    process.send_signal(STACK_SIGNAL)
    return "stuck" in stacks.read_text()


def test_the_agent_asks_with_the_signal_that_the_rank_answers() -> None:
    assert STACK_SIGNAL == processes.STACK_SIGNAL


def test_a_failure_that_cannot_be_written_down_is_still_a_failure(start: Start, tmp_path: Path) -> None:
    (tmp_path / "error.writing").symlink_to("/dev/full")
    process = start("script.py", script="1 / 0")
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "ZeroDivisionError" in err
    assert not (tmp_path / "error.json").exists()


def test_a_rank_dies_with_its_agent(tmp_path: Path) -> None:
    """An agent that is killed cannot clean up: the kernel does."""
    agent = """
import os, subprocess, sys, time
os.environ["LASTGOOD_AGENT_PID"] = str(os.getpid())
rank = subprocess.Popen([sys.executable, "-P", "-m", "lastgood.worker", "--", "sleeper.py"])
print(rank.pid, flush=True)
time.sleep(3600)
"""
    (tmp_path / "sleeper.py").write_text("import time\nprint('up', flush=True)\ntime.sleep(3600)\n")
    with subprocess.Popen([sys.executable, "-c", agent], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = {process.stdout.readline().strip() for _ in range(2)}
        rank = int((said - {"up"}).pop())
        assert _alive(rank)
        process.kill()
    until(lambda: not _alive(rank))


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_rank_whose_agent_is_gone_already_does_not_start(tmp_path: Path) -> None:
    env = {**os.environ, "LASTGOOD_AGENT_PID": "1"}
    words = [sys.executable, "-P", "-m", "lastgood.worker", "--", "script.py"]
    ended = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "the agent died before this rank started" in ended.stderr


def test_any_program_can_be_a_rank(start: Start) -> None:
    process = start("sh", "-c", "echo $0; exit 4", "a word", options=("--program",))
    assert process.communicate(timeout=DEADLINE_S) == ("a word\n", "")
    assert process.returncode == 4


def test_a_program_that_is_not_there_is_named(start: Start) -> None:
    process = start("no-such-program", options=("--program",))
    _, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, err) == (
        127,
        "lastgood.worker: cannot start no-such-program: No such file or directory\n",
    )


def test_a_program_survives_the_order_to_show_its_stacks(start: Start) -> None:
    process = start("sh", "-c", "echo up; read line; echo $line", options=("--program",))
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(STACK_SIGNAL)
    assert process.communicate("still here\n", timeout=DEADLINE_S) == ("still here\n", "")

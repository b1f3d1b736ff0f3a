"""Does the demo end well, with every fault told, and with nothing left that runs?"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from lab import commands

from orchestrator import client
from orchestrator.cli import lastgood
from orchestrator.home import Home
from tests.story.test_contract import Reader

pytestmark = pytest.mark.e2e


@pytest.mark.soak
def test_every_fault_is_told_and_nothing_runs_on(tmp_path: Path) -> None:
    done = CliRunner().invoke(lastgood, ["demo", "--json", "--folder", str(tmp_path / "demo")])
    assert done.exit_code == 0, done.stderr
    Reader().read("Demo", json.loads(done.stdout))
    deadline = time.monotonic() + 10.0
    while client.running(Home(tmp_path / "demo" / "home")) is not None:
        assert time.monotonic() < deadline, "its supervisor runs on"


def left(folder: Path) -> list[list[bytes]]:
    """Processes that name a folder."""
    return [words for _, words in commands() if any(str(folder).encode() in word for word in words)]


@pytest.mark.long
def test_ctrl_c_ends_all_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    words = [sys.executable, "-P", "-m", "orchestrator.demo", "--folder", str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as demo:
        assert demo.stdout is not None
        assert any("trains from the start" in line for line in demo.stdout)
        assert len(left(folder)) > 3
        demo.send_signal(signal.SIGINT)
        said = demo.stdout.read()
    assert (demo.returncode, "nothing of the demo runs on" in said) == (130, True)
    deadline = time.monotonic() + 10.0
    while running := left(folder):
        assert time.monotonic() < deadline, running
        time.sleep(0.1)

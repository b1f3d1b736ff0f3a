"""Does the demo end well, with every fault told, and with nothing left that runs?"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator import client
from orchestrator.cli import lastgood
from orchestrator.home import Home
from tests.story.test_contract import Reader

pytestmark = [pytest.mark.soak, pytest.mark.e2e]


def test_every_fault_is_told_and_nothing_runs_on(tmp_path: Path) -> None:
    done = CliRunner().invoke(lastgood, ["demo", "--json", "--folder", str(tmp_path / "demo")])
    assert done.exit_code == 0, done.stderr
    Reader().read("Demo", json.loads(done.stdout))
    deadline = time.monotonic() + 10.0
    while client.running(Home(tmp_path / "demo" / "home")) is not None:
        assert time.monotonic() < deadline, "its supervisor runs on"

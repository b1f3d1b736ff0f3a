"""Does the demo end well, with every fault told, and with nothing left that runs?"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestrator import client, demo
from orchestrator.home import Home

pytestmark = [pytest.mark.soak, pytest.mark.e2e]


def test_every_fault_is_told_and_nothing_runs_on(tmp_path: Path) -> None:
    assert demo.main(["--folder", str(tmp_path / "demo")]) == 0
    deadline = time.monotonic() + 10.0
    while client.running(Home(tmp_path / "demo" / "home")) is not None:
        assert time.monotonic() < deadline, "its supervisor runs on"

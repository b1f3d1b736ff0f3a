"""Does a page come through? A real hook."""

from __future__ import annotations

import json
import time
from pathlib import Path

from orchestrator.alerts.hook import HookNotifier
from orchestrator.core.actions import Alert
from orchestrator.core.policy import Severity
from orchestrator.home import Home

PAGE = Alert(severity=Severity.CRITICAL, title="one is held", text="look", page=True)


def test_a_hook_that_fails_at_first_is_tried_again_until_it_works(tmp_path: Path) -> None:
    tries, told = tmp_path / "tries", tmp_path / "told"
    hook = tmp_path / "on-alert"
    hook.write_text(
        f"#!/bin/sh\necho >> {tries}\n[ $(wc -l < {tries}) -ge 3 ] && cat > {told}.new && mv {told}.new {told}\n"
    )
    hook.chmod(0o700)
    HookNotifier(Home(tmp_path), again_s=(0.01, 0.01, 60.0)).alert("one", PAGE)
    until = time.monotonic() + 10
    while not told.exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    body = json.loads(told.read_text())
    assert (body["run"], body["title"], body["page"]) == ("one", "one is held", True)
    assert len(tries.read_text().splitlines()) == 3

"""Is any incident lost when whoever decides, or whoever tells, is killed at any moment? With real processes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.alerts.outbox import Outbox, OutboxUnavailable
from orchestrator.core import events as e
from orchestrator.journal import Journal
from tests.alerts import services as s
from tests.alerts.driven import RUN
from tests.shape import ROOT

WITHIN_S = 120.0


def configure(home: Path, *services: tuple[str, str], **more: str) -> None:
    """Everything is told to each of these webhooks, at once."""
    channels = "".join(f"  {name}:\n    webhook: {{url: {url}}}\n" for name, url in services)
    routes = "".join(f"  - {{to: {name}, severity: info}}\n" for name, _ in services)
    rest = "".join(f"{key}: {value}\n" for key, value in more.items())
    path = home / "alerts.yaml"
    path.write_text(f"channels:\n{channels}routes:\n{routes}group: {{wait: 0s}}\n{rest}")
    path.chmod(0o600)


class Process:
    """Something that is started anew whenever it is killed."""

    def __init__(self, home: Path, *words: str) -> None:
        self._words = [sys.executable, "-P", "-m", *words]
        self._home = home
        self.child = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with (self._home / "said.log").open("ab") as out:
            return subprocess.Popen(
                self._words,
                cwd=ROOT,
                stdout=out,
                stderr=out,
                env={**os.environ, "PYTHONPATH": str(ROOT), "no_proxy": "*"},
            )

    def kill(self) -> None:
        """SIGKILL, and a new one."""
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()
        self.child = self._start()

    def end(self) -> None:
        self.child.kill()
        self.child.wait()


def teller(home: Path) -> Process:
    return Process(home, "orchestrator.companion", "alerts", "orchestrator.alerts.companion", "--home", str(home))


def wait(until: Callable[[], bool], what: str, within_s: float = WITHIN_S) -> None:
    deadline = time.monotonic() + within_s
    while not until():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.05)


def is_begun(home: Path) -> bool:
    """Alerts know their place in the journal."""
    try:
        with Outbox(home / "alerts.db", read_only=True) as outbox:
            return outbox.desk() is not None
    except OutboxUnavailable:
        return False


def expected(home: Path) -> set[str]:
    """The key of every incident's thread, by the journal."""
    with Journal(home / "journal.db", read_only=True) as journal:
        opened = [o for entry in journal.entries(RUN) for o in entry.opened]
    return {f"lastgood/{RUN}/{o.id}/{o.incident.kind}" for o in opened}


def ended(home: Path) -> bool:
    with Journal(home / "journal.db", read_only=True) as journal:
        return journal.newest(RUN, e.StopRequested) is not None and journal.phase(RUN) == "stopped"


@pytest.mark.parametrize("kills", [6, pytest.param(100, marks=pytest.mark.soak)], ids=lambda kills: f"{kills} kills")
def test_no_incident_is_lost_and_none_told_under_two_keys(tmp_path: Path, kills: int) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    dice = random.Random(kills)
    with s.served(s.Hook()) as hook:
        assert isinstance(hook, s.Hook)
        configure(home, ("own", hook.url))
        tells = teller(home)
        wait(lambda: is_begun(home), "alerts know their place: what was before is nobody's alert")
        decides = Process(home, "tests.alerts.driven", str(home), str(2 * kills))
        try:
            for number in range(kills):
                time.sleep(dice.uniform(0.05, 1.5))
                (tells if number % 2 else decides).kill()
            wait(lambda: ended(home), "the run ends")
            keys = expected(home)
            assert len(keys) >= 2 * kills
            wait(lambda: keys <= {m["thread"] for m in hook.told if m["act"] in ("resolved", "note")}, "all are told")
        finally:
            decides.end()
            tells.end()
    threads: dict[str, dict[int, str]] = {}
    for message in hook.told:
        known = threads.setdefault(message["thread"], {})
        assert known.setdefault(message["number"], message["act"]) == message["act"], "one key for two messages"
    assert keys == {thread for thread in threads if "/i" in thread}, "told of what never was"
    for thread, acts in threads.items():
        assert list(acts) == sorted(acts), f"{thread} out of order"
        assert next(iter(acts.values())) in ("opened", "note"), thread
        assert list(acts.values())[-1] in ("resolved", "note"), thread
    again = len(hook.told) - sum(map(len, threads.values()))
    print(f"{kills} kills, {len(keys)} incidents, {len(hook.told)} messages, {again} of them again with the same key")

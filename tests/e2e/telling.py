"""Is each drill told as what it is, and is nothing else? A desk reads along, and a service on this host is told.

It is the desk that lives in a process beside the supervisor (`test_alerts.py`); here in a thread of the test, so that a
drill costs no process more. It tells at once, and again only what got worse.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from drills import DRILLS, THREADS
from lab import Lab

from monitors.clock import SystemClock
from orchestrator import contract
from orchestrator.alerts.companion import Alerting
from orchestrator.alerts.outbox import Outbox
from orchestrator.home import Home
from tests.alerts import services as s
from tests.alerts.told import threads

WITHIN_S = 30.0
CHANNELS = """
channels:
  pager: {{pagerduty: {{routing_key: {key}, url: '{pager}/v2/enqueue'}}}}
  all: {{webhook: {{url: '{hook}'}}}}
routes: [{{to: pager, severity: critical}}, {{to: all, severity: info}}]
group: {{wait: 0s, interval: 1d}}
late: {{error: 1d, page: 2d, supervisor: 1d}}
"""


@dataclass(frozen=True, slots=True)
class Beside(Home):
    """A folder for what is told of the runs of another one, whose supervisor knows nothing of it."""

    of: Path

    @property
    def journal(self) -> Path:
        """That of the other one."""
        return self.of / "journal.db"


def drills_of(test: pytest.Item) -> list[str]:
    """The drills that a test plays."""
    assert isinstance(test, pytest.Function)
    name = f"{test.path.relative_to(test.config.rootpath).as_posix()}::{test.originalname}"
    drills = [drill for drill, where in DRILLS.items() if where == name]
    chosen = test.callspec.params.get("drill") if hasattr(test, "callspec") else None
    return [chosen] if chosen in drills else drills


@contextmanager
def telling(lab: Lab, drills: Sequence[str]) -> Iterator[None]:
    """Whatever the runs in here go through, who is told everything has exactly the threads of these drills."""
    with s.served(s.PagerDuty()) as pager, s.served(s.Hook()) as hook:
        assert isinstance(pager, s.PagerDuty)
        assert isinstance(hook, s.Hook)
        home = Beside(lab.folder / "told", lab.home)
        home.create()
        path = home.root / "alerts.yaml"
        path.write_text(CHANNELS.format(key=pager.key, pager=pager.url, hook=hook.url))
        path.chmod(0o600)
        with _reading_along(home):
            yield
            if (lab.home / "journal.db").exists() and contract.runs(lab.home)["runs"]:
                _check(lab, home, drills, pager, hook)


@contextmanager
def _reading_along(home: Home) -> Iterator[None]:
    async def alerts() -> None:
        await Alerting(home, SystemClock()).work()  # its outbox belongs to the thread that made it

    loop = asyncio.new_event_loop()
    task = loop.create_task(alerts())

    def work() -> None:
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        if thread.is_alive():
            loop.call_soon_threadsafe(task.cancel)
        thread.join()
    if not task.cancelled():
        task.result()


def _check(lab: Lab, home: Home, drills: Sequence[str], pager: s.PagerDuty, hook: s.Hook) -> None:
    runs = contract.runs(lab.home)["runs"]
    lines = [line for drill in drills for line in THREADS[drill]]
    lines += ["run_started info over" for _ in runs]
    lines += ["run_succeeded info over" for run in runs if run["state"] == "SUCCEEDED"]
    wanted = "".join(
        line if line[0] == "(" else f"{line}\n" for line in sorted(lines, key=lambda each: each.lstrip("("))
    )
    deadline = time.monotonic() + WITHIN_S
    while not (done := re.fullmatch(wanted, _said(hook, drills)) and not _waits(home)):
        if time.monotonic() >= deadline:
            break
        time.sleep(0.05)
    assert done, f"wanted:\n{wanted}\ntold:\n{_said(hook, drills)}\n{lab.told(runs[0]['run'])}"
    pages = {key for key, line in threads(hook.told).items() if " critical " in line}
    assert set(pager.incidents) == pages, "it pages for what is critical, and for nothing else"
    assert len(pager.tries) == sum(map(len, pager.incidents.values())), "and each thing once"


def _said(hook: s.Hook, drills: Sequence[str]) -> str:
    """A line for each thread; a straggler is what another test's load makes, unless it is what was asked for."""
    lines = sorted(threads(hook.told).values())
    return "".join(f"{line}\n" for line in lines if "slow" in drills or not line.startswith("straggler "))


def _waits(home: Home) -> int:
    with Outbox(home.root / "alerts.db", read_only=True) as outbox:
        return outbox.waiting("pager") + outbox.waiting("all")

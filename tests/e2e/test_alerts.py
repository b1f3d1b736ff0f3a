"""Is a person told of what really happens? A real run, the processes beside it, and services that remember."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from lab import Lab, gpt

from orchestrator import client, contract
from orchestrator.home import Home
from tests.alerts import services as s

pytestmark = pytest.mark.e2e
WITHIN_S = 120.0


@pytest.fixture
def told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[s.PagerDuty, s.Hook]]:
    """A pager that is told what is critical, and a program that is told everything."""
    monkeypatch.setenv("no_proxy", "*")
    with s.served(s.PagerDuty()) as pager, s.served(s.Hook()) as hook:
        assert isinstance(pager, s.PagerDuty)
        assert isinstance(hook, s.Hook)
        Home(lab.home).create()
        path = lab.home / "alerts.yaml"
        path.write_text(
            f"channels:\n  pager:\n    pagerduty: {{routing_key: {pager.key}, url: '{pager.url}/v2/enqueue'}}\n"
            f"  all:\n    webhook: {{url: '{hook.url}'}}\n"
            "routes:\n  - {to: pager, severity: critical}\n  - {to: all, severity: info}\ngroup: {wait: 2s}\n"
        )
        path.chmod(0o600)
        yield pager, hook
        path.unlink()  # the supervisor ends whom it does not want any more
        wait(lambda: not tellers(lab.home), "the process beside the supervisor ends")


def tellers(home: Path) -> list[psutil.Process]:
    """The processes that tell people, of this state folder."""
    mine = ("orchestrator.companion", str(home))
    return [p for p in psutil.process_iter(["cmdline"]) if all(word in (p.info["cmdline"] or ()) for word in mine)]


def kinds(hook: s.Hook) -> list[tuple[str, str]]:
    return [(message["kind"], message["act"]) for message in hook.told]


def wait(until: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not until():
        assert time.monotonic() < deadline, f"not within {WITHIN_S} s: {what}"
        time.sleep(0.1)


def test_a_fault_that_recovers_wakes_nobody(lab: Lab, told: tuple[s.PagerDuty, s.Hook]) -> None:
    pager, hook = told
    run = lab.submit(gpt(lab.folder))
    lab.reach(run, 10)
    lab.drill(run, "kill", 1)
    lab.finish(run)
    wait(lambda: ("run_succeeded", "note") in kinds(hook), f"told {kinds(hook)}")
    assert pager.tries == []
    found = lab.incidents(run)
    threads = {message["thread"] for message in hook.told if message["incident"]}
    assert threads == {f"lastgood/{run}/{one['id']}/{one['kind']}" for one in found}
    killed = next(message for message in hook.told if message["kind"] == "worker_killed")
    assert "kill was asked for" in killed["facts"]["drill"]


def test_a_run_that_is_held_pages_once_and_is_resolved_when_it_goes_on(
    lab: Lab, told: tuple[s.PagerDuty, s.Hook]
) -> None:
    pager, hook = told
    script = lab.folder / "fails.py"
    script.write_text("raise ValueError('<b>broken</b>')\n")
    run = lab.submit([str(script)])
    wait(lambda: contract.status(lab.home, run)["state"] == "HELD", "it is held")
    wait(lambda: pager.incidents, "the pager goes off")
    (key,) = pager.incidents
    page = pager.asked[0].json
    assert page["payload"]["severity"] == "critical"
    assert f"lastgood/{run}/" in key
    assert "<b>broken</b>" in str(page["payload"]["custom_details"])
    assert f"lastgood resume {run}" in page["payload"]["custom_details"]["do"]
    script.write_text("print('well')\n")
    client.ask(lab.home, {"ask": "resume", "run": run}, start=True)
    wait(lambda: pager.incidents[key] == ["trigger", "resolve"], f"resolved: {pager.incidents}")
    wait(lambda: ("run_succeeded", "note") in kinds(hook), f"told {kinds(hook)}")
    assert list(pager.incidents) == [key]

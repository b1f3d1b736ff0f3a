"""Do our rules and our dashboard find data in a real Prometheus that scrapes a real run, and does a held run alert?"""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from lab import Lab, gpt

from monitors.fakenvml.build import compiler
from monitors.fakenvml.control import ALL, FakeNvml
from orchestrator.cli import lastgood

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "lastgood.rules.yml"
WITHIN_S = 120.0
HARMLESS_XID = 63
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Prometheus: apt-get install prometheus"),
]
BROKEN = 'echo "step 1 loss 2.5"; sleep 1; echo "Traceback: no such thing" >&2; exit 3'


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Two GPUs that are made up, for whatever is started from here."""
    fake = FakeNvml(tmp_path / "gpus", gpus=2)
    fake.set(ALL, "power_mw", 400e3)
    for name, value in fake.environment.items():
        monkeypatch.setenv(name, value)
    return fake


class Prometheus:
    """A real one, which scrapes one address each second, by our own configuration."""

    def __init__(self, folder: Path, target: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        config = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
        config = config.replace("15s", "1s").replace("127.0.0.1:9790", target)
        folder.mkdir()
        (folder / "prometheus.yml").write_text(config)
        shutil.copy(RULES, folder)
        self.log = (folder / "log").open("w+")
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
            ],
            stdout=self.log,
            stderr=self.log,
        )

    def ask(self, what: str, **query: str) -> Any:
        """An answer of its API. Raises AssertionError when it refuses."""
        url = f"http://127.0.0.1:{self._port}/api/v1/{what}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            body = json.load(answer)
        assert body["status"] == "success", body
        return body["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an expression now."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def wait(self, until: Callable[[], Any], what: str) -> Any:
        """Poll until there is something."""
        deadline = time.monotonic() + WITHIN_S
        while True:
            try:
                found = until()
            except OSError:
                found = None
            if found:
                return found
            assert time.monotonic() < deadline, f"{what} is not there\n{self._said()}"
            assert self.process.poll() is None, self._said()
            time.sleep(0.2)

    def _said(self) -> str:
        self.log.seek(0)
        return self.log.read()[-2000:]

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.log.close()


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[[str], Prometheus]]:
    began: list[Prometheus] = []

    def begin(target: str) -> Prometheus:
        began.append(Prometheus(tmp_path / "prometheus", target))
        return began[-1]

    yield begin
    for one in began:
        one.close()


def panels() -> dict[str, str]:
    """Every expression of the dashboard, with its variables at All, by panel and letter."""
    board = json.loads((DEPLOY / "grafana" / "lastgood.json").read_text())
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in board["panels"]
        for target in panel.get("targets", ())
    }
    found |= {f"annotation {one['name']}": one["expr"] for one in board["annotations"]["list"]}
    assert len(found) > 30
    return {name: _filled(text) for name, text in found.items()}


def _filled(expression: str) -> str:
    text = re.sub(r"\$(run|Hostname|gpu)\b", ".*", expression).replace("$__rate_interval", "30s")
    assert "$" not in text, text
    return text


def variables() -> list[str]:
    """What the dashboard's variables list the values of, as series and label."""
    board = json.loads((DEPLOY / "grafana" / "lastgood.json").read_text())
    asked = [one["query"]["query"] for one in board["templating"]["list"] if one["type"] == "query"]
    return [_filled(re.fullmatch(r"label_values\((.*), (\w+)\)", text).expand(r"count by (\2) (\1)")) for text in asked]  # type: ignore[union-attr]


def alerts() -> dict[str, dict[str, Any]]:
    """The rules, by name."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


NEEDS_A_FAULT = {"annotation Incidents"}
"""what may be empty: an incident must be younger than the window at the moment of the question"""


@pytest.mark.long
@pytest.mark.skipif(compiler() is None, reason="needs a C compiler: install gcc")
def test_every_panel_and_every_rule_finds_data_and_a_held_run_alerts(
    lab: Lab, gpus: FakeNvml, prometheus: Callable[[str], Prometheus], monkeypatch: pytest.MonkeyPatch
) -> None:
    senses = {"kernel": str(lab.folder / "no such file"), "host": "off"}
    run = lab.submit(gpt(lab.folder, steps=100_000), senses=senses, budget={"gpu_hours": 1000})
    broken = lab.submit(
        ["bash", "-c", BROKEN], python=False, name="broken", progress={"pattern": r"step (?P<step>\d+)"}
    )
    monkeypatch.setenv("LASTGOOD_HOME", str(lab.home))
    served = CliRunner().invoke(lastgood, ["metrics", "--port", "0"])
    assert served.exit_code == 0, served.output
    address = urllib.parse.urlparse(served.stdout.strip())
    server = prometheus(address.netloc)

    lab.reach(run, 40)
    lab.drill(run, "kill", rank=1)
    gpus.xid(0, HARMLESS_XID)
    lab.wait(run, lambda status: status["restarts"] == 1 and status["state"] == "RUNNING")

    for name, expression in panels().items():
        if name not in NEEDS_A_FAULT:
            server.wait(lambda text=expression: server.query(text), f"{name}: {expression}")
    assert isinstance(server.query(panels()["annotation Incidents"]), list)
    for expression in variables():
        assert server.query(expression), expression

    def fires(name: str) -> dict[str, Any] | None:
        firing = [alert for alert in server.ask("alerts")["alerts"] if alert["state"] == "firing"]
        return next((alert for alert in firing if alert["labels"]["alertname"] == name), None)

    page = server.wait(lambda: fires("LastgoodRunHeld"), "the alert of the held run")
    assert page["labels"]["run"] == broken
    assert page["labels"]["severity"] == "critical"
    assert page["annotations"]["runbook_url"].endswith(f"/runs/{broken}")

    for name, rule in alerts().items():
        server.query(rule["expr"])
        for metric in set(re.findall(r"\blastgood_\w+", rule["expr"])):
            assert server.query(metric), f"{name} asks for {metric}, which nobody tells"
    loaded = [rule for group in server.ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in loaded} == set(alerts())
    assert all(rule["health"] == "ok" for rule in loaded), loaded
    assert not server.query("up == 0")


@pytest.mark.parametrize(
    "words",
    [
        ("check", "rules", "deploy/prometheus/lastgood.rules.yml"),
        ("check", "config", "deploy/prometheus/prometheus.yml"),
        ("test", "rules", "tests/metrics/rules.test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_agrees(words: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_nothing_to_say_about_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTGOOD_HOME", str(tmp_path / "home"))
    page = CliRunner().invoke(lastgood, ["metrics", "--once"])
    assert page.exit_code == 0, page.output
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=page.stdout, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_what_a_person_needs() -> None:
    for name, rule in alerts().items():
        assert re.fullmatch(r"Lastgood(?:[A-Z][a-z]+)+", name)
        assert rule["labels"]["severity"] in ("critical", "error", "warning", "info")
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}, name
    tested = (ROOT / "tests" / "metrics" / "rules.test.yml").read_text()
    assert [name for name in alerts() if name not in tested] == [], "no test of the rule"

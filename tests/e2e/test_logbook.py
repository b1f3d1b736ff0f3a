"""With LASTGOOD_LOG=json, is every line that supervisor, agents, keepers and companions write a record?"""

from __future__ import annotations

import json
import urllib.parse

import pytest
from click.testing import CliRunner
from lab import Lab, gpt

from monitors.logbook import VARIABLE
from orchestrator.cli import lastgood

pytestmark = pytest.mark.e2e


@pytest.mark.long
def test_all_of_ours_log_in_json(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "json")
    monkeypatch.setenv("LASTGOOD_HOME", str(lab.home))
    run = lab.submit(gpt(lab.folder, steps=40), senses={"nvml": "off", "kernel": "off", "host": "off"})
    served = CliRunner().invoke(lastgood, ["metrics", "--port", "0"])
    assert urllib.parse.urlparse(served.stdout.strip()).port, served.output
    lab.reach(run, 10)
    lab.drill(run, "kill", rank=1)
    lab.finish(run)
    files = [lab.home / "supervisor.log", lab.home / "metrics.log"]
    files += sorted((lab.home / "runs" / run).glob("attempts/001/node0/agent.log"))
    files += sorted((lab.home / "runs" / run).glob("attempts/001/node0/keeper.log"))
    assert len(files) == 4
    said = {file.name: [json.loads(line) for line in file.read_text().splitlines()] for file in files}
    names = {name: {one["resource"]["service.name"] for one in lines} for name, lines in said.items()}
    assert names == {f"{name}.log": {f"lastgood-{name}"} for name in ("supervisor", "metrics", "agent", "keeper")}
    decided = [one for one in said["supervisor.log"] if one["attributes"].get("run") == run]
    assert {one["attributes"]["world"] for one in decided if "world" in one["attributes"]} >= {1, 2}
    assert all(one["attributes"]["run"] == run for one in said["agent.log"])

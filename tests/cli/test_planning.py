"""Does a dry run say what a submission would do, and do nothing of it?"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from jobs.app import app
from jobs.load import load, resolve
from orchestrator import runbooks
from tests.cli.conftest import Say


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "train.py").touch()
    path = tmp_path / "run.yaml"
    path.write_text("name: mine\ncommand: train.py\nnodes: 2\nranks_per_node: 4\n")
    return path


def plan(say: Say, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(say("submit", "run.yaml", "--dry-run", "--json", *words).stdout)["plan"]
    return found


def test_the_plan_stands_before_the_spec_and_nothing_is_started(say: Say, spec: Path, home: Path) -> None:
    before = sorted(home.rglob("*"))
    for verb in ("submit", "run"):
        result = say(verb, str(spec), "--dry-run")
        assert result.exit_code == 0, result.output
        told, _, resolved = result.stdout.partition("\n\n")
        assert json.loads(resolved)["name"] == "mine"
        assert "2 x 4 (nodes x ranks of each): 8 in all, through TorchX's local_cwd" in told
        assert "interval: chosen while it runs" in told
        assert re.search(r"worker_killed: restart x3, relaunch x2, hold; at most 240 in 1 h$", told, re.MULTILINE)
        assert "nobody: no alerts are configured: `lastgood alerts init`" in told
        assert f"args: -P -m jobs.agent --home {home} --run 'mine-?????'" in told
    assert sorted(home.rglob("*")) == before
    assert not (home / "supervisor.json").exists()


def test_torchx_is_asked_what_the_launcher_would_ask(say: Say, spec: Path, home: Path) -> None:
    (role,) = app(resolve(load(spec), spec), run="mine-?????", attempt=1, home=home).roles
    (told,) = plan(say)["torchx"]["app"]["roles"]
    named = ("entrypoint", "args", "env", "num_replicas", "max_retries")
    assert {name: told[name] for name in named} == {name: getattr(role, name) for name in named}


def test_what_the_spec_fixes_stands_in_the_plan(say: Say, spec: Path, tmp_path: Path) -> None:
    page = (runbooks.BUILT_IN / "hang.md").read_text()
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "hang.md").write_text(re.sub(r"(?m)^ladder: .*", "ladder: [restart, hold]", page))
    words = (
        "--set",
        "checkpoint.every_steps=7",
        "--set",
        "checkpoint.folder=saves",
        "--set",
        "recovery.runbooks=books",
    )
    found = plan(say, *words)
    assert (found["saves"]["every_steps"], found["saves"]["folder"]) == (7, str(spec.parent / "saves"))
    assert next(one for one in found["restarts"] if one["kind"] == "hang")["ladder"] == ["restart", "hold"]


def test_channels_are_named_and_their_secrets_are_not(say: Say, spec: Path, home: Path) -> None:
    path = home / "alerts.yaml"
    path.write_text("channels:\n  all: {webhook: {url: 'https://example.org/secret'}}\n")
    os.chmod(path, 0o600)
    result = say("submit", str(spec), "--dry-run")
    assert "all (webhook): from error on" in result.stdout
    assert "nobody" not in result.stdout
    assert "secret" not in result.stdout

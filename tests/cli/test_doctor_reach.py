"""Does the doctor say who cannot be reached: schedulers, other GPUs, people?"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.doctor import nccl_finding
from orchestrator.cli.sensing import has_driver
from tests.alerts import services as s
from tests.cli.conftest import Say
from tests.cli.test_alerting import configure
from tests.cli.test_front import SCRIPT, run


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def findings(say: Say, *words: str) -> dict[str, dict[str, str]]:
    return {one["check"]: one for one in json.loads(say("doctor", "--json", *words).stdout)["findings"]}


def test_the_scheduler_is_asked_in_a_process_of_its_own_and_nothing_is_started(say: Say, home: Path) -> None:
    before = sorted((home / "runs").rglob("*"))
    found = findings(say)
    assert found["scheduler"]["verdict"] == "PASS"
    assert found["scheduler"]["found"].startswith("local_cwd: ")
    assert ("NCCL" in found) == has_driver()
    assert sorted((home / "runs").rglob("*")) == before
    assert not (home / "supervisor.json").exists()


def test_a_torchx_that_is_broken_fails_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "torchx").mkdir()
    (tmp_path / "torchx" / "__init__.py").write_text("raise RuntimeError('half an upgrade')\n")
    path = ":".join([str(tmp_path), *(folder for folder in sys.path if folder)])
    done = run(str(SCRIPT), "doctor", "--json", LASTGOOD_HOME=str(tmp_path / "home"), PYTHONPATH=path)
    (found,) = (one for one in json.loads(done.stdout)["findings"] if one["check"] == "scheduler")
    assert (found["verdict"], found["found"]) == ("FAIL", "local_cwd: RuntimeError: half an upgrade")


@pytest.mark.parametrize(
    ("found", "verdict", "word"),
    [
        ({"torch": "2.13.0", "cuda": "13.0", "nccl": "2.28.9"}, "PASS", "2.28.9, of torch for CUDA 13.0"),
        ({"torch": "2.13.0", "cuda": "13.0", "nccl": None}, "WARN", "built without NCCL"),
        ({"torch": "2.13.0+cpu", "cuda": None, "nccl": None}, "FAIL", "built without CUDA"),
    ],
)
def test_nccl_is_named_or_missed(found: dict[str, Any], verdict: str, word: str) -> None:
    said = nccl_finding(found)
    assert (said.verdict, bool(said.fix)) == (verdict, verdict != "PASS")
    assert word in said.found


def test_what_torch_is_built_with_is_printed_by_a_process_of_its_own() -> None:
    done = run(sys.executable, "-P", "-m", "jobs.preflight_nccl")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == {"torch", "cuda", "nccl"}


def test_a_message_goes_to_every_channel_only_when_asked(say: Say, home: Path) -> None:
    with s.served(s.Hook()) as one, s.served(s.Hook()) as two:
        configure(home, one.url, two.url)
        two.down = 403
        assert not [check for check in findings(say) if check.startswith("alerts")]
        assert isinstance(one, s.Hook)
        assert one.told == []
        found = findings(say, "--notify")
        assert [told["kind"] for told in one.told] == ["test"]
    assert (found["alerts hook0"]["verdict"], found["alerts hook0"]["found"]) == ("PASS", "webhook: delivered")
    assert found["alerts hook1"]["verdict"] == "FAIL"
    assert "it answered 403" in found["alerts hook1"]["found"]
    assert "lastgood alerts test hook1" in found["alerts hook1"]["fix"]


def test_without_channels_the_command_is_named_that_begins_them(say: Say, home: Path) -> None:
    found = findings(say, "--notify")["alerts"]
    assert found["verdict"] == "WARN"
    assert "lastgood alerts init" in found["fix"]
    (home / "alerts.yaml").write_text("chanels: {}\n")
    broken = findings(say, "--notify")["alerts"]
    assert (broken["verdict"], "chanels" in broken["found"]) == ("FAIL", True)

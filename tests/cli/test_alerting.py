"""What do `lastgood alerts` and `lastgood silence` say? As a person reads it, and as docs/contract.md promises."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from monitors.incidents import Kind
from orchestrator.alerts.outbox import FILE_NAME, Outbox
from orchestrator.alerts.rules import Route
from orchestrator.core import events as e
from orchestrator.core.policy import Severity
from tests.alerts import services as s
from tests.alerts.watched import Watched, rules
from tests.cli.conftest import Say
from tests.cli.test_answers import answered
from tests.story.scripted import RUN, Script
from tests.story.test_contract import OF_ALERTS, Reader


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def configure(home: Path, *urls: str) -> None:
    path = home / "alerts.yaml"
    path.write_text(
        "channels:\n" + "".join(f"  hook{n}: {{webhook: {{url: '{url}'}}}}\n" for n, url in enumerate(urls))
    )
    path.chmod(0o600)


def tell(home: Path) -> None:
    """A run is held, and its team was told."""
    script = Script().join().begin(0).train(50).fail(Kind.CRASH_LOOP)
    script.take(e.AttemptEnded(at=script.wait(1).now, attempt=1))
    desk = Watched(rules(routes=(Route(to="hook0", severity=Severity.ERROR),))).hear(RUN, script.entries)
    with Outbox(home / FILE_NAME) as outbox:
        outbox.keep(desk.state, 1, desk.told)


def test_every_answer_is_as_documented(say: Say, home: Path) -> None:
    reader = Reader()
    reader.read("AlertsBegun", answered(say, "alerts", "init"))
    with s.served(s.Hook()) as hook:
        configure(home, hook.url)
        reader.read("AlertsTried", answered(say, "alerts", "test"))
        assert isinstance(hook, s.Hook)
        assert hook.told[0]["kind"] == "test"
    tell(home)
    reader.read("Silenced", answered(say, "silence", "add", "2h", "--run", "gpt-*"))
    reader.read("Silences", answered(say, "silence", "ls"))
    answer = answered(say, "alerts", "ls")
    reader.read("Alerts", answer)
    assert reader.seen == OF_ALERTS
    assert [thread["silenced"] for thread in answer["threads"]] == [True]
    assert answer["channels"][0]["waiting"] == 1


def test_a_person_sees_where_alerts_stand(say: Say, home: Path) -> None:
    assert "lastgood alerts init" in say("alerts", "ls").stderr
    configure(home, "https://x.example/SECRET")
    tell(home)
    said = say("alerts", "ls").stdout
    assert "hook0" in said
    assert "CRITICAL" in said
    assert f"{RUN}: " in said
    assert "told hook0" in said
    assert "SECRET" not in said


def test_a_test_message_says_what_each_service_answered(say: Say, home: Path) -> None:
    with s.served(s.Hook()) as one, s.served(s.Hook()) as two:
        configure(home, one.url, two.url)
        two.down = 403
        result = say("alerts", "test")
        assert result.exit_code == 1
        assert result.stdout.splitlines()[0] == "hook0 (webhook): delivered"
        assert "hook1 (webhook): not delivered: it answered 403" in result.stdout
        assert say("alerts", "test", "hook0").exit_code == 0
        assert "no channel 'hok0'; did you mean hook0?" in say("alerts", "test", "hok0").stderr


def test_a_silence_begins_and_ends(say: Say, home: Path) -> None:
    assert say("silence", "add", "30m", "--kind", "gpu_*", "--why", "new driver").exit_code == 0
    listed = say("silence", "ls").stdout
    assert "kind gpu_*" in listed
    assert "new driver" in listed
    assert say("silence", "rm", "1").exit_code == 0
    assert "no silence is in force" in say("silence", "ls").stderr
    assert say("silence", "rm", "1").exit_code == 102
    assert "did you mean gpu_lost" in say("silence", "add", "1h", "--kind", "gpu_lst").stderr
    assert "is no duration" in say("silence", "add", "2").stderr
    with Outbox(home / FILE_NAME) as outbox:
        assert outbox.silences(time.time()) == ()


def test_a_file_is_begun_once_and_closed_to_others(say: Say, home: Path) -> None:
    path = Path(say("alerts", "init").stdout.strip())
    assert path == home / "alerts.yaml"
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert say("alerts", "init").exit_code == 2
    assert say("alerts", "init", "--force").exit_code == 0
    wrong = say("alerts", "test")
    assert wrong.exit_code == 2
    assert "alerts.yaml:7: channels.team.slack.webhook: the environment has no SLACK_WEBHOOK" in wrong.stderr

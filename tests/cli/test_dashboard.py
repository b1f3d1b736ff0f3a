"""Who is given a token, who is told it, and what is refused before anything is started?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.api.tokens import FILE_NAME
from tests.cli.conftest import Say
from tests.story.test_contract import OF_DASHBOARD, Reader


def test_a_token_is_made_listed_and_taken_away(say: Say, home: Path) -> None:
    reader = Reader()

    def answered(heading: str, *words: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(say("dashboard", *words, "--json").stdout)
        reader.read(heading, found)
        return found

    made = answered("DashboardToken", "token", "add", "ann", "--role", "operator")
    assert str(made["token"]).startswith("lg_")
    listed = answered("DashboardTokens", "token", "ls")
    assert str(made["token"]) not in json.dumps(listed)
    answered("DashboardTokenGone", "token", "rm", "ann")
    assert answered("DashboardTokens", "token", "ls")["tokens"] == []
    answered("DashboardEnded", "--stop")
    assert reader.seen == OF_DASHBOARD - {"Dashboard"}
    assert (home / FILE_NAME).exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "::"])
def test_what_can_be_reached_from_elsewhere_needs_a_token_first(say: Say, home: Path, host: str) -> None:
    refused = say("dashboard", "--host", host, "--no-open")
    assert refused.exit_code == 1
    assert "lastgood dashboard token add" in refused.stderr
    assert not (home / "dashboard.json").exists(), "nothing is wanted, and no supervisor was started"
    assert not (home / "supervisor.json").exists()


@pytest.mark.parametrize("words", [("token", "rm", "nobody"), ("token", "add", "../x"), ("--name", "a/b")])
def test_what_is_wrong_is_a_sentence(say: Say, words: tuple[str, ...]) -> None:
    refused = say("dashboard", *words)
    assert refused.exit_code == 1
    assert "Traceback" not in refused.output + refused.stderr
    assert refused.stderr.startswith("Error: ")

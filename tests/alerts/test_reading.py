"""Is what is wrong with alerts.yaml said as it is of a spec: file, line, key, what is allowed, what was meant?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jobs.errors import SpecError
from orchestrator.alerts import config, reading
from orchestrator.core.policy import Severity

HOOK = "channels:\n  own:\n    webhook: {url: 'https://x.example/secret'}\n"


def load(path: Path, text: str, mode: int = 0o600, **environ: str) -> reading.Loaded:
    path.write_text(text)
    path.chmod(mode)
    return reading.load(path, environ)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty; `lastgood alerts init` writes a file of alerts"),
        ("chanels: {}\n", 'alerts.yaml:1: chanels: unknown key; did you mean "channels"?'),
        ("routes: []\n", "channels: is missing; By name."),
        ("channels: {}\n", "channels: must not be empty"),
        (
            "channels:\n  a:\n    pagerdty: {}\n",
            'alerts.yaml:3: channels.a.pagerdty: unknown key; did you mean "pagerduty"?',
        ),
        ("channels:\n  a:\n    pagerduty: {}\n", "channels.a.pagerduty.routing_key: is missing; Integration key"),
        ("channels:\n  a: {}\n", "alerts.yaml:2: channels.a: Value error, needs exactly one of pagerduty, slack"),
        ("channels:\n  a:\n    slack: {token: x}\n", "channels.a.slack: Value error, needs channel"),
        (HOOK + "routes:\n  - {to: owm}\n", "alerts.yaml:5: routes[0].to: no channel 'owm'; did you mean \"own\"?"),
        (HOOK + "routes:\n  - {to: own, severity: eror}\n", "routes[0].severity: must be 'info', 'warning', 'error'"),
        (HOOK + "routes:\n  - {to: own, sevrity: error}\n", 'routes[0].sevrity: unknown key; did you mean "severity"?'),
        (HOOK + "repeat: 4\n", "alerts.yaml:4: repeat: '4' is no duration"),
        (HOOK + "zone: Europe/Zurch\n", "'Europe/Zurch' is no time zone; did you mean Europe/Zurich?"),
        (HOOK + 'quiet: {begin: "25:00", end: "07:00"}\n', "quiet.begin: '25:00' is no time of the day"),
        (HOOK + "dashboard: train.example.org\n", "dashboard: must be an address that begins with https://"),
        ("channels:\n  'a b': {apprise: 'json://x'}\n", "channels.a b: a name has 1 to 40 letters"),
        ("channels:\n  a:\n    webhook: {url: ftp://secret}\n", "channels.a.webhook.url: must begin with https://"),
        (
            "channels:\n  a:\n    webhook: {url: '${MISSING}'}\n",
            "alerts.yaml:3: channels.a.webhook.url: the environment has no MISSING",
        ),
        ("channels:\n  a: {apprise: file:/nowhere/at/all}\n", "channels.a.apprise: /nowhere/at/all: cannot be read"),
    ],
)
def test_what_is_wrong_is_said_where_it_is(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SpecError) as error:
        load(tmp_path / "alerts.yaml", text)
    assert said.replace("Value error, ", "") in str(error.value).replace("Value error, ", "")
    assert "secret" not in str(error.value)


def test_secrets_come_from_the_environment_or_a_file_that_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("from-file\n")
    path.chmod(0o600)
    text = (
        "channels:\n  a:\n    pagerduty: {routing_key: '${KEY}'}\n"
        f"  b:\n    slack: {{token: 'file:{path}', channel: C1}}\n  c: {{apprise: 'mailto://me:${{KEY}}@x.example'}}\n"
    )
    loaded = load(tmp_path / "alerts.yaml", text, 0o644, KEY="from-env")
    channels = loaded.config.channels
    assert channels["a"].pagerduty is not None
    assert channels["a"].pagerduty.routing_key.get_secret_value() == "from-env"
    assert channels["b"].slack is not None
    assert channels["b"].slack.token is not None
    assert channels["b"].slack.token.get_secret_value() == "from-file"
    assert set(loaded.secrets) == {"from-env", "from-file", "mailto://me:from-env@x.example"}
    assert not any(secret in repr(loaded.config) for secret in loaded.secrets)
    path.chmod(0o644)
    with pytest.raises(SpecError, match=r"key: others may read it: chmod 600"):
        load(tmp_path / "alerts.yaml", text, KEY="x")


def test_a_file_with_secrets_in_it_must_be_closed(tmp_path: Path) -> None:
    assert load(tmp_path / "alerts.yaml", HOOK).config.channels["own"].service == "webhook"
    with pytest.raises(SpecError, match=r"holds secrets, and others may read it: chmod 600"):
        load(tmp_path / "alerts.yaml", HOOK, 0o640)


def test_the_example_is_in_order_with_all_that_it_has_commented(tmp_path: Path) -> None:
    text = config.EXAMPLE.read_text()
    loaded = load(tmp_path / "alerts.yaml", text, SLACK_WEBHOOK="https://x.example/")
    assert [route.severity for route in reading.rules(loaded.config, "h", {}).routes] == [Severity.ERROR]
    head, _, tail = text.partition("\n# Without routes")
    lines = (line if re.match(r"# \w", line) else line.removeprefix("#") for line in tail.splitlines())
    whole = head.replace("\n#  ", "\n  ") + "\n# Without routes" + "\n".join(lines)
    whole = whole.replace("file:/etc/lastgood/smtp-password", "${PW}")
    names = dict.fromkeys(
        ("SLACK_WEBHOOK", "PAGERDUTY_KEY", "HOOK_SECRET", "PW", "HEALTHCHECK_URL"), "https://x.example/"
    )
    every = load(tmp_path / "alerts.yaml", whole, **names).config
    assert {channel.service for channel in every.channels.values()} == set(config.SERVICES)
    assert every.quiet is not None
    assert len(every.routes) == 4


def test_a_pager_is_told_less_than_a_chat_unless_routes_say_it(tmp_path: Path) -> None:
    text = "channels:\n  p:\n    pagerduty: {routing_key: k}\n  c: {apprise: 'json://x'}\n"
    of = reading.rules(load(tmp_path / "alerts.yaml", text).config, "h", {})
    assert {route.to: route.severity.value for route in of.routes} == {"p": "critical", "c": "error"}
    assert of.digest_to == ("c",)


@pytest.mark.parametrize(
    ("begin", "end", "minute", "quiet"),
    [
        ("22:00", "07:00", 0, True),
        ("22:00", "07:00", 1319, False),
        ("22:00", "07:00", 420, False),
        ("12:00", "13:00", 750, True),
        ("12:00", "13:00", 780, False),
    ],
)
def test_a_night_goes_on_past_midnight(begin: str, end: str, minute: int, quiet: bool) -> None:
    assert reading.is_quiet(config.Quiet(begin=begin, end=end), minute) is quiet
    assert not reading.is_quiet(None, minute)

"""Does each service get what it understands? Real servers with a memory, which also fail in every way they know."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import shutil
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import TypeAdapter

from orchestrator.alerts import config as c
from orchestrator.alerts.delivery import sent
from orchestrator.alerts.message import Act, Message
from orchestrator.alerts.sinks import Refused, SendFailed, Sink, scrubbed, sink_of
from orchestrator.core.policy import Severity
from tests.alerts import services as s

UTC = ZoneInfo("UTC")
BAD = "<script>alert('x')</script> <!channel> & \"q\" *b* _i_"
OPENED = Message(
    channel="c",
    thread="lastgood/gpt-abcde/i1/gpu_lost",
    number=1,
    act=Act.OPENED,
    at=1_000_060.0,
    severity=Severity.CRITICAL,
    title=f"gpt-abcde: {BAD}",
    run="gpt-abcde",
    kind="gpu_lost",
    incident="i1",
    host="node7",
    since=1_000_000.0,
    facts=(("what", BAD), ("where", "rank 1"), ("now", "the run is held"), ("do", f"two lines:\n- {BAD}")),
    links=(("incident", "https://x.example/runs/gpt-abcde/incidents/i1"),),
)
UPDATED = replace(OPENED, number=2, act=Act.UPDATED, at=1_000_400.0)
RESOLVED = replace(OPENED, number=3, act=Act.RESOLVED, at=1_000_500.0)


def sink(**spec: Any) -> Sink:
    """Of a channel as the file would have it."""
    return sink_of(TypeAdapter(c.Channel).validate_python(spec), UTC)


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def hook() -> Iterator[s.Hook]:
    with s.served(s.Hook()) as service:
        assert isinstance(service, s.Hook)
        yield service


def test_pagerduty_has_one_incident_from_trigger_to_resolve() -> None:
    with s.served(s.PagerDuty()) as pd:
        assert isinstance(pd, s.PagerDuty)
        channel = sink(pagerduty={"routing_key": pd.key, "url": f"{pd.url}/v2/enqueue"})
        for message in (OPENED, UPDATED, replace(UPDATED, acknowledged_by="ada"), RESOLVED):
            channel.send(message, "")
        assert pd.incidents == {OPENED.thread: ["trigger", "trigger", "trigger", "acknowledge", "resolve"]}
        event = pd.asked[0].json
        assert event["payload"]["summary"] == f"[CRITICAL] gpt-abcde: {BAD}"
        assert event["payload"]["source"] == "node7"
        assert event["links"] == [{"href": OPENED.links[0][1], "text": "incident"}]
        channel.send(replace(OPENED, thread="lastgood/h/test", act=Act.NOTE), "")
        assert pd.incidents["lastgood/h/test"] == ["trigger", "resolve"], "a note leaves nothing for anybody to close"
        wrong = sink(pagerduty={"routing_key": "wrong-key-secret", "url": f"{pd.url}/v2/enqueue"})
        with pytest.raises(Refused, match="400"):
            wrong.send(OPENED, "")


def test_a_slack_bot_keeps_one_thread_whose_first_message_is_up_to_date() -> None:
    with s.served(s.Slack()) as slack:
        assert isinstance(slack, s.Slack)
        channel = sink(slack={"token": slack.token, "channel": "C1", "api": slack.url})
        ref = ""
        for message in (OPENED, UPDATED, RESOLVED):
            ref = channel.send(message, ref)
        ((first, *replies),) = slack.threads.values()
        assert first["blocks"][0]["text"]["text"].startswith("[RESOLVED] gpt-abcde")
        assert [reply["metadata"]["event_payload"]["key"] for reply in replies] == [UPDATED.key, RESOLVED.key]
        for body in (first, *replies):
            assert "<" not in body["text"], "the fallback is read as Slack's own markup"
            assert all(block["text"]["type"] == "plain_text" for block in body["blocks"])
        denied = sink(slack={"token": "xoxb-wrong", "channel": "C1", "api": slack.url})
        with pytest.raises(SendFailed, match="invalid_auth") as failure:
            denied.send(OPENED, "")
        assert not isinstance(failure.value, Refused), "another token may be right tomorrow"


def test_a_slack_webhook_gets_a_message_each_time() -> None:
    with s.served(s.Slack()) as slack:
        assert isinstance(slack, s.Slack)
        channel = sink(slack={"webhook": f"{slack.url}/hook/T0/B0/secret"})
        for message in (OPENED, RESOLVED):
            assert channel.send(message, "") == ""
        assert len(slack.threads) == 2


def test_an_alertmanager_has_one_alert_that_ends_and_a_new_one_when_it_gets_worse() -> None:
    with s.served(s.Alertmanager()) as am:
        assert isinstance(am, s.Alertmanager)
        channel = sink(alertmanager={"url": am.url})
        ref = channel.send(replace(OPENED, severity=Severity.ERROR), "")
        ref = channel.send(replace(UPDATED, severity=Severity.ERROR), ref)
        assert len(am.alerts) == 1
        ref = channel.send(replace(UPDATED, number=3), ref)
        by_severity = {alert["labels"]["severity"]: alert for alert in am.alerts.values()}
        assert by_severity["error"]["endsAt"] == "1970-01-12T13:53:20+00:00", "as time passes: over at the update"
        assert by_severity["critical"]["endsAt"] > by_severity["error"]["endsAt"]
        channel.send(replace(RESOLVED, severity=Severity.WARNING), ref)
        assert {alert["labels"]["severity"] for alert in am.alerts.values()} == {"error", "critical"}
        by_severity = {alert["labels"]["severity"]: alert for alert in am.alerts.values()}
        assert by_severity["critical"]["endsAt"] == "1970-01-12T13:55:00+00:00"
        assert by_severity["critical"]["labels"] == {
            "alertname": "LastgoodGpuLost",
            "severity": "critical",
            "run": "gpt-abcde",
            "kind": "gpu_lost",
            "instance": "node7",
            "thread": OPENED.thread,
        }


def test_a_webhook_gets_json_that_is_signed_and_says_what_it_repeats(hook: s.Hook) -> None:
    channel = sink(webhook={"url": hook.url, "secret": "k"})
    channel.send(OPENED, "")
    channel.send(OPENED, "")
    (one, two) = hook.asked
    assert one.headers["Idempotency-Key"] == two.headers["Idempotency-Key"] == "lastgood/gpt-abcde/i1/gpu_lost#1"
    stamp, digest = (part.split("=")[1] for part in one.headers["X-Lastgood-Signature"].split(","))
    assert digest == hmac.new(b"k", f"{stamp}.".encode() + one.body, hashlib.sha256).hexdigest()
    assert one.json["facts"]["what"] == BAD
    assert one.json["act"] == "opened"


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # of one of its 170 services
def test_anything_that_apprise_knows_gets_plain_text(hook: s.Hook) -> None:
    channel = sink(apprise=hook.url.replace("http:", "json:"))
    channel.send(OPENED, "")
    channel.send(RESOLVED, "")
    first, last = hook.told
    assert first["title"].startswith("[CRITICAL] gpt-abcde")
    assert (first["type"], last["type"]) == ("failure", "success")
    assert "since:" in first["message"]
    hook.down = 500
    with pytest.raises(SendFailed, match="500"):
        channel.send(OPENED, "")
    with pytest.raises(SendFailed, match="does not know"):
        sink(apprise="nonsense://x").send(OPENED, "")


def mail_sink(post: s.Post, **more: Any) -> Sink:
    spec = {
        "host": "127.0.0.1",
        "port": post.port,
        "tls": "none",
        "sender": "lastgood@x.example",
        "to": ("a@x.example",),
    }
    return sink(smtp={**spec, **more})


def test_mails_make_one_thread_and_say_when_they_repeat() -> None:
    with s.post_office(s.Post()) as post:
        channel = mail_sink(post)
        ref = channel.send(OPENED, "")
        channel.send(OPENED, "")
        channel.send(RESOLVED, ref)
        first, again, last = post.mails
        assert first["Message-ID"] == again["Message-ID"] == last["References"] == last["In-Reply-To"]
        assert last["Message-ID"] != first["Message-ID"]
        assert first["Subject"].strip().startswith("[CRITICAL] gpt-abcde")
        assert first.get_content_type() == "text/plain"
        assert "<script>" in first.get_payload(decode=True).decode()  # type: ignore[union-attr]
        channel.send(replace(OPENED, title="a\r\nBcc: eve@x.example\r\n\r\nbody"), "")
        assert post.mails[-1]["Bcc"] is None


def test_a_mail_server_that_will_not_is_believed_and_one_that_cannot_now_is_asked_again() -> None:
    with s.post_office(s.Post()) as post:
        channel = mail_sink(post)
        post.answers.append("450 greylisted")
        with pytest.raises(SendFailed, match="450") as later:
            channel.send(OPENED, "")
        assert not isinstance(later.value, Refused)
        post.answers.append("550 no such user")
        with pytest.raises(Refused, match="550"):
            channel.send(OPENED, "")
    with pytest.raises(SendFailed, match=r"refused|reset|closed"):
        channel.send(OPENED, "")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes the certificate")
def test_mail_goes_through_tls_that_is_checked_with_a_password(tmp_path: Path) -> None:
    cert, key = s.certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with s.post_office(s.Post(context=context, user=("me", "pw"))) as post:
        mail_sink(post, tls="starttls", ca=str(cert), user="me", password="pw").send(OPENED, "")
        assert len(post.mails) == 1
        with pytest.raises(SendFailed, match="CERTIFICATE_VERIFY_FAILED"):
            mail_sink(post, tls="starttls", user="me", password="pw").send(OPENED, "")
        with pytest.raises(SendFailed, match="535") as denied:
            mail_sink(post, tls="starttls", ca=str(cert), user="me", password="wrong").send(OPENED, "")
        assert not isinstance(denied.value, Refused)
    with s.post_office(s.Post()) as plain, pytest.raises(SendFailed, match="STARTTLS"):
        mail_sink(plain, tls="starttls").send(OPENED, "")
    assert len(post.mails) == 1


@pytest.mark.parametrize(
    ("fault", "why", "after_s", "refused"),
    [
        (500, "500", None, False),
        ((429, {"Retry-After": "7"}), "429", 7.0, False),
        ((503, {"Retry-After": "soon"}), "503", None, False),
        (401, "401", None, False),
        (404, "404", None, False),
        (400, "400", None, True),
        (413, "413", None, True),
        ((302, {"Location": "http://127.0.0.1:1/elsewhere"}), "302", None, False),
        (s.CLOSE, "cannot be reached", None, False),
    ],
)
def test_what_a_service_answers_decides_whether_it_is_asked_again(
    hook: s.Hook, fault: s.Fault, why: str, after_s: float | None, refused: bool
) -> None:
    hook.faults.append(fault)
    with pytest.raises(SendFailed, match=why) as failure:
        sink(webhook={"url": hook.url}).send(OPENED, "")
    assert failure.value.after_s == after_s
    assert isinstance(failure.value, Refused) is refused
    assert hook.told == []


def test_a_service_that_hangs_is_given_up_at_a_deadline(hook: s.Hook) -> None:
    hook.faults.append(s.HANG)
    with pytest.raises(SendFailed, match=r"no answer within 0 s"):
        asyncio.run(sent(sink(webhook={"url": hook.url}), OPENED, "", 0.2))


def test_no_error_shows_an_address_or_a_key(hook: s.Hook) -> None:
    secret = f"{hook.url}/very/secret/path"
    hook.faults.append(500)
    with pytest.raises(SendFailed) as failure:
        sink(webhook={"url": secret}).send(OPENED, "")
    assert "secret" not in str(failure.value)
    with pytest.raises(SendFailed) as nowhere:
        sink(webhook={"url": "http://127.0.0.1:1/very/secret"}).send(OPENED, "")
    assert "secret" not in str(nowhere.value)
    assert scrubbed(f"it said {secret} and xoxb-1", [secret, "xoxb-1"]) == "it said *** and ***"


def test_a_message_survives_its_own_json() -> None:
    from orchestrator.alerts.sinks.webhook import document

    assert json.loads(json.dumps(document(OPENED)))["links"] == {"incident": OPENED.links[0][1]}

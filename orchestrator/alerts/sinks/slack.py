"""How does Slack show it? With a bot's token one thread for each incident, its first message kept up to date.

Texts are blocks of `plain_text`, which Slack neither formats nor takes for mentions; in the fallback `&<>` are escaped.
"""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from orchestrator.alerts.config import Slack
from orchestrator.alerts.message import Message
from orchestrator.alerts.sinks import plain, web
from orchestrator.alerts.sinks.failing import Refused, SendFailed
from orchestrator.alerts.wording import inert

HEADER_MOST, TEXT_MOST = 150, 2900
"""characters that Slack takes in a header and in a block of text"""
MAY_PASS = frozenset(
    {"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"}
    | {"invalid_auth", "not_authed", "token_revoked", "token_expired", "account_inactive", "missing_scope"}
    | {"channel_not_found", "not_in_channel", "is_archived", "ekm_access_denied"}
)
"""errors that the same message may not meet tomorrow"""


def slack_sink(spec: Slack, zone: ZoneInfo) -> HookedSlack | BotSlack:
    """By what the channel has."""
    if spec.webhook is not None:
        return HookedSlack(spec.webhook.get_secret_value(), zone)
    assert spec.token is not None
    return BotSlack(spec.token.get_secret_value(), spec.channel or "", spec.api, zone)


class HookedSlack:
    """An incoming webhook: it can neither edit nor reply, so each message stands for itself."""

    refreshes_s = None

    def __init__(self, url: str, zone: ZoneInfo) -> None:
        self._url = url
        self._zone = zone

    def send(self, message: Message, ref: str) -> str:  # noqa: ARG002
        """A message of its own."""
        web.post(self._url, _body(message, self._zone))
        return ""


class BotSlack:
    """A bot's token. `ref` is CHANNEL:TS of the first message of the thread."""

    refreshes_s = None

    def __init__(self, token: str, channel: str, api: str, zone: ZoneInfo) -> None:
        self._token = token
        self._channel = channel
        self._api = api.rstrip("/")
        self._zone = zone

    def send(self, message: Message, ref: str) -> str:
        """The first one opens the thread; later ones change it, and say in a reply what changed."""
        body = _body(message, self._zone)
        if not ref:
            sent = self._call("chat.postMessage", {"channel": self._channel, **body, **_marked(message)})
            return f"{sent.get('channel', self._channel)}:{sent.get('ts', '')}"
        channel, _, ts = ref.partition(":")
        self._call("chat.update", {"channel": channel, "ts": ts, **body})
        now = next((said for heading, said in message.facts if heading == "now"), "")
        reply = f"{plain.headline(message)}\n{now}".strip()
        said = {"text": _escaped(reply), "blocks": [_section(reply)]}
        self._call("chat.postMessage", {"channel": channel, "thread_ts": ts, **said, **_marked(message)})
        return ref

    def _call(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        named = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json; charset=utf-8"}
        answer = web.post(f"{self._api}/{method}", body, named).json()
        if not isinstance(answer, dict):
            raise SendFailed(f"{method}: the answer is not Slack's")
        if answer.get("ok") is True:
            return answer
        error = str(answer.get("error", "no reason"))
        raise (SendFailed if error in MAY_PASS else Refused)(f"{method}: {error}")


def _body(message: Message, zone: ZoneInfo) -> dict[str, Any]:
    title = plain.headline(message)
    said = "\n".join(f"{heading}: {text}" for heading, text in plain.lines(message, zone))
    header = {"type": "header", "text": {"type": "plain_text", "text": inert(title, HEADER_MOST), "emoji": False}}
    return {
        "text": _escaped(title),
        "blocks": [header, *([_section(said)] if said else [])],
        "unfurl_links": False,
        "unfurl_media": False,
    }


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "plain_text", "text": inert(text, TEXT_MOST), "emoji": False}}


def _marked(message: Message) -> dict[str, Any]:
    """By which a program, or a person, knows two deliveries of one message."""
    return {
        "metadata": {"event_type": "lastgood_alert", "event_payload": {"key": message.key, "act": message.act.value}}
    }


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

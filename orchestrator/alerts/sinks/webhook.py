"""What does a program of your own get? The message as JSON by POST, signed: docs/alerts.md has its fields."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

from monitors.clock import SystemClock
from orchestrator.alerts.config import Webhook
from orchestrator.alerts.message import Message
from orchestrator.alerts.sinks import web

SCHEMA = "lastgood-alert/1"


def document(message: Message) -> dict[str, Any]:
    """The JSON of a message."""
    return {
        "schema": SCHEMA,
        "key": message.key,
        "thread": message.thread,
        "number": message.number,
        "act": message.act.value,
        "severity": message.severity.value,
        "title": message.title,
        "run": message.run or None,
        "kind": message.kind,
        "incident": message.incident or None,
        "host": message.host or None,
        "at": message.at,
        "since": message.since,
        "facts": dict(message.facts),
        "links": dict(message.links),
        "acknowledged_by": message.acknowledged_by or None,
    }


def signature(secret: str, at: float, body: bytes) -> str:
    """Of the header X-Lastgood-Signature: the time is signed too, so that an old body cannot be sent again."""
    stamp = f"{at:.0f}"
    digest = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={digest}"


class WebhookSink:
    """One address."""

    refreshes_s = None

    def __init__(self, spec: Webhook) -> None:
        self._url = spec.url.get_secret_value()
        self._secret = spec.secret.get_secret_value() if spec.secret is not None else ""

    def send(self, message: Message, ref: str) -> str:  # noqa: ARG002
        """One POST; Idempotency-Key is the same when it is sent again."""
        body = json.dumps(document(message)).encode()
        named = {"Idempotency-Key": message.key}
        if self._secret:
            named["X-Lastgood-Signature"] = signature(self._secret, SystemClock().now(), body)
        web.post(self._url, body, named)
        return ""

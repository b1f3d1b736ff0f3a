"""How does an Alertmanager get it? API v2: labels that stay the same, and an end that is far away until it is over."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from orchestrator.alerts.config import Alertmanager
from orchestrator.alerts.message import RANK, Act, Message
from orchestrator.alerts.sinks import web
from orchestrator.core.policy import Severity

STANDS_S = 86400.0
"""without another word it stands for a day: this process may be down for a while, and that resolves nothing"""


class AlertmanagerSink:
    """One Alertmanager. It keeps alerts in its memory only, so what stands is told again."""

    refreshes_s = 60.0

    def __init__(self, spec: Alertmanager) -> None:
        self._url = spec.url.rstrip("/") + "/api/v2/alerts"
        self._token = spec.token.get_secret_value() if spec.token is not None else ""

    def send(self, message: Message, ref: str) -> str:
        """One alert. `ref` is its beginning, and the severity among its labels, which are its identity there.

        What gets worse ends under its old labels, and begins under new ones: routes of an Alertmanager go by them.
        """
        began, _, known = ref.partition(" ")
        began = began or _stamp(message.since if message.since is not None else message.at)
        rises = not known or RANK[message.severity] > RANK[Severity(known)]
        severity = message.severity if rises else Severity(known)
        over = message.act in (Act.RESOLVED, Act.NOTE)
        # One that ends when it begins is none at all.
        ends_at = message.at + (1.0 if message.act is Act.NOTE else 0.0 if over else STANDS_S)
        alerts = [_alert(message, severity, began, ends_at)]
        if known and rises:
            alerts.append(_alert(message, Severity(known), began, message.at))
        named = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        web.post(self._url, json.dumps(alerts).encode(), named)
        return f"{began} {severity.value}"


def _alert(message: Message, severity: Severity, began: str, ends_at: float) -> dict[str, Any]:
    alert: dict[str, Any] = {
        "labels": _labels(message, severity),
        "annotations": {"summary": message.title, **{heading: said for heading, said in message.facts if said}},
        "startsAt": began,
        "endsAt": _stamp(ends_at),
    }
    if message.links:
        alert["generatorURL"] = message.links[0][1]
    return alert


def _labels(message: Message, severity: Severity) -> dict[str, str]:
    words = "".join(part.capitalize() for part in message.kind.split("_"))
    labels = {
        "alertname": f"Lastgood{words}",
        "severity": severity.value,
        "run": message.run,
        "kind": message.kind,
        "instance": message.host,
        "thread": message.thread,
    }
    return {name: value for name, value in labels.items() if value}


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()

"""How does PagerDuty hear of it? Events API v2: trigger, acknowledge and resolve by one dedup_key."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from orchestrator.alerts.config import PagerDuty
from orchestrator.alerts.message import Act, Message
from orchestrator.alerts.sinks import plain, web
from orchestrator.alerts.wording import inert

SUMMARY_MOST = 1024


class PagerDutySink:
    """One integration of a PagerDuty service."""

    refreshes_s = None

    def __init__(self, spec: PagerDuty, zone: ZoneInfo) -> None:
        self._url = spec.url
        self._key = spec.routing_key.get_secret_value()
        self._zone = zone

    def send(self, message: Message, ref: str) -> str:  # noqa: ARG002
        """An event; a note is an incident that is over at once, so that nobody has to close it."""
        for action in _actions(message):
            web.post(self._url, self._event(message, action))
        return ""

    def _event(self, message: Message, action: str) -> dict[str, Any]:
        event: dict[str, Any] = {"routing_key": self._key, "event_action": action, "dedup_key": message.thread}
        if action != "trigger":
            return event
        payload = {
            "summary": inert(plain.headline(message), SUMMARY_MOST),
            "source": message.host or message.run or "lastgood",
            "severity": message.severity.value,
            "component": message.run,
            "class": message.kind,
            "group": message.run,
            "custom_details": dict(plain.lines(message, self._zone)),
        }
        if message.since is not None:
            payload["timestamp"] = datetime.fromtimestamp(message.since, UTC).isoformat()
        links = [{"href": address, "text": what} for what, address in message.links]
        return {**event, "payload": payload, "client": "lastgood", "links": links}


def _actions(message: Message) -> tuple[str, ...]:
    match message.act:
        case Act.RESOLVED:
            return ("resolve",)
        case Act.NOTE:
            return ("trigger", "resolve")
        case Act.UPDATED if message.acknowledged_by:
            return ("trigger", "acknowledge")
        case _:
            return ("trigger",)

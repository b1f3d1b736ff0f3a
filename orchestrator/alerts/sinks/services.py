"""How do the other 170 services get it? Through Apprise, as plain text."""

from __future__ import annotations

import logging
from zoneinfo import ZoneInfo

import apprise

from orchestrator.alerts.message import Act, Message
from orchestrator.alerts.sinks import plain
from orchestrator.alerts.sinks.failing import SendFailed
from orchestrator.core.policy import Severity

TYPES = {
    Severity.CRITICAL: apprise.NotifyType.FAILURE,
    Severity.ERROR: apprise.NotifyType.FAILURE,
    Severity.WARNING: apprise.NotifyType.WARNING,
    Severity.INFO: apprise.NotifyType.INFO,
}


class AppriseSink:
    """One address of Apprise's."""

    refreshes_s = None

    def __init__(self, url: str, zone: ZoneInfo) -> None:
        self._url = url
        self._zone = zone

    def send(self, message: Message, ref: str) -> str:  # noqa: ARG002
        """One notification; services that can close what they opened (action=map) do so by its type."""
        service = apprise.Apprise()
        if not service.add(self._url):
            raise SendFailed("Apprise does not know this address: see https://appriseit.com/services")
        over = message.act is Act.RESOLVED
        body = plain.text(message, self._zone).partition("\n\n")[2]
        with apprise.LogCapture(level=logging.WARNING) as said:  # type: ignore[no-untyped-call]
            sent = service.notify(
                title=plain.headline(message),
                body=body or message.title,
                notify_type=apprise.NotifyType.SUCCESS if over else TYPES[message.severity],
                body_format=apprise.NotifyFormat.TEXT,
            )
            why = said.getvalue()
        if not sent:
            raise SendFailed(f"not delivered: {why.strip() or 'Apprise does not say why'}")
        return ""

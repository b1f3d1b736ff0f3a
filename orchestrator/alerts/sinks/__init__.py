"""How does a message reach a service? One file for each; all block, and all say why when it did not arrive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from zoneinfo import ZoneInfo

from orchestrator.alerts.config import Channel
from orchestrator.alerts.message import Message
from orchestrator.alerts.sinks.failing import Refused, SendFailed

__all__ = ["Refused", "SendFailed", "Sink", "scrubbed", "sink_of"]


class Sink(Protocol):
    """One service, as one channel uses it."""

    @property
    def refreshes_s(self) -> float | None:
        """The service forgets: what still stands is sent again so often; None: never."""
        ...

    def send(self, message: Message, ref: str) -> str:
        """Deliver it, and return what the next message of the thread must know (empty: nothing).

        `ref` is what the one before returned. Raises SendFailed; a message that arrived may be sent again.
        """
        ...


def sink_of(channel: Channel, zone: ZoneInfo) -> Sink:
    """The sink of a channel."""
    if channel.pagerduty is not None:
        from orchestrator.alerts.sinks.pagerduty import PagerDutySink

        return PagerDutySink(channel.pagerduty, zone)
    if channel.slack is not None:
        from orchestrator.alerts.sinks.slack import slack_sink

        return slack_sink(channel.slack, zone)
    if channel.webhook is not None:
        from orchestrator.alerts.sinks.webhook import WebhookSink

        return WebhookSink(channel.webhook)
    if channel.alertmanager is not None:
        from orchestrator.alerts.sinks.alertmanager import AlertmanagerSink

        return AlertmanagerSink(channel.alertmanager)
    if channel.smtp is not None:
        from orchestrator.alerts.sinks.mail import MailSink

        return MailSink(channel.smtp, zone)
    from orchestrator.alerts.sinks.services import AppriseSink

    assert channel.apprise is not None
    return AppriseSink(channel.apprise.get_secret_value(), zone)


def scrubbed(text: str, secrets: Sequence[str], most: int = 300) -> str:
    """An error without the secrets that a service, or a library, may have repeated in it."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return " ".join(text.split())[:most]

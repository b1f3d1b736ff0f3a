"""What does a person want of alerts? The model of `HOME/alerts.yaml`; `reading.py` reads it."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

FILE_NAME = "alerts.yaml"
EXAMPLE = Path(__file__).with_name("example.yaml")
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SERVICES = ("pagerduty", "slack", "webhook", "alertmanager", "smtp", "apprise")


def seconds(text: str) -> float:
    """Of `90s`, `30m`, `2h`, `1d`. Raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if match is None:
        raise ValueError(f"{text!r} is no duration; write it with its unit, such as 90s, 15m, 4h or 1d")
    return float(match[1]) * _UNITS_S[match[2]]


def _is_duration(text: str) -> str:
    seconds(text)
    return text


def _is_time(text: str) -> str:
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text):
        raise ValueError(f'{text!r} is no time of the day; write it as "07:30"')
    return text


def _is_zone(text: str) -> str:
    if text not in available_timezones():
        near = difflib.get_close_matches(text, available_timezones(), n=1)
        raise ValueError(
            f"{text!r} is no time zone{f'; did you mean {near[0]}?' if near else ', such as Europe/Zurich'}"
        )
    return text


def _is_address(text: str) -> str:
    if not re.match(r"https?://[^/\s]+", text):
        raise ValueError("must be an address that begins with https:// or http://")
    return text


Duration = Annotated[str, AfterValidator(_is_duration)]
TimeOfDay = Annotated[str, AfterValidator(_is_time)]
Address = Annotated[str, AfterValidator(_is_address)]


class Part(BaseModel):
    """A part of the file: frozen, no unknown keys, documented by the string under each field."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class PagerDuty(Part):
    """PagerDuty, by its Events API v2."""

    routing_key: SecretStr
    """Integration key of the service, 32 letters and digits."""
    url: Address = "https://events.pagerduty.com/v2/enqueue"
    """Where events go; https://events.eu.pagerduty.com/v2/enqueue for the EU."""


class Slack(Part):
    """Slack: an incoming webhook, or a bot's token, which can keep one thread for each incident."""

    webhook: SecretStr | None = None
    """Address of an incoming webhook: every message stands for itself."""
    token: SecretStr | None = None
    """Of a bot with the scope chat:write, begins with xoxb-."""
    channel: str | None = None
    """With a token: the id of the channel, such as C0123ABCD."""
    api: Address = "https://slack.com/api"
    """Where Slack's methods are."""

    @model_validator(mode="after")
    def _one_way(self) -> Slack:
        if (self.webhook is None) == (self.token is None):
            raise ValueError("needs either webhook, or token and channel")
        if self.token is not None and not self.channel:
            raise ValueError("needs channel, the id of the channel that the bot writes to")
        return self


class Webhook(Part):
    """Any program that takes JSON by POST."""

    url: SecretStr
    """Where it listens."""
    secret: SecretStr | None = None
    """Signs each body: X-Lastgood-Signature is t=TIME,v1=HMAC-SHA256 of "TIME.BODY" in hexadecimal."""


class Alertmanager(Part):
    """Prometheus Alertmanager, by its API v2."""

    url: Address
    """Its root, such as http://alertmanager:9093."""
    token: SecretStr | None = None
    """Bearer token, where it wants one."""


class Smtp(Part):
    """Mail."""

    host: str
    port: int = Field(default=587, ge=1, le=65535)
    tls: Literal["starttls", "tls", "none"] = "starttls"
    """none: in the clear, for a relay on this host."""
    user: str | None = None
    password: SecretStr | None = None
    sender: str
    """From."""
    to: tuple[str, ...] = Field(min_length=1)
    ca: str | None = None
    """File of certificates to trust instead of the system's."""


class Channel(Part):
    """One place that messages go to: exactly one service."""

    pagerduty: PagerDuty | None = None
    slack: Slack | None = None
    webhook: Webhook | None = None
    alertmanager: Alertmanager | None = None
    smtp: Smtp | None = None
    apprise: SecretStr | None = None
    """Any address that Apprise knows, such as ntfy://ntfy.sh/topic."""

    @model_validator(mode="after")
    def _one_service(self) -> Channel:
        named = [name for name in SERVICES if getattr(self, name) is not None]
        if len(named) != 1:
            raise ValueError(f"needs exactly one of {', '.join(SERVICES)}{f'; it has {named}' if named else ''}")
        return self

    @property
    def service(self) -> str:
        """Its name."""
        return next(name for name in SERVICES if getattr(self, name) is not None)


class RouteSpec(Part):
    """What goes where. All routes that fit are taken."""

    to: str
    """Name of a channel."""
    severity: Literal["info", "warning", "error", "critical"] = "error"
    """From which on. critical: a person is needed; error: it takes long; warning: it recovers; info: began, ended."""
    runs: str = "*"
    """Pattern of run ids; * is any text."""
    kinds: str = "*"
    """Pattern of kinds, such as gpu_*."""
    after: Duration = "0s"
    """Only when nobody has acknowledged it for so long."""


class Quiet(Part):
    """Hours in which only what is critical is told; the rest follows when they end."""

    begin: TimeOfDay
    end: TimeOfDay


class Digest(Part):
    """Once a day: what recovered without anybody."""

    at: TimeOfDay = "09:00"
    to: tuple[str, ...] = ()
    """Names of channels."""


class Group(Part):
    """What is one thread."""

    by: Literal["run and cause", "cause"] = "run and cause"
    wait: Duration = "30s"
    """Before anything that is not critical is told."""
    interval: Duration = "5m"
    """Between updates of a thread that got no worse."""


class Late(Part):
    """When a recovery that takes long is more than a warning."""

    error: Duration = "15m"
    page: Duration = "1h"
    supervisor: Duration = "3m"
    """without a word of the supervisor: page"""
    channel: Duration = "10m"
    """a service that cannot be reached for so long is told through the others"""


class Heartbeat(Part):
    """A dead-man's switch (healthchecks.io, Dead Man's Snitch, ...): it wakes you when the pings stop."""

    url: SecretStr
    every: Duration = "1m"


class Config(Part):
    """The file."""

    channels: dict[str, Channel] = Field(min_length=1)
    """By name."""
    routes: tuple[RouteSpec, ...] = ()
    """Default: pagerduty is told what is critical, every other channel what is at least an error."""
    quiet: Quiet | None = None
    digest: Digest = Digest()
    group: Group = Group()
    repeat: Duration = "4h"
    """What still stands, and nobody acknowledged, is told again."""
    late: Late = Late()
    heartbeat: Heartbeat | None = None
    dashboard: Address | None = None
    """Its address as others reach it, for links."""
    zone: Annotated[str, AfterValidator(_is_zone)] = "UTC"
    """Time zone of the times in this file and in messages."""

    @property
    def timezone(self) -> ZoneInfo:
        """The zone."""
        return ZoneInfo(self.zone)

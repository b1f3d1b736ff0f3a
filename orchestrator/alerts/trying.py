"""Does a message arrive? One is sent to each channel, and what the service answered is said."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.alerts.config import Config
from orchestrator.alerts.delivery import DEADLINE_S, sent
from orchestrator.alerts.message import Act, Message
from orchestrator.alerts.reading import Loaded
from orchestrator.alerts.sinks import SendFailed, scrubbed, sink_of
from orchestrator.core.policy import Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """How it went with one channel."""

    channel: str
    kind: str
    error: str | None
    """None: it was taken"""


def tried(loaded: Loaded, channels: Sequence[str], home: str, at: float) -> list[Tried]:
    """Send a test message to each of these channels, all at the same time."""

    async def all_of_them() -> list[Tried]:
        return await asyncio.gather(*(_try(loaded, name, home, at) for name in channels))

    return asyncio.run(all_of_them())


async def _try(loaded: Loaded, name: str, home: str, at: float) -> Tried:
    channel = loaded.config.channels[name]
    error = None
    try:
        await sent(sink_of(channel, loaded.config.timezone), _message(loaded.config, name, home, at), "", DEADLINE_S)
    except SendFailed as failure:
        error = scrubbed(str(failure), loaded.secrets)
    return Tried(channel=name, kind=channel.service, error=error)


def _message(config: Config, name: str, home: str, at: float) -> Message:
    return Message(
        channel=name,
        thread=f"lastgood/{home}/test-{at:.3f}",
        number=1,
        act=Act.NOTE,
        at=at,
        severity=Severity.INFO,
        title=f"lastgood on {home}: this is a test",
        kind="test",
        host=home,
        facts=(("what", f"The channel {name} works."), ("do", "Nothing: somebody called `lastgood alerts test`.")),
        links=(("dashboard", config.dashboard),) if config.dashboard else (),
    )

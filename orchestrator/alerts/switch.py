"""Who notices that lastgood itself is dead? A service that misses its pings: they come while the supervisor lives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from orchestrator.alerts.aside import aside
from orchestrator.alerts.sinks import scrubbed, web
from orchestrator.alerts.sinks.failing import SendFailed

log = logging.getLogger(__name__)

DEADLINE_S = 20.0


async def ping(url: str, every_s: float, lives: Callable[[], bool | None]) -> None:
    """Ping for ever: `url` while the supervisor lives, `url/fail` while it does not, nothing (None) once it left."""
    root = url.rstrip("/")
    await _ask(f"{root}/start", url)
    while True:
        alive = lives()
        if alive is not None:
            await _ask(root if alive else f"{root}/fail", url)
        await asyncio.sleep(every_s)


async def _ask(address: str, secret: str) -> None:
    def get() -> str:
        return str(web.get(address).status)

    try:
        await aside(get, DEADLINE_S)
    except SendFailed as error:
        log.warning("the heartbeat was not heard: %s", scrubbed(str(error), (secret,)))

"""Where can Prometheus scrape this state folder? A companion of the supervisor that serves `/metrics`.

What the journal says is kept up in between scrapes. What only the supervisor knows (GPUs, senses, agents) is asked with
one question a scrape, in a thread of its own: a supervisor that does not answer costs a part of a page, and no time.
"""

from __future__ import annotations

import asyncio
import logging
from threading import Thread

from jobs.errors import SpecError
from monitors.clock import SystemClock
from orchestrator import client, metrics_settings
from orchestrator.api.tokens import Tokens
from orchestrator.home import Home, HomeError
from orchestrator.metrics_access import Access
from orchestrator.metrics_http import Server
from orchestrator.metrics_page import KEEP_UP_S, Live, Pages
from orchestrator.metrics_settings import Settings

log = logging.getLogger(__name__)

ASK_S = 2.0
"""for the supervisor to answer; a scraper waits 10 s as a rule"""
PAGE_S = 30.0


async def companion(home: Home) -> None:
    """Serve until cancelled. Raises SpecError for a file of settings that says what cannot be."""
    settings = metrics_settings.read(home)
    access = None if settings.is_loopback else _access(home, settings)
    desk = Desk(home, settings)
    loop = asyncio.get_running_loop()

    def page(accept: str) -> tuple[bytes, str]:
        return asyncio.run_coroutine_threadsafe(desk.page(accept), loop).result(PAGE_S)

    server = Server((settings.bind, settings.port), page, access)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        metrics_settings.publish(home, settings, server.server_port)
        log.info("metrics are served on port %d of %s", server.server_port, settings.bind)
        while _as_asked(home, settings):  # else the next one serves as the file says now
            desk.follow()
            await asyncio.sleep(KEEP_UP_S)
    finally:
        metrics_settings.retract(home)
        server.shutdown()
        server.server_close()


def _access(home: Home, settings: Settings) -> Access:
    tokens = Tokens(home.root)
    if not tokens.all():
        where = f"{metrics_settings.path(home)}: bind: {settings.bind} can be reached from elsewhere"
        raise SpecError(f"{where}, and there is no token: lastgood dashboard token add NAME")
    return Access(tokens, SystemClock())


def _as_asked(home: Home, settings: Settings) -> bool:
    try:
        return metrics_settings.read(home) == settings
    except FileNotFoundError:
        return False


class Desk:
    """Pages, and the question to the supervisor."""

    def __init__(self, home: Home, settings: Settings) -> None:
        self._home = home
        self._most = settings.gpus_max
        self._pages = Pages(home, settings, SystemClock())
        self._asked: asyncio.Future[Live | None] | None = None
        """a question that was not answered yet: there is never more than one"""

    def follow(self) -> None:
        """Read what is new."""
        self._pages.follow()

    async def page(self, accept: str) -> tuple[bytes, str]:
        """A page as things are now, and its type."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.ensure_future(asyncio.to_thread(live, self._home, self._most))
        await asyncio.wait((self._asked,), timeout=ASK_S)
        return self._pages.page(self._asked.result() if self._asked.done() else None, accept)


def once(home: Home, settings: Settings) -> str:
    """One page, with nobody to serve it."""
    body, _ = Pages(home, settings, SystemClock()).page(live(home, settings.gpus_max))
    return body.decode()


def live(home: Home, most: int) -> Live | None:
    """What only the supervisor knows, of each run that goes on; None: it does not answer."""
    try:
        answer = client.ask(home.root, {"ask": "readings", "most": most}, start=False)
    except (client.NoSupervisor, HomeError):
        return None
    return answer["runs"] if answer["ok"] else None

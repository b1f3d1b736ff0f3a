"""How does the dashboard's server live? As a companion of the supervisor, or by itself (`python -m orchestrator.api`).

It listens where it is wanted, and elsewhere when that changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterator

import uvicorn

from monitors.clock import SystemClock
from orchestrator.api import wish as wishes
from orchestrator.api.application import application
from orchestrator.api.bind import is_loopback, refuse_open
from orchestrator.api.guard import Access
from orchestrator.api.server import made
from orchestrator.api.tokens import Tokens
from orchestrator.api.wish import Address, Wish
from orchestrator.home import Home

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
CONNECTIONS = 256
HEAD_BYTES = 32 * 1024
UNREAD_MS = 30_000
"""after which the kernel ends a connection to somebody who takes nothing"""


class Unwilling(Exception):
    """It may not, or cannot, listen there; the text says why."""


async def companion(home: Home) -> None:
    """Serve as long as a dashboard is wanted, wherever it is."""
    while (wish := wishes.read(home)) is not None:
        serving = asyncio.create_task(serve(home, wish))
        try:
            while not serving.done() and wishes.read(home) == wish:
                await asyncio.wait((serving,), timeout=LOOK_EVERY_S)
            if serving.done():
                serving.result()
                return
        finally:
            serving.cancel()
            await asyncio.wait((serving,), timeout=5.0)


class _Quiet(uvicorn.Server):
    """Signals are for whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them."""
        yield


async def serve(home: Home, wish: Wish) -> None:
    """Serve until cancelled. Raises Unwilling."""
    if why := refuse_open(wish.host, Tokens(home.root).all(), wish.names):
        raise Unwilling(why)
    clock = SystemClock()
    login = not is_loopback(wish.host)
    own = (socket.gethostname(), socket.getfqdn()) if login else ()
    names = frozenset(name.lower() for name in (*wish.names, *own))
    server = made(home, clock, Access(login=login, names=names))
    listening = _listening(wish)
    config = uvicorn.Config(
        application(server),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        http="h11",
        loop="asyncio",
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        h11_max_incomplete_event_size=HEAD_BYTES,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=1,
    )
    shown = _Quiet(config)
    live = asyncio.create_task(server.live.run())
    work = asyncio.create_task(shown.serve(sockets=[listening]))
    wishes.publish(home, Address(url=_url(wish, listening), pid=os.getpid(), wish=wish))
    log.info("the dashboard listens on %s", _url(wish, listening))
    try:
        await asyncio.wait((live, work), return_when=asyncio.FIRST_COMPLETED)
        for task in (live, work):
            if task.done():
                task.result()
    finally:
        shown.should_exit = True
        live.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait((work, live), timeout=3.0)
        server.desk.close()
        listening.close()


def _listening(wish: Wish) -> socket.socket:
    family = socket.AF_INET6 if ":" in wish.host else socket.AF_INET
    ports = (wishes.PORT, 0) if wish.port is None else (wish.port,)
    for port in ports:
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
        try:
            found.bind((wish.host, port))
            found.listen(128)
        except OSError as error:
            found.close()
            if port == ports[-1]:
                raise Unwilling(f"cannot listen on {wish.host}:{port}: {error.strerror or error}") from None
        else:
            found.setblocking(False)
            return found
    raise AssertionError("the last port returns or raises")


def _url(wish: Wish, listening: socket.socket) -> str:
    port = listening.getsockname()[1]
    host = socket.gethostname() if wish.host in ("0.0.0.0", "::") else wish.host
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

"""How does a viewer get its events? One answer without an end, and an end for viewers that do not read it."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope, Send

from orchestrator.api.hub import Hub, Viewer

ALIVE_S = 15.0
WRITE_S = 20.0
"""for a viewer that does not take what it is sent"""
HEAD = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]


class Stream:
    """The answer to one viewer."""

    def __init__(self, hub: Hub, viewer: Viewer, first: bytes) -> None:
        self._hub = hub
        self._viewer = viewer
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Write until either side has enough."""
        writing = asyncio.create_task(self._write(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait((writing, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._hub.leave(self._viewer)
            for task in (writing, leaving):
                task.cancel()
            await asyncio.gather(writing, leaving, return_exceptions=True)

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(HEAD)})
        await send({"type": "http.response.body", "body": b"retry: 1000\n" + self._first, "more_body": True})
        while not self._viewer.gone:
            lines = await self._viewer.told(ALIVE_S) or b": alive\n\n"
            try:
                async with asyncio.timeout(WRITE_S):
                    await send({"type": "http.response.body", "body": lines, "more_body": True})
            except TimeoutError:
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

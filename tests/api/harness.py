"""A dashboard's server on a real socket, in the loop of the test, and a browser that is not one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import httpx2

from monitors.clock import SystemClock
from orchestrator.api.companion import serve
from orchestrator.api.wish import Wish
from orchestrator.home import Home

PATIENCE_S = 60.0


class Browser:
    """A client with cookies; `csrf` is what the page was told."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http
        self.csrf = ""

    async def get(self, path: str, **more: Any) -> httpx2.Response:
        """A page or data."""
        return await self.http.get(path, **more)

    async def json(self, path: str) -> dict[str, Any]:
        """Data that must be there."""
        answer = await self.get(path)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def post(self, path: str, body: Any, **headers: str) -> httpx2.Response:
        """An action as a page of the server sends it."""
        given = {"x-lastgood-csrf": self.csrf, "origin": str(self.http.base_url).rstrip("/")}
        return await self.http.post(
            path, json=body, headers={**given, **{k.replace("_", "-"): v for k, v in headers.items()}}
        )

    async def login(self, token: str) -> httpx2.Response:
        """Log in, and remember what the session says."""
        answer = await self.post("/api/login", {"token": token})
        self.csrf = (await self.json("/api/session"))["csrf"] or ""
        return answer

    async def events(self, path: str = "/api/stream", **headers: str) -> AsyncIterator[tuple[str, str, dict[str, Any]]]:
        """(name, id, data) of each event, for ever."""
        async with self.http.stream("GET", path, headers=headers, timeout=PATIENCE_S) as answer:
            assert answer.status_code == 200
            name = cursor = ""
            async for line in answer.aiter_lines():
                kind, _, rest = line.partition(": ")
                if kind == "event":
                    name = rest
                elif kind == "id":
                    cursor = rest
                elif kind == "data":
                    yield name, cursor, json.loads(rest)

    async def until(
        self,
        wanted: str,
        events: AsyncIterator[tuple[str, str, dict[str, Any]]],
        when: Callable[[dict[str, Any]], bool] = lambda _: True,
    ) -> dict[str, Any]:
        """The data of the next event of a name of which `when` is true."""
        async with asyncio.timeout(PATIENCE_S):
            async for name, _, data in events:
                if name == wanted and when(data):
                    return data
        raise AssertionError(f"the stream ended without {wanted}")


def play(home: Home, course: Callable[[Browser], Awaitable[None]], *, wish: Wish | None = None) -> None:
    """The server of a home, for as long as `course` takes."""

    async def work() -> None:
        serving = asyncio.create_task(serve(home, wish or Wish(port=0)))
        try:
            address = await _address(home, serving)
            async with httpx2.AsyncClient(base_url=address, timeout=PATIENCE_S) as http:
                browser = Browser(http)
                await _begun(browser)
                await course(browser)
        finally:
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving

    (home.root / "dashboard.address").unlink(missing_ok=True)
    asyncio.run(work())


async def _address(home: Home, serving: asyncio.Task[None]) -> str:
    clock = SystemClock()
    end = clock.now() + PATIENCE_S
    path = home.root / "dashboard.address"
    while not path.exists():
        if serving.done():
            serving.result()
        assert clock.now() < end
        await asyncio.sleep(0.01)
    port = json.loads(path.read_text())["url"].rstrip("/").rpartition(":")[2]
    return f"http://127.0.0.1:{port}"


async def _begun(browser: Browser) -> None:
    """It answers, and has read where the runs stand."""
    clock = SystemClock()
    end = clock.now() + PATIENCE_S
    while True:
        assert clock.now() < end
        try:
            session = await browser.json("/api/session")
        except httpx2.TransportError:
            await asyncio.sleep(0.02)
            continue
        browser.csrf = session["csrf"] or ""
        return

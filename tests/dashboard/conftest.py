"""A browser for the pages, and something to serve them; skipped where there is no Chromium."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.dashboard.fake import Fake

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = Path("/usr/bin/chromium")
# Seen by name, and cut off by the browser itself: asking this process about each request takes a seventh of the time.
NOBODY_ELSE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
PATIENCE_MS = 20_000
"""on a loaded machine"""


@pytest.fixture(scope="session")
def browser() -> Iterator[sync_api.Browser]:
    """Debian's Chromium, for all tests."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there: apt-get install chromium fonts-dejavu-core")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage", NOBODY_ELSE]
        )
        yield launched
        launched.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder; first the two tests whose run takes a minute, while others open the pages of a stand-in."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
    items.sort(key=lambda item: item.path != here / "test_played.py")


Open = Callable[..., "sync_api.Page"]


@pytest.fixture
def visit(browser: sync_api.Browser) -> Iterator[Open]:
    """Opens an address in a browser of its own. At the end nothing was complained of, and nothing left this machine."""
    contexts: list[sync_api.BrowserContext] = []
    complaints: list[str] = []
    abroad: list[str] = []

    def sent(request: sync_api.Request) -> None:
        if urlsplit(request.url).hostname != "127.0.0.1":
            abroad.append(request.url)

    def opened(url: str, *, expected: tuple[str, ...] = ()) -> sync_api.Page:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()

        def heard(message: sync_api.ConsoleMessage) -> None:
            if message.type in ("error", "warning") and not any(text in message.text for text in expected):
                complaints.append(message.text)

        page.on("console", heard)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", sent)
        page.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not complaints
    assert not abroad


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A stand-in for the server."""
    made = Fake()
    yield made
    made.close()

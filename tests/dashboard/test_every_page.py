"""Does every page open, wide and narrow, in both themes, with a name for all that can be used? Over a stand-in."""

from __future__ import annotations

import pytest

from tests.dashboard import made
from tests.dashboard.conftest import PATIENCE_MS, Open, sync_api
from tests.dashboard.fake import Fake

expect = sync_api.expect
expect.set_options(timeout=PATIENCE_MS)
RUN = f"/runs/{made.RUN}"
PAGES = {
    "/": "vision-a2x7c",
    RUN: "RUNNING since 20 min",
    f"{RUN}/logs": "illegal memory access",
    f"{RUN}/ranks": "16 ranks on 2 nodes",
    f"{RUN}/checkpoints": "step-00048000.a2w7",
    f"{RUN}/config": "nodes: 2",
    f"{RUN}/incidents": "worker killed",
    f"{RUN}/incidents/i2": "Rank 5 of node 0 hung",
    "/nodes": "repeat offender",
    "/alerts": "503 from the service",
    "/reports?days=30": "11 right, 1 wrong",
}
"""address of each page, and a text that it shows"""
UNNAMED = """[...document.querySelectorAll('button, a, input, select')]
    .filter(e => e.checkVisibility() && !e.innerText && !e.ariaLabel && !e.title && !e.labels?.length)
    .map(e => e.outerHTML)"""
"""what a reader of the screen could not name"""


@pytest.mark.parametrize("path", PAGES)
def test_every_page_opens_wide_and_narrow_in_both_themes(path: str, fake: Fake, visit: Open) -> None:
    page = visit(fake.url + path)
    for width, theme in ((1280, "light"), (390, "dark")):
        if theme == "dark":
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=theme)
            page.reload()
        expect(page.locator("main")).to_contain_text(PAGES[path])
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "it is wider than the screen"
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, background[4:-1].split(","))) < 60) is (theme == "dark")
        expect(page.locator("#bar .pill").first).not_to_be_empty()  # the stream tells how many need somebody
        unnamed = page.evaluate(UNNAMED)
        assert unnamed == []

"""What do the pages look like? `make screenshots`: a short run with faults, and three pictures for the README."""

from __future__ import annotations

import tempfile
from pathlib import Path

from playwright.sync_api import Browser, expect, sync_playwright

from tests.dashboard.played import WITHIN_S, Played, played

DOCS = Path(__file__).parents[2] / "docs"
CHROMIUM = "/usr/bin/chromium"
SIZE = {"width": 1280, "height": 900}
SHOWN = 1
"""the scale of a picture's points"""


def main() -> None:
    """Writes docs/home.png, docs/run.png and docs/incident.png."""
    with (
        tempfile.TemporaryDirectory(prefix="lastgood-shots-") as folder,
        played(Path(folder)) as stage,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        picture(browser, stage, "home", "/", stage.run)
        picture(browser, stage, "run", f"/runs/{stage.run}", "attempt")
        picture(browser, stage, "incident", f"/runs/{stage.run}/incidents/{rolled_back(stage)}", "Runbook")
        browser.close()


def rolled_back(stage: Played) -> str:
    """The incident that says most: one for which steps were trained again."""
    found = stage.lab.incidents(stage.run)
    return str(max(found, key=lambda one: (one["steps_lost"], len(one["evidence"])))["id"])


def picture(browser: Browser, stage: Played, name: str, path: str, text: str) -> None:
    """One page, once it shows `text` and its curves."""
    page = browser.new_context(viewport=SIZE, device_scale_factor=SHOWN).new_page()  # type: ignore[arg-type]
    page.goto(stage.url + path, timeout=WITHIN_S * 1000)
    expect(page.locator("main")).to_contain_text(text, timeout=WITHIN_S * 1000)
    page.wait_for_timeout(2000)  # curves are drawn after the numbers
    page.screenshot(path=str(DOCS / f"{name}.png"))
    print(f"docs/{name}.png")


if __name__ == "__main__":
    main()

"""What do the pages look like? `make screenshots`: a short run with faults, and three pictures for the README."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, ViewportSize, expect, sync_playwright

from tests.dashboard.played import WITHIN_S, Played, played
from tests.e2e.lab import gpt

DOCS = Path(__file__).parents[2] / "docs"
CHROMIUM = "/usr/bin/chromium"
SIZE: ViewportSize = {"width": 1280, "height": 440}
TALL: ViewportSize = {"width": 1280, "height": 900}


def main() -> None:
    """Writes docs/home.png, docs/run.png and docs/incident.png."""
    with (
        tempfile.TemporaryDirectory(prefix="lastgood-shots-") as folder,
        played(Path(folder)) as stage,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        others(stage)
        picture(browser, stage, "home", "/", "SUCCEEDED", size=SIZE)
        picture(browser, stage, "run", f"/runs/{stage.run}", "attempt")
        picture(browser, stage, "incident", f"/runs/{stage.run}/incidents/{rolled_back(stage)}", "Runbook")
        browser.close()


def others(stage: Played) -> None:
    """A run that cannot succeed, and one that has: home tells them apart."""
    lab = stage.lab
    broken = lab.submit(["-c", "raise FileNotFoundError('train.bin')"], name="finetune")
    short = lab.submit(gpt(lab.folder, steps=20), name="probe")
    deadline = time.monotonic() + WITHIN_S
    while {lab.status(broken)["state"], lab.status(short)["state"]} != {"HELD", "SUCCEEDED"}:
        assert time.monotonic() < deadline, lab.told(broken)
        time.sleep(0.2)


def rolled_back(stage: Played) -> str:
    """The incident that says most: one for which steps were trained again."""
    found = stage.lab.incidents(stage.run)
    return str(max(found, key=lambda one: (one["steps_lost"], len(one["evidence"])))["id"])


def picture(browser: Browser, stage: Played, name: str, path: str, text: str, *, size: ViewportSize = TALL) -> None:
    """One page, once it shows `text` and its curves."""
    page = browser.new_context(viewport=size).new_page()
    page.goto(stage.url + path, timeout=WITHIN_S * 1000)
    expect(page.locator("main")).to_contain_text(text, timeout=WITHIN_S * 1000)
    page.wait_for_timeout(2000)  # curves are drawn after the numbers
    page.screenshot(path=str(DOCS / f"{name}.png"))
    print(f"docs/{name}.png")


if __name__ == "__main__":
    main()

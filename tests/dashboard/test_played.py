"""Does all of it work together? A run trains through faults, every page is opened, every action done from the pages."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from orchestrator import contract
from tests.dashboard.conftest import Open, sync_api
from tests.dashboard.played import WITHIN_S, Played, played

pytestmark = pytest.mark.e2e
expect = sync_api.expect
LATE_MS = WITHIN_S * 1000
TABS = {
    "logs": "rank",
    "ranks": "2 ranks on 1 nodes",
    "checkpoints": "good",
    "config": "jobs.recipes.gpt",
    "incidents": "worker killed",
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """A run that was killed, and whose loss was no number, and that goes on."""
    with played(tmp_path_factory.mktemp("played"), (("kill", 1), ("nan", 1))) as made:
        yield made


def do(page: sync_api.Page, button: str, fill: dict[str, str] | None = None) -> None:
    """Presses a button, fills in what the dialog asks, and confirms."""
    page.locator("main").get_by_role("button", name=button, exact=True).first.click(timeout=LATE_MS)
    dialog = page.get_by_role("dialog")
    for label, text in (fill or {}).items():
        dialog.get_by_label(label).fill(text)
    dialog.locator("button[type=submit]").click()
    expect(dialog).to_have_count(0, timeout=LATE_MS)


def test_every_page_shows_the_run(stage: Played, visit: Open) -> None:
    home = f"/runs/{stage.run}"
    pages = {"/": stage.run, home: "RUNNING", "/nodes": "in a run"}
    pages |= {f"{home}/{tab}": text for tab, text in TABS.items()}
    for path, text in pages.items():
        page = visit(stage.url + path)
        expect(page.locator("main")).to_contain_text(text, timeout=LATE_MS)
        page.close()  # it would go on to follow the run
    page = visit(stage.url + home)
    expect(page.locator("#chart-loss .u-over")).to_be_visible(timeout=LATE_MS)
    step = page.locator(".kpis dd").first
    seen = step.inner_text()
    expect(step).not_to_have_text(seen, timeout=LATE_MS)
    page.get_by_role("tab", name="Incidents").click()
    # A busy machine may make a rank late before anything is done to one: the killed rank is not always i1.
    page.locator("main tr", has_text=re.compile("killed")).first.get_by_role("link", name=re.compile(r"^i\d+$")).click()
    expect(page.locator("main")).to_contain_text("From the fault to caught up", timeout=LATE_MS)
    expect(page.locator("#evidence")).to_contain_text("SIGKILL", timeout=LATE_MS)
    expect(page.locator("#runbook")).to_contain_text("Meaning")


@pytest.mark.long
def test_every_action_is_done(stage: Played, visit: Open) -> None:
    run, lab = stage.run, stage.lab
    page = visit(f"{stage.url}/runs/{run}/incidents/i1")
    do(page, "Add a note", {"Note": "the power strip"})
    expect(page.locator("#notes")).to_contain_text("the power strip", timeout=LATE_MS)
    do(page, "It was wrong", {"Why": "somebody pulled a plug"})
    expect(page.locator("#judgement")).to_contain_text("somebody pulled a plug", timeout=LATE_MS)
    do(page, "Acknowledge")
    expect(page.locator("#verdict")).to_contain_text("Acknowledged", timeout=LATE_MS)
    page.goto(f"{stage.url}/runs/{run}/checkpoints")
    do(page, "Pin")
    expect(page.locator(".panel")).to_contain_text("pinned", timeout=LATE_MS)
    page.goto(f"{stage.url}/runs/{run}")
    world = lab.status(run)["world"]
    do(page, "Restart …")
    lab.wait(run, lambda now: bool(now["world"] > world and now["state"] == "RUNNING"), within_s=WITHIN_S)
    do(page, "Pause", {"Why": "for the storage"})
    expect(page.locator("h1 + span")).to_have_text("PAUSED", timeout=LATE_MS)
    do(page, "Resume")
    expect(page.locator("h1 + span")).to_have_text("RUNNING", timeout=LATE_MS)
    do(page, "Stop")
    expect(page.locator("h1 + span")).to_have_text("STOPPED", timeout=LATE_MS)
    assert lab.status(run)["exit_code"] == 103
    told = " ".join(one["text"] for one in contract.story(lab.home, run)["sentences"])
    assert "for the storage" in told

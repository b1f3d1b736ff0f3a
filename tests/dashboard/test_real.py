"""Do the pages and the real server understand each other? Over a journal of the real core, nobody training."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dashboard.conftest import PATIENCE_MS, Open, sync_api
from tests.dashboard.played import serving

homes = pytest.importorskip("tests.api.homes")
expect = sync_api.expect
expect.set_options(timeout=PATIENCE_MS)
PAGES = {
    "": "world 2 is training",
    "/logs": "rank 1",
    "/checkpoints": "step-00000010",
    "/config": "HF_TOKEN",
    "/incidents": "worker killed",
    "/incidents/i1": "A worker process was killed",
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server over a folder that holds two runs."""
    home = homes.filled(tmp_path_factory.mktemp("real") / "home")
    with serving(home.root) as listening:
        yield listening


@pytest.mark.parametrize("path", PAGES)
def test_a_page_of_a_run_opens(path: str, url: str, visit: Open) -> None:
    page = visit(f"{url}/runs/{homes.RUN}{path}")
    expect(page.locator("main")).to_contain_text(PAGES[path])
    assert homes.SECRET not in page.content()


def test_home_says_who_needs_a_person_and_that_nobody_watches(url: str, visit: Open) -> None:
    page = visit(url)
    expect(page.locator("main")).to_contain_text("Need attention (2)")
    expect(page.locator("main")).to_contain_text("crash_loop")
    expect(page.locator(".beat")).to_contain_text("supervisor away")
    page.get_by_role("link", name=homes.HELD).click()
    expect(page.locator("h1 + span")).to_have_text("HELD")


def test_ranks_need_a_supervisor_and_say_so(url: str, visit: Open) -> None:
    page = visit(f"{url}/runs/{homes.RUN}/ranks", expected=("503",))
    expect(page.locator(".panel .notice")).to_contain_text("supervisor")


def test_an_action_without_a_supervisor_is_refused_in_words(url: str, visit: Open) -> None:
    page = visit(f"{url}/runs/{homes.RUN}", expected=("503", "409"))
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).not_to_be_empty()

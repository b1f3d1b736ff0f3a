"""Do the pages show what the server says, to everybody, and nothing else? Over a stand-in with odd answers."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.dashboard import made
from tests.dashboard.conftest import PATIENCE_MS, Open, sync_api
from tests.dashboard.fake import Fake

expect = sync_api.expect
expect.set_options(timeout=PATIENCE_MS)
RUN = f"/runs/{made.RUN}"
COLOURS = """() => {
    const canvas = document.querySelector('#chart-loss canvas');
    const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    const found = {};
    for (let n = 0; n < pixels.length; n += 4) {
        const colour = [pixels[n], pixels[n + 1], pixels[n + 2]].join();
        if (pixels[n + 3] > 250) found[colour] = (found[colour] ?? 0) + 1;
    }
    return found;
}"""
"""of the pixels of the loss chart, how many have each"""


def test_who_needs_a_person_comes_first_and_why(fake: Fake, visit: Open) -> None:
    page = visit(fake.url)
    sections = page.locator("main section")
    expect(sections.nth(0)).to_contain_text("Need attention (2)")
    expect(sections.nth(0).locator("tbody tr").nth(0)).to_contain_text("the same exception at step 1204 three times")
    expect(sections.nth(0).locator("tbody tr").nth(0)).to_contain_text("critical")
    expect(sections.nth(2)).to_contain_text("Ended (2)")
    expect(page.locator("#bar")).to_contain_text("2 runs need attention")
    fake.rows["vision-a2x7c"] |= {"attention": [], "state": "RUNNING"}
    fake.tell("runs", {"at": made.NOW, "rows": [fake.rows["vision-a2x7c"]]})
    expect(page.locator("#bar")).to_contain_text("1 run needs attention")
    expect(sections.nth(0).locator("tbody tr")).to_have_count(1)


def test_no_runs_say_how_to_begin(fake: Fake, visit: Open) -> None:
    fake.rows.clear()
    expect(visit(fake.url).locator("main")).to_contain_text("lastgood submit run.yaml")


def test_a_run_tells_its_course_and_an_incident_is_one_click_away(fake: Fake, visit: Open) -> None:
    page = visit(fake.url + RUN)
    expect(page.locator(".sentence")).to_have_text(fake.rows[made.RUN]["sentence"])
    expect(page.locator(".kpis")).to_contain_text("most lost: recomputed 3 min 21 s")
    expect(page.locator(".legend")).to_contain_text("trained again later")
    page.get_by_role("listitem", name="i2: hang").click()
    expect(page.locator("h1")).to_have_text("i2: The run hangs, a rank has stopped moving")
    assert page.url.endswith("/incidents/i2")
    page.go_back()
    expect(page.locator(".sentence")).to_have_text(fake.rows[made.RUN]["sentence"])


def test_the_timeline_and_the_charts_share_what_is_shown(fake: Fake, visit: Open) -> None:
    page = visit(fake.url + RUN)
    chart = page.locator("#chart-loss .u-over")
    expect(chart).to_be_visible()
    page.locator(".hero .body").focus()
    with page.expect_response(lambda answer: "/series" in answer.url and "from=" in answer.url):
        page.keyboard.press("+")
    expect(page.get_by_role("button", name="All")).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("0")
    expect(page.get_by_role("button", name="All")).to_have_attribute("aria-pressed", "true")
    box = chart.bounding_box()
    assert box is not None
    with page.expect_response(lambda answer: "/timeline" in answer.url and "from=" in answer.url):
        page.mouse.move(box["x"] + 200, box["y"] + 60)
        page.mouse.down()
        page.mouse.move(box["x"] + 500, box["y"] + 60, steps=4)
        page.mouse.up()


def test_what_was_rolled_back_is_grey_and_what_is_no_number_is_marked(fake: Fake, visit: Open) -> None:
    page = visit(fake.url + RUN)
    expect(page.locator("#chart-loss .u-over")).to_be_visible()
    colours = page.evaluate(COLOURS)
    for name, least in (("curve-old", 20), ("curve", 100), ("bad", 2)):
        shade = page.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}')").lstrip("#")
        wanted = [int(shade[n : n + 2], 16) for n in (0, 2, 4)]
        near = [count for each, count in colours.items() if distance(each, wanted) < 24]
        assert sum(near) >= least, name


def distance(colour: str, wanted: list[int]) -> int:
    """Of a pixel, `r,g,b`; lines have soft edges."""
    return sum(abs(int(one) - other) for one, other in zip(colour.split(","), wanted, strict=True))


def test_a_tab_has_an_address_that_survives_a_reload(fake: Fake, visit: Open) -> None:
    page = visit(fake.url + RUN)
    page.get_by_role("tab", name="Checkpoints").click()
    assert page.url.endswith("/checkpoints")
    page.reload()
    expect(page.locator(".panel")).to_contain_text("step-00048000.a2w7")
    page.go_back()
    expect(page.locator(".panel")).to_contain_text("Sentence number 159.")


def test_the_map_of_ranks_is_read_from_the_keyboard_and_leads_to_logs(fake: Fake, visit: Open) -> None:
    page = visit(f"{fake.url}{RUN}/ranks")
    expect(page.locator(".panel tbody tr").first).to_contain_text("82 °C")
    page.locator(".ranks canvas").focus()
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    expect(page.locator(".panel [role=status]")).to_contain_text("rank 5 on node000.cluster, named by an open incident")
    page.keyboard.press("Enter")
    expect(page.get_by_role("tab", name="Logs")).to_have_attribute("aria-selected", "true")
    assert "source=2%2F0%2F7%2F5%2Fstderr" in page.url


def test_what_a_run_says_is_shown_and_never_done(fake: Fake, visit: Open) -> None:
    text = made.HOSTILE
    fake.rows = {
        text: made.row(
            text,
            name=text,
            reason=text,
            sentence=text,
            tracker="javascript:alert(3)",
            attention=[{"code": "held", "severity": "critical", "text": text, "incident": "i2"}],
        )
    }
    for one in fake.incidents:
        one |= {"evidence": [text], "actions": [text], "kind": "hang", "drill": text}
    fake.notes = [{"at": made.NOW, "by": text, "text": text}]
    fake.lines.append([30_000, text, "error"])
    fake.config = {"yaml": text, "resolved": {text: text}, "revisions": []}
    fake.timeline["markers"][0] |= {"text": text}
    fake.ranks["nodes"][0]["host"] = text
    fake.session["host"] = text
    name = f"/runs/{quote(text, safe='')}"
    page = visit(f"{fake.url}/nodes")
    page.on("dialog", lambda dialog: pytest.fail(f"something ran: {dialog.message}"))
    for path in (
        "/",
        name,
        *(f"{name}/{tab}" for tab in ("logs", "ranks", "config", "incidents")),
        f"{name}/incidents/i2",
    ):
        page.goto(fake.url + path)
        expect(page.locator("main")).to_contain_text("<img src=x onerror=alert(1)>")
        assert page.locator("img, script:not([src])").count() == 0
        assert (
            page.evaluate("[...document.querySelectorAll('a')].filter(a => a.protocol === 'javascript:').length") == 0
        )
        assert page.title() != "owned"
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_an_unknown_address_says_so(fake: Fake, visit: Open) -> None:
    expect(visit(f"{fake.url}/nowhere").locator("h1")).to_have_text("No such page")
    page = visit(f"{fake.url}/runs/no-such-run", expected=("404",))
    expect(page.locator("main")).to_contain_text("There is nothing at /api/runs/no-such-run")

"""Is what happens on the screen at once, and without a jump?"""

from __future__ import annotations

from typing import Any

import pytest

from tests.dashboard import made, made_pages
from tests.dashboard.conftest import PATIENCE_MS, Open, sync_api
from tests.dashboard.fake import Fake

expect = sync_api.expect
expect.set_options(timeout=PATIENCE_MS)
RUN = f"/runs/{made.RUN}"
WATCH_SHIFTS = """new PerformanceObserver(list => {
    for (const one of list.getEntries()) window.shifted = (window.shifted ?? 0) + one.value;
}).observe({type: 'layout-shift'})"""
DRAW_RANKS = """() => {
    const before = performance.now();
    const canvas = document.querySelector('.ranks canvas');
    const press = () => canvas.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}));
    for (let n = 0; n < 20; n++) press();
    return (performance.now() - before) / 20;
}"""
"""milliseconds to draw the map of ranks once"""


def test_what_goes_on_is_added_to_the_charts_without_reading_anew(fake: Fake, visit: Open) -> None:
    page = visit(fake.url + RUN)
    loss = page.locator("#chart-loss .value")
    expect(loss).to_contain_text("loss 2.2")
    before = sum("/series" in one for one in fake.asked)
    fake.tell("points", {"at": made.NOW, "run": made.RUN, "series": {"loss": [[made.NOW + 1, 48_211, 1.5, 7]]}})
    expect(loss).to_have_text("loss 1.5")
    kpi = fake.kpi(made.RUN) | {"loss": 1.25}
    fake.tell("kpi", {"at": made.NOW, "run": made.RUN, "kpi": kpi})
    expect(page.locator(".kpis")).to_contain_text("1.250")
    assert sum("/series" in one for one in fake.asked) == before


def test_logs_begin_with_the_culprit_and_can_be_searched_and_followed(fake: Fake, visit: Open) -> None:
    page = visit(f"{fake.url}{RUN}/logs")
    expect(page.locator(".panel")).to_contain_text("rank 9, stderr")
    box = page.locator(".log")
    expect(box.locator(".error")).to_have_count(2)
    assert box.evaluate("e => e.scrollHeight - e.scrollTop - e.clientHeight") < 4, "it shows the end"
    fake.lines.append([24_100, "the last word", ""])
    expect(box).to_contain_text("the last word")
    page.get_by_role("button", name="Older lines").click()
    expect(box).to_contain_text("step 100 ")
    page.get_by_label("Only lines with").fill("MEMORY")
    page.keyboard.press("Enter")
    expect(box.locator("div")).to_have_count(1)
    expect(box.locator("mark")).to_have_text("memory")


def test_events_come_by_themselves_and_older_ones_when_asked(fake: Fake, visit: Open) -> None:
    page = visit(fake.url + RUN)
    panel = page.locator(".panel")
    expect(panel).to_contain_text("Sentence number 159.")
    page.get_by_role("button", name="Older events").click()
    expect(panel).to_contain_text("Sentence number 40.")
    new = fake._event(500) | {"sentences": ["World 8 trains."]}
    fake.tell("entries", {"run": made.RUN, "events": [new]})
    expect(panel.locator("tbody tr").first).to_contain_text("World 8 trains.")


def test_silence_of_the_supervisor_and_of_the_server_is_red(fake: Fake, visit: Open) -> None:
    page = visit(fake.url, expected=("ERR_",))
    beat = page.locator(".beat")
    expect(beat).to_have_text("supervisor heard now")
    fake.tell("supervisor", {"at": made.NOW, "alive": False, "seen_at": made.NOW - 12})
    expect(beat).to_contain_text("supervisor away 12")
    expect(beat).to_have_class("beat badge bad")
    # It beats each 2 to 3 s, which is told each 2 s; a dying disk may hold it up.
    fake.tell("supervisor", {"at": made.NOW, "alive": True, "seen_at": made.NOW - 6.5})
    expect(beat).to_have_text("supervisor heard now", timeout=2000)
    fake.tell("supervisor", {"at": made.NOW, "alive": True, "seen_at": made.NOW + 60})
    expect(beat).to_have_text("supervisor heard now")
    fake.drop()
    expect(beat).to_have_text("not live")
    expect(beat).to_have_text("supervisor heard now")


def test_the_focus_stays_where_it_is_while_rows_move(fake: Fake, visit: Open) -> None:
    held, late = made.held(), made.late()
    (why,) = held["attention"]
    page = visit(fake.url)
    rows = page.locator("main section:visible tbody tr")

    def moved(**changes: Any) -> None:
        fake.tell(
            "runs", {"at": made.NOW, "rows": [late | changes, held | {"attention": [why | {"severity": "info"}]}]}
        )

    link = page.get_by_role("link", name=late["run"])
    expect(rows.nth(1)).to_contain_text(late["run"])
    link.focus()
    hangs = late["attention"][0]
    moved(attention=[hangs | {"severity": "critical"}])
    expect(rows.nth(0)).to_contain_text(late["run"])
    expect(link).to_be_focused()
    link.press("j")
    expect(page.get_by_role("link", name=held["run"])).to_be_focused()
    reason = page.get_by_role("link", name=hangs["text"])
    reason.focus()
    moved(attention=[hangs | {"severity": "info"}])  # its cell is drawn anew, too
    expect(rows.nth(1)).to_contain_text(late["run"])
    expect(reason).to_be_focused()
    link.focus()
    moved(attention=[])  # to the table of those that go on
    expect(rows.nth(0)).to_contain_text(held["run"])
    expect(page.locator("section", has_text="Active").locator("tr", has_text=late["run"])).to_be_visible()
    expect(link).to_be_focused()


MEASURES = "performance.getEntriesByName('event-to-pixel').map(one => one.duration)"


@pytest.mark.alone
def test_an_event_is_on_the_screen_within_a_tenth_of_a_second_with_200_runs(fake: Fake, visit: Open) -> None:
    fake.rows = {row["run"]: row for row in made.fleet(200)}
    page = visit(fake.url)
    expect(page.locator("tbody tr")).to_have_count(200)
    page.evaluate(WATCH_SHIFTS)
    page.evaluate("performance.clearMeasures()")
    for n in range(1, 31):
        fake.tell("progress", {"at": made.NOW, "runs": [[run, 50_000 + n, made.NOW] for run in fake.rows]})
        expect(page.locator("tbody tr", has_text=made.RUN)).to_contain_text(f"50\u202f{n:03d}")
    took = sorted(page.evaluate(MEASURES))
    assert len(took) >= 20
    print(f"event to pixel, 200 rows: median {took[len(took) // 2]:.1f} ms, longest {took[-1]:.1f} ms")
    assert took[len(took) // 2] < 100
    assert page.evaluate("window.shifted ?? 0") < 0.01, "what is read must not jump"


def test_the_map_of_1024_ranks_is_live(fake: Fake, visit: Open) -> None:
    fake.ranks = made_pages.ranks(1024)
    page = visit(f"{fake.url}{RUN}/ranks")
    expect(page.locator(".panel")).to_contain_text("1\u202f024 ranks on 128 nodes")
    page.evaluate("performance.clearMeasures()")
    for n in (7, 8, 9):
        fake.ranks["ranks"]["lag"][1000] = n
        fake.tell("ranks", fake.ranks, asked="ranks=1")
        expect(page.locator(".panel tbody tr", has=page.get_by_role("link", name="1000"))).to_contain_text(str(n))
    drawn = page.evaluate(DRAW_RANKS)
    print(f"one drawing of 1,024 ranks: {drawn:.1f} ms")
    assert drawn < 50

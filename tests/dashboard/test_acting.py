"""Does every action say what it will do, and do it, for those who may, with the mouse and without?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.dashboard import made
from tests.dashboard.conftest import PATIENCE_MS, Open, sync_api
from tests.dashboard.fake import Fake

expect = sync_api.expect
expect.set_options(timeout=PATIENCE_MS)
RUN = f"/runs/{made.RUN}"
Act = tuple[str, str, str, dict[str, str], dict[str, Any], str]
"""action, page, button, what is filled in, what is sent, the command that is shown"""
ACTIONS: list[Act] = [
    ("stop", RUN, "Stop", {}, {"now": False}, f"lastgood stop {made.RUN}"),
    ("stop", RUN, "Stop", {"At once": ""}, {"now": True}, f"lastgood stop {made.RUN} --now"),
    (
        "pause",
        RUN,
        "Pause",
        {"Why": "for the storage"},
        {"why": "for the storage"},
        f"lastgood pause {made.RUN} 'for the storage'",
    ),
    ("restart", RUN, "Restart …", {"Nodes": "1"}, {"without": 1}, f"lastgood restart {made.RUN} --exclude 1"),
    (
        "resume",
        "/runs/vision-a2x7c",
        "Resume",
        {"From step": "400"},
        {"from_step": 400},
        "lastgood resume vision-a2x7c --from-step 400",
    ),
    (
        "acknowledge",
        f"{RUN}/incidents/i2",
        "Acknowledge",
        {},
        {"incident": "i2"},
        f"lastgood incident ack {made.RUN} i2",
    ),
    (
        "note",
        f"{RUN}/incidents/i2",
        "Add a note",
        {"Note": "it's the switch"},
        {"incident": "i2", "text": "it's the switch"},
        f"lastgood incident note {made.RUN} i2 'it'\\''s the switch'",
    ),
    (
        "resolve",
        f"{RUN}/incidents/i6",
        "Resolve",
        {"What was done": "cable replaced"},
        {"incident": "i6", "text": "cable replaced"},
        f"lastgood incident resolve {made.RUN} i6 'cable replaced'",
    ),
    (
        "judge",
        f"{RUN}/incidents/i2",
        "It was wrong",
        {"Why": "a slow disk"},
        {"incident": "i2", "right": False, "text": "a slow disk"},
        f"lastgood incident judge {made.RUN} i2 wrong 'a slow disk'",
    ),
    (
        "pin",
        f"{RUN}/checkpoints",
        "Pin",
        {},
        {"checkpoint": "step-00048200.a2w7", "pinned": True},
        f"lastgood ckpt pin {made.RUN} step-00048200.a2w7",
    ),
]


@pytest.mark.parametrize("case", ACTIONS, ids=lambda case: f"{case[0]}-{case[2].split()[-1]}-{len(case[3])}")
def test_an_action_says_what_will_happen_and_does_it(case: Act, fake: Fake, visit: Open) -> None:
    action, path, text, fields, body, cli = case
    page = visit(fake.url + path)
    page.locator("main").get_by_role("button", name=text, exact=True).first.click()
    dialog = page.get_by_role("dialog")
    for label, value in fields.items():
        field = dialog.get_by_label(label)
        if not value:
            field.check()
        elif field.evaluate("e => e.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)
    expect(dialog.locator(".cli code")).to_have_text(cli)
    assert fake.done == [], "nothing is done before it is said"
    dialog.locator("button[type=submit]").click()
    expect(dialog).to_have_count(0)
    assert fake.done == [(path.split("/")[2], action, body)]
    expect(page.locator("#said")).to_contain_text("the supervisor has it")


def test_what_was_done_is_shown(fake: Fake, visit: Open) -> None:
    page = visit(f"{fake.url}{RUN}/incidents/i2")
    fake.act(made.RUN, "note", {"incident": "i2", "text": "the switch was replaced"})
    expect(page.locator("#notes")).to_contain_text("the switch was replaced")
    fake.act(made.RUN, "judge", {"incident": "i2", "right": True, "text": ""})
    expect(page.locator("#judgement")).to_contain_text("right")
    fake.act(made.RUN, "acknowledge", {"incident": "i2"})
    expect(page.locator("#verdict")).to_contain_text("Acknowledged")


def test_a_refusal_is_told_and_the_dialog_stays(fake: Fake, visit: Open) -> None:
    fake.refuse = (409, "not_running", "gpt-k3f9q is not running: it ended a second ago")
    page = visit(fake.url + RUN, expected=("409",))
    page.get_by_role("button", name="Stop").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Stop").click()
    expect(dialog).to_contain_text("it ended a second ago")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)


@pytest.mark.parametrize("path", [RUN, f"{RUN}/incidents/i2", f"{RUN}/checkpoints"])
def test_a_viewer_sees_why_he_may_not(path: str, fake: Fake, visit: Open) -> None:
    fake.session |= {"login": True, "role": "viewer", "name": "guest"}
    page = visit(fake.url + path)
    shown = page.locator("main button[data-action]")
    expect(shown.first).to_be_visible()
    for n in range(shown.count()):
        expect(shown.nth(n)).to_have_attribute("aria-disabled", "true")
        expect(shown.nth(n)).to_have_attribute("title", "a viewer cannot act")
    shown.first.click(force=True)
    expect(page.locator("#said")).to_contain_text("a viewer cannot act")
    assert page.get_by_role("dialog").count() == 0


def test_a_login_is_needed_where_it_is_and_leads_where_one_wanted(fake: Fake, visit: Open) -> None:
    fake.session |= {"login": True, "role": None, "name": None, "csrf": None}
    page = visit(f"{fake.url}{RUN}/incidents/i2", expected=("401",))
    page.get_by_label("Token").fill("guessed")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This token is not known.")
    page.get_by_label("Token").fill(fake.token)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("i2:")
    assert fake.token not in page.url + json.dumps(fake.asked) + page.evaluate(
        "JSON.stringify(localStorage) + document.documentElement.outerHTML"
    )
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Token")).to_be_visible()


def test_everything_can_be_done_from_the_keyboard(fake: Fake, visit: Open) -> None:
    page = visit(fake.url)
    expect(page.locator("tbody tr").first).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("next, previous row")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)  # it gives the focus back as it goes
    expect(page.locator("main tbody tr").nth(2).locator("a").first).to_have_text(made.RUN)
    for _ in range(9):  # three rows down; a slow machine may take the focus back once, when the sheet is gone
        page.keyboard.press("j")
        if page.evaluate("document.activeElement.textContent") == made.RUN:
            break
    expect(page.locator(":focus")).to_have_text(made.RUN)
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(made.RUN)
    page.keyboard.press("4")
    expect(page.locator(".panel")).to_contain_text("step-00048000.a2w7")
    page.keyboard.press("a")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("Stop this run")
    page.keyboard.press("Escape")
    page.goto(f"{fake.url}{RUN}/incidents/i2")
    expect(page.locator("[data-step='1']")).to_be_visible()
    page.keyboard.press("]")
    expect(page.locator("h1")).to_contain_text("i3:")
    page.keyboard.press("u")
    expect(page.locator("h1")).to_have_text(made.RUN)
    page.keyboard.press("g")
    page.keyboard.press("n")
    expect(page.locator("h1")).to_have_text("Nodes")
    page.keyboard.press("/")
    page.keyboard.type("visi")
    expect(page.get_by_role("option")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("vision-a2x7c")
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"

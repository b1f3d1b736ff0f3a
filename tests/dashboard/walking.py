"""What does a person do on the pages while a run goes on? Looks, asks what a button means, copies it, presses it."""

from __future__ import annotations

import os
import time
from typing import Any

from orchestrator import contract
from tests.dashboard.conftest import Open, sync_api
from tests.dashboard.played import WITHIN_S
from tests.dashboard.staged import Staged

expect = sync_api.expect
LATE_MS = WITHIN_S * 1000


class Person:
    """One browser, one page at a time."""

    def __init__(self, stage: Staged, visit: Open) -> None:
        self.stage = stage
        self.run = f"/runs/{stage.run}"
        self.page = visit(stage.url + self.run, expected=("503",))
        self.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.refused: list[str] = []
        self.page.on("response", lambda answer: answer.status < 400 or self.refused.append(answer.url))

    def look(self, path: str, *texts: str, at: str = "main") -> None:
        """Opens a page, and finds these texts there."""
        self.page.goto(self.stage.url + path)
        for text in texts:
            expect(self.page.locator(at)).to_contain_text(text, timeout=LATE_MS)

    def state(self, state: str) -> None:
        """Waits for the run's page, which is open, to say so by itself."""
        expect(self.page.locator("h1 + span")).to_have_text(state, timeout=LATE_MS)

    def do(self, button: str, command: str, **fill: str) -> None:
        """Presses a button of the page, copies the command that does the same, and confirms."""
        self.page.locator("main").get_by_role("button", name=button, exact=True).first.click(timeout=LATE_MS)
        dialog = self.page.get_by_role("dialog")
        for label, text in fill.items():
            dialog.get_by_label(label).fill(text)
        expect(dialog.locator(".cli code")).to_have_text(f"lastgood {command}")
        dialog.get_by_role("button", name="Copy").click()
        until = time.monotonic() + WITHIN_S
        while self.page.evaluate("navigator.clipboard.readText()") != f"lastgood {command}":
            assert time.monotonic() < until, f"{command} is not copied"
            self.rest()
        while dialog.count():
            assert time.monotonic() < until, dialog.inner_text()
            if (confirm := dialog.locator("button[type=submit]:enabled")).count():  # not at once if nobody supervises
                confirm.click()
            self.rest()

    def rest(self) -> None:
        """A moment, in which the page goes on."""
        self.page.wait_for_timeout(200)

    # The pages

    def tour(self, state: str) -> None:
        """Every page, while the run is in a state; what they show is what the journal says."""
        run, home = self.stage.run, self.stage.lab.home
        status = contract.status(home, run)
        assert status["state"] == state
        there = [node for node in status["nodes"] if node["joined_at"] is not None and node["gone_at"] is None]
        self.look("/", run, state, f"attempt {status['attempt']}, {len(there)} of 1 node")
        self.look(self.run, status["reason"])
        self.state(state)
        expect(self.page.locator("#chart-loss .u-over")).to_be_visible(timeout=LATE_MS)
        expect(self.page.locator(".kpis dd").first).to_have_text(str(status["step"]))
        saves = contract.checkpoints(home, run)["checkpoints"]
        self.look(f"{self.run}/checkpoints", *(text for save in saves for text in (save["name"], save["state"])))
        self.rows(len(saves))
        self.look(f"{self.run}/events", contract.story(home, run)["sentences"][-1]["text"], at=".panel")
        self.look(f"{self.run}/logs", "world", at=".panel")
        expect(self.page.locator(".log div").first).to_be_visible(timeout=LATE_MS)
        self.look(f"{self.run}/config", "jobs.recipes.gpt", "--poison 190:206", at=".panel")
        incidents = self.stage.lab.incidents(run)
        self.look(f"{self.run}/incidents", *(one["kind"].replace("_", " ") for one in incidents))
        self.rows(len(incidents))
        self.look("/nodes", os.uname().nodename, run)
        self.look("/alerts", "pager", "hook", "mail", "pagerduty", "webhook", "smtp", "every run, every kind")
        drills = sum(one["drill"] is not None and one["response"] != "observe" for one in incidents)
        self.look("/reports?days=30", "1 run", f"{drills} drills besides")

    def rows(self, count: int) -> None:
        """The table below has so many."""
        expect(self.page.locator(".panel tbody tr")).to_have_count(count, timeout=LATE_MS)

    # Incidents

    def see_to(self, id_: str) -> None:
        """Reads the page of an incident, says all that can be said about it, and waits until it is over."""
        run = self.stage.run
        self.look(f"{self.run}/incidents/{id_}", f"{id_}: ", *self.facts(id_))
        self.do("Add a note", f"incident note {run} {id_} 'seen, {id_}'", Note=f"seen, {id_}")
        expect(self.page.locator("#notes")).to_contain_text(f"seen, {id_}", timeout=LATE_MS)
        right = id_ != "i1"
        word = "right" if right else "wrong"
        self.do(f"It was {word}", f"incident judge {run} {id_} {word} 'because'", Why="because")
        expect(self.page.locator("#judgement")).to_contain_text("because", timeout=LATE_MS)
        self.do("Acknowledge", f"incident ack {run} {id_}")
        expect(self.page.locator("#verdict")).to_contain_text("Acknowledged", timeout=LATE_MS)
        expect(self.page.locator("h1 + span")).to_contain_text("over", timeout=LATE_MS)
        for text in self.facts(id_):
            expect(self.page.locator("main")).to_contain_text(text)

    def facts(self, id_: str) -> list[str]:
        """What the journal says of an incident, in the words of the page."""
        one = next(one for one in self.stage.lab.incidents(self.stage.run) if one["id"] == id_)
        named = [f"{name} {value}" for name, value in one["subject"].items() if value is not None]
        facts = [
            one["kind"].replace("_", " "),
            " ".join(named),
            f"{int(100 * one['confidence'] + 0.5)} %",
            *one["evidence"],
        ]
        facts += ["Meaning", "Mitigation", "From the fault to caught up"]
        facts += [f"drill: {one['drill']}"] if one["drill"] else []
        return facts + ([f"from step {one['resumed_from_step']}"] if one["resumed_from_step"] is not None else [])

    def said(self, one: dict[str, Any]) -> bool:
        """Whether the journal has what was said about an incident."""
        notes = [note["text"] for note in one["notes"]]
        return (one["acknowledged_by"], notes, one["judged_right"], one["judged_text"]) == (
            "a person",
            [f"seen, {one['id']}"],
            one["id"] != "i1",
            "because",
        )

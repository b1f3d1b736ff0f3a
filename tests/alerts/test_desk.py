"""Who is told of what, and when? The real core decides about a run; the desk hears of it, and looks every second."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from monitors.incidents import Incident, Kind, Subject
from orchestrator.alerts.message import Act
from orchestrator.alerts.rules import Route, Silence
from orchestrator.core import events as e
from orchestrator.core.actions import Alert
from orchestrator.core.policy import Rung, Severity
from orchestrator.core.state import Phase
from orchestrator.journal import Entry
from orchestrator.runbooks import load
from tests.alerts.watched import ALL, PAGER, TEAM, Watched, check, rules
from tests.story.scripted import RUN, T0, Script

POLICY = load()


def trained() -> Script:
    return Script().join().begin(0).train(50).save().train(10)


def held(script: Script) -> Script:
    """Whatever holds it, it is held in the end."""
    script.take(e.AttemptEnded(at=script.wait(1).now, attempt=script.state.attempt))
    assert script.state.phase is Phase.HELD
    return script


def test_a_healthy_run_tells_nobody_but_who_asked_for_it() -> None:
    script = trained().train(500).finish()
    desk = Watched().hear(RUN, script.entries).wait(3600)
    assert desk.to(PAGER) == desk.to(TEAM) == []
    assert desk.acts(ALL) == [("note", "run_started"), ("note", "run_succeeded")]
    assert desk.state.digest == ()
    assert desk.state.threads == {}


def test_a_fault_that_recovers_wakes_nobody_and_is_in_the_digest() -> None:
    script = trained().fail(Kind.WORKER_KILLED).stop().begin(50).train(60).save().train(20)
    desk = Watched().hear(RUN, script.entries).wait(60)
    assert desk.to(PAGER) == desk.to(TEAM) == []
    assert desk.acts(ALL) == [("note", "run_started"), ("note", "worker_killed")]
    desk.look(digest=10)
    assert desk.to(TEAM) == [], "what was there before there were digests is not sent at once"
    desk.look(digest=11)
    digest = desk.to(TEAM)[-1]
    assert digest.act is Act.NOTE
    assert "1 times worker killed, recovered in" in dict(digest.facts)["what"]
    assert "10 steps" in dict(digest.facts)["what"]
    desk.look(digest=12)
    assert len(desk.to(TEAM)) == 1, "nothing is in two digests"


def test_a_run_that_is_held_is_one_thread_from_the_page_to_the_end() -> None:
    script = held(trained().fail(Kind.CRASH_LOOP, fingerprint="x"))
    desk = Watched().hear(RUN, script.entries)
    assert desk.acts(PAGER) == desk.acts(TEAM) == [("opened", "crash_loop")]
    page = desk.to(PAGER)[0]
    assert page.severity is Severity.CRITICAL
    assert page.thread == f"lastgood/{RUN}/i1/crash_loop"
    facts = dict(page.facts)
    assert "first evidence" in facts["what"]
    assert f"{RUN}, attempt 1, world 1, step 60" in facts["where"]
    assert "rank 1" in facts["where"]
    assert "the run is held" in facts["now"]
    assert f"lastgood incident show {RUN} i1" in facts["look"]
    assert f"lastgood resume {RUN}" in facts["do"]
    script.take(e.ResumeRequested(at=script.wait(600).now, by="ada"))
    desk.hear(RUN, script.entries[-1:])
    assert desk.acts(PAGER)[-1] == ("resolved", "crash_loop")
    check(desk.told)


def test_what_stands_is_said_again_until_somebody_knows_of_it() -> None:
    desk = Watched(every_s=60).hear(RUN, held(trained().fail(Kind.CRASH_LOOP)).entries).wait(4 * 3600 + 120)
    assert [act for act, _ in desk.acts(PAGER)] == ["opened", "updated"]
    known = e.IncidentAcknowledged(at=desk.now, by="ada", incident="i1")
    desk.hear(RUN, [Entry(id=0, event=known, phase=Phase.HELD)])
    desk.wait(9 * 3600)
    assert [act for act, _ in desk.acts(PAGER)] == ["opened", "updated", "updated"]
    assert desk.to(PAGER)[-1].acknowledged_by == "ada"


def test_nobody_who_knows_of_it_is_the_next_step_of_an_escalation() -> None:
    boss = Route(to="boss", severity=Severity.CRITICAL, after_s=900)
    of = rules(routes=(*rules().routes, boss))
    entries = held(trained().fail(Kind.CRASH_LOOP)).entries
    desk = Watched(of, every_s=10).hear(RUN, entries).wait(800)
    assert desk.to("boss") == []
    assert desk.wait(200).acts("boss") == [("opened", "crash_loop")]
    other = Watched(of, every_s=10).hear(RUN, entries).wait(60)
    said = e.IncidentAcknowledged(at=other.now, by="ada", incident="i1")
    other.hear(RUN, [Entry(id=0, event=said, phase=Phase.HELD)]).wait(3600)
    assert other.to("boss") == []


def test_a_recovery_gets_worse_by_taking_long() -> None:
    script = trained().fail(Kind.HANG)
    desk = Watched(every_s=10).hear(RUN, script.entries)
    assert desk.wait(60).acts(ALL)[-1] == ("opened", "hang")
    assert desk.wait(700).to(TEAM) == []
    assert desk.wait(200).acts(TEAM) == [("opened", "hang")]
    assert desk.to(TEAM)[0].severity is Severity.ERROR
    assert desk.wait(2400).to(PAGER) == []
    assert desk.wait(400).acts(PAGER) == [("opened", "hang")]
    assert [message.severity for message in desk.to(TEAM)] == [Severity.ERROR, Severity.CRITICAL]
    script.now = desk.now
    script.stop().begin(50).train(5)
    assert len(desk.hear(RUN, script.entries[-6:]).wait(400).to(PAGER)) == 2, "it trains again, which is news"
    assert "the run trains again" in desk.to(PAGER)[-1].title
    seen = len(script.entries)
    script.now = desk.now
    script.train(100)
    desk.hear(RUN, script.entries[seen:])
    assert [message.act for message in desk.to(PAGER)][-1] is Act.RESOLVED
    check(desk.told)


PAGED = frozenset({Kind.CODE_DIVERGENCE, Kind.CRASH_LOOP, Kind.SAVE_FAILED, Kind.RESUME_MISMATCH})
"""kinds that a person is woken for at once, as their runbooks stand"""
OBSERVED = frozenset(kind for kind in Kind if POLICY.responses[kind].ladder == (Rung.OBSERVE,))


@pytest.mark.parametrize("kind", list(Kind))
def test_each_kind_is_one_thread_for_exactly_those_who_should_know(kind: Kind) -> None:
    script = trained()
    script.take(e.PolicyChanged(at=script.now, policy=POLICY))
    script.take(incident(kind, script, evidence=("one sense", "another"), subject=Subject(node=0, rank=1)))
    desk = Watched(every_s=5).hear(RUN, script.entries).wait(120)
    key = f"lastgood/{RUN}/i1/{kind}"
    assert [key for key in desk.threads(ALL) if "/i" in key] == [key]
    assert list(desk.threads(PAGER)) == list(desk.threads(TEAM)) == ([key] if kind in PAGED else [])
    desk.wait(1000)  # and nothing recovers
    late = kind in PAGED or kind not in OBSERVED or kind is Kind.NODE_UNSEEN
    assert list(desk.threads(TEAM)) == ([key] if late else [])
    assert list(desk.threads(PAGER)) == ([key] if kind in PAGED else [])
    check(desk.told)


def test_a_thread_is_not_opened_before_the_cause_is_known_but_a_page_is_not_put_off() -> None:
    desk = Watched().hear(RUN, trained().fail(Kind.HANG).entries)
    assert desk.acts(ALL) == [("note", "run_started")]
    assert desk.wait(29).acts(ALL) == [("note", "run_started")]
    assert desk.wait(2).acts(ALL)[1:] == [("opened", "hang")]
    assert Watched().hear(RUN, held(trained().fail(Kind.CRASH_LOOP)).entries).acts(PAGER)


def incident(kind: Kind, script: Script, **changes: Any) -> e.IncidentDetected:
    at = script.now
    values: dict[str, Any] = {"at": at, "onset": at, "world": script.state.world, "step": script.state.step}
    return e.IncidentDetected(at=at, incident=Incident(kind=kind, **{**values, **changes}))


def test_what_is_observed_and_lasts_is_an_error_after_a_while_and_ends_with_its_end() -> None:
    script = trained()
    script.take(incident(Kind.SAVE_FAILED, script, evidence=("no space left",)))
    desk = Watched(every_s=10).hear(RUN, script.entries).wait(40)
    assert desk.acts(TEAM) == [("opened", "save_failed")]
    script.now = desk.now
    script.save()
    desk.hear(RUN, script.entries[-2:])
    assert desk.acts(TEAM) == [("opened", "save_failed"), ("resolved", "save_failed")]


def test_what_nothing_ends_and_the_policy_pages_for_stands_until_a_person_knows() -> None:
    script = trained()
    script.take(incident(Kind.LOSS_TRANSIENT, script))
    entry = script.entries[-1]
    alert = Alert(severity=Severity.ERROR, title="t", text="x", incident=entry.opened[0].id, page=True)
    desk = Watched().hear(RUN, [*script.entries[:-1], replace(entry, actions=(*entry.actions, alert))]).wait(60)
    assert desk.acts(PAGER) == [("opened", "loss_transient")]
    said = e.IncidentAcknowledged(at=desk.now, by="ada", incident=entry.opened[0].id)
    desk.hear(RUN, [Entry(id=0, event=said, phase=Phase.TRAINING)])
    assert desk.acts(PAGER) == [("opened", "loss_transient"), ("resolved", "loss_transient")]


def test_no_progress_pages_and_progress_ends_it() -> None:
    script = trained()
    script.take(e.TimePassed(at=script.wait(1000).now))
    desk = Watched(every_s=10).hear(RUN, script.entries)
    assert desk.acts(PAGER) == [("opened", "needs_a_look")]
    script.train(10)
    desk.hear(RUN, script.entries[-1:])
    assert desk.acts(PAGER) == [("opened", "needs_a_look"), ("resolved", "needs_a_look")]
    script.take(e.TimePassed(at=script.wait(1000).now))
    desk.hear(RUN, script.entries[-1:])
    assert len(desk.threads(PAGER)) == 2, "another time is another thread"
    check(desk.told)


def test_restarts_that_are_nearly_spent_page_before_the_run_is_held() -> None:
    script = trained()
    for n in range(49):
        script.fail(Kind.GPU_MEMORY).stop().begin(50).train(60 + 3 * n)
        script.now += 1
    desk = Watched(every_s=30).hear(RUN, script.entries)
    assert [act for act, kind in desk.acts(PAGER) if kind == "restarts_nearly_spent"] == ["opened"]
    assert "48 of the 60 restarts for gpu_memory" in dict(desk.to(PAGER)[0].facts)["what"]
    assert desk.wait(4000).acts(PAGER)[-1] == ("resolved", "restarts_nearly_spent")


@pytest.mark.parametrize("node_down", [Kind.AGENT_LOST, Kind.NODE_UNSEEN])
def test_a_node_that_is_down_silences_what_is_wrong_on_it_alone(node_down: Kind) -> None:
    script = Script(plan=e.Plan(nodes=2, ranks_per_node=1, probation_steps=5)).join().begin(0).train(20)
    before = len(script.entries)
    script.take(incident(node_down, script, subject=Subject(node=1), evidence=("gone", "no process")))
    down = script.entries[-1]
    desk = Watched(rules(wait_s=0)).hear(RUN, script.entries[:before])
    for node, kind in ((1, Kind.GPU_DEGRADED), (0, Kind.NIC_FAULT)):
        opened = replace(down.opened[0], id=f"i{node + 5}")
        opened = replace(opened, incident=replace(opened.incident, kind=kind, subject=Subject(node=node)))
        down = replace(down, opened=(*down.opened, opened))
    desk.hear(RUN, [down]).wait(60)
    kinds = {message.kind for message in desk.to(ALL)}
    assert node_down.value in kinds
    assert "nic_fault" in kinds
    assert "gpu_degraded" not in kinds


def test_a_silence_holds_back_what_begins_and_not_the_end_of_what_was_told() -> None:
    entries = held(trained().fail(Kind.CRASH_LOOP)).entries
    silent = Watched(every_s=10)
    silent.seen = {"silences": (Silence(id=1, until=T0 + 7200, run="gpt-*", kind="crash_*"),)}
    assert silent.hear(RUN, entries).wait(60).to(PAGER) == []
    assert silent.wait(7200).acts(PAGER) == [("opened", "crash_loop")], "it still stands when the silence ends"
    other = Watched(every_s=10)
    other.seen = {"silences": (Silence(id=1, until=T0 + 7200, run="bert-*"),)}
    assert other.hear(RUN, entries).acts(PAGER) == [("opened", "crash_loop")]


def test_at_night_only_pages_pass_and_the_rest_follows_in_the_morning() -> None:
    script = trained()
    script.take(incident(Kind.SAVE_FAILED, script))
    desk = Watched(every_s=10)
    desk.seen = {"quiet": True}
    desk.hear(RUN, script.entries).wait(3600)
    assert desk.to(TEAM) == []
    desk.seen = {}
    assert desk.look().acts(TEAM) == [("opened", "save_failed")]
    night = Watched()
    night.seen = {"quiet": True}
    assert night.hear(RUN, held(trained().fail(Kind.CRASH_LOOP)).entries).acts(PAGER)


def test_the_same_cause_again_is_the_same_thread_while_that_stands() -> None:
    script = trained().fail(Kind.HANG).stop().begin(50).train(3).fail(Kind.HANG).stop()
    desk = Watched(rules(wait_s=0)).hear(RUN, script.entries).wait(400)
    threads = [thread for thread in desk.threads(ALL) if "hang" in thread]
    assert threads == [f"lastgood/{RUN}/i1/hang"]
    assert ", 2 times" in desk.to(ALL)[-1].title


def test_one_cause_in_many_runs_is_one_thread_where_that_is_asked_for() -> None:
    desk = Watched(rules(by_run=False, wait_s=0))
    for run in ("a-aaaaa", "b-bbbbb"):
        script = Script(run=run).join().begin(0).train(50).fail(Kind.STORAGE_FAULT)
        desk.hear(run, script.entries)
    assert [t for t in desk.threads(ALL) if "storage" in t] == ["lastgood/a-aaaaa/i1/storage_fault"]


def test_a_supervisor_that_says_nothing_pages_unless_it_left() -> None:
    desk = Watched(every_s=5).hear(RUN, trained().entries)
    alive_at = desk.now
    desk.seen = {"alive_at": alive_at}
    desk.wait(170)
    assert desk.to(PAGER) == []
    desk.wait(20)
    assert desk.acts(PAGER) == [("opened", "supervisor_lost")]
    assert desk.to(PAGER)[0].thread == "lastgood/host/supervisor_lost-1/supervisor_lost"
    desk.seen = {"alive_at": desk.now}
    assert desk.look().acts(PAGER) == [("opened", "supervisor_lost"), ("resolved", "supervisor_lost")]
    left = Watched(every_s=5).hear(RUN, trained().entries)
    left.seen = {"alive_at": left.now, "left": True}
    assert left.wait(3600).to(PAGER) == []
    idle = Watched(every_s=5).hear(RUN, trained().finish().entries)
    idle.seen = {"alive_at": idle.now}
    assert idle.wait(3600).to(PAGER) == [], "no run needs it"


def test_what_a_supervisor_wrote_down_as_it_failed_is_told_and_over_when_it_is_well() -> None:
    desk = Watched(every_s=5).hear(RUN, trained().entries)
    desk.seen = {"failure": (desk.now, "AssertionError: 1"), "alive_at": desk.now}
    desk.look()
    assert desk.acts(PAGER) == [("opened", "supervisor_failed")]
    desk.seen |= {"alive_at": desk.now + 1000}
    assert desk.wait(400).acts(PAGER)[-1] == ("resolved", "supervisor_failed")


def test_a_channel_that_is_down_is_told_through_the_others() -> None:
    desk = Watched(every_s=5).hear(RUN, trained().entries)
    desk.seen = {"down": {TEAM: (desk.now, "connection refused")}}
    desk.wait(60)
    assert desk.to(TEAM) == []
    assert desk.acts(ALL)[-1] == ("opened", "channel_down")
    assert "Alerts do not arrive: team" in desk.to(ALL)[-1].title
    desk.seen = {}
    assert desk.look().acts(ALL)[-1] == ("resolved", "channel_down")


def test_a_run_that_nobody_decides_about_and_a_journal_that_cannot_be_read_page() -> None:
    desk = Watched().hear(RUN, trained().entries)
    desk.look(unsupervised={RUN: "AssertionError: 3"}, blind="the disk is full")
    assert sorted(desk.acts(PAGER)) == [("opened", "journal_unreadable"), ("opened", "unsupervised")]
    assert [act for act, _ in desk.look().acts(PAGER)] == ["opened", "opened", "resolved", "resolved"]


def test_what_came_and_went_while_nobody_looked_is_one_note() -> None:
    script = held(trained().fail(Kind.CRASH_LOOP))
    script.take(e.ResumeRequested(at=script.wait(600).now, by="ada"))
    desk = Watched().hear(RUN, script.entries, at_once=True)
    assert desk.acts(PAGER) == [("note", "crash_loop")]


def test_texts_that_would_do_something_do_nothing() -> None:
    bad = "<script>alert(1)</script>\x1b[31m\u202e<!channel> \ud800" + "x" * 5000
    script = held(trained().fail(Kind.CRASH_LOOP, evidence=(bad,)))
    page = Watched().hear(RUN, script.entries).to(PAGER)[0]
    for text in (page.title, *(said for _, said in page.facts)):
        assert not set("\x1b\u202e\ud800").intersection(text)
        assert len(text) <= 1200

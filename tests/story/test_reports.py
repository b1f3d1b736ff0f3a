"""Does the report of some days say what happened in them, and nothing that did not?"""

from __future__ import annotations

import pytest

from monitors.incidents import Kind
from orchestrator.core import events as e
from orchestrator.core.limits import Prices
from orchestrator.reports import History, Report, report
from tests.story.scripted import POLICY, T0, Script

DAY_S = 86400.0


def history(script: Script, run: str = "r", **changes: object) -> History:
    known = {"run": run, "entries": script.entries, "ranks": 2, "policy": POLICY, **changes}
    return History(**known)  # type: ignore[arg-type]


def troubled() -> Script:
    """Two kills, one hang, a drill; then held for a crash loop."""
    script = Script().join().begin(0).train(10).save().train(10)
    for kind in (Kind.WORKER_KILLED, Kind.HANG, Kind.WORKER_KILLED):
        script.fail(kind, detect_s=1.0).stop().begin(10).train(20)
    script.take(e.DrillRequested(at=script.now, by="demo", drill="kill", rank=1, number=1))
    script.take(e.DrillDone(at=script.now, world=script.state.world, drill="kill", rank=1))
    script.fail(Kind.WORKER_KILLED).stop().begin(10).train(30)
    script.fail(Kind.CRASH_LOOP)
    script.take(e.AttemptEnded(at=script.wait(1.0).now, attempt=1))
    return script


def week(*histories: History, until: float) -> Report:
    return report(histories, until - 7 * DAY_S, until)


def test_interruptions_are_told_by_cause_and_drills_apart() -> None:
    script = troubled()
    found = week(history(script), until=script.now)
    told = {cause.kind: (cause.count, cause.drills, cause.share) for cause in found.interruptions}
    assert told == {"worker_killed": (2, 1, 0.5), "hang": (1, 0, 0.25), "crash_loop": (1, 0, 0.25)}
    assert found.interruptions[0].kind == "worker_killed"
    assert found.interruptions[0].blame == "host"
    assert found.interruptions[0].mttr_s == pytest.approx(1.0 + 0.5 + 3.5 + 2.0)
    assert found.interruptions[0].lost_s > 2 * (1.0 + 0.5 + 3.5)
    assert (found.automatic, found.with_person, found.automatic_share) == (3, 1, 0.75)
    assert [count for _, count in found.per_day] == [0, 0, 0, 0, 0, 0, 4]


def test_a_recovery_that_a_person_asked_for_was_not_automatic() -> None:
    script = troubled()
    script.take(e.ResumeRequested(at=script.wait(100.0).now, by="ada"))
    script.join().begin(10).train(50)
    found = week(history(script), until=script.now)
    assert (found.automatic, found.with_person) == (3, 1), "it is over, with a person"


def test_only_what_lies_in_the_stretch_counts() -> None:
    script = troubled()
    later = script.now + 30 * DAY_S
    assert week(history(script), until=later).interruptions == ()
    assert week(history(script), until=later).runs == 1, "it is held, and somebody should know"
    assert week(history(script), until=T0 - 1).runs == 0
    half = report([history(script)], T0, T0 + 5.0)
    assert half.gpu_hours == pytest.approx(2 * 3.0 / 3600)
    whole = report([history(script)], T0 - 100, script.now)
    parts = [report([history(script)], T0 + s, T0 + s + 1.0) for s in range(int(script.now - T0) + 1)]
    assert sum(part.gpu_hours for part in parts) == pytest.approx(whole.gpu_hours)


def test_the_ratios_are_those_of_the_ledger() -> None:
    script = Script().join(2.0).begin(0).train(100)
    found = week(history(script), until=script.now)
    assert found.ettr == pytest.approx(10.5 / (2.0 + 3.0 + 0.5 + 10.0), rel=0.05)
    assert found.ettr_p50 == found.ettr
    assert found.mttf_s is None


def test_money_is_added_up_by_currency() -> None:
    one, other = Script().join().begin(0).train(10), Script().join().begin(0).train(10)
    priced = history(one, prices=Prices(currency="EUR", gpu_hour=2.0))
    again = history(other, "s", prices=Prices(currency="EUR", gpu_hour=4.0))
    found = week(priced, again, history(other, "t"), until=one.now)
    bills = {bill.currency: bill for bill in found.bills}
    assert bills["EUR"].money == pytest.approx(6.0 * bills[None].gpu_hours)
    assert (bills[None].money, bills["EUR"].kwh, bills["EUR"].runs) == (None, None, 2)


def test_precision_is_what_people_said_last() -> None:
    script = troubled()
    for id_, right in (("i1", False), ("i1", True), ("i2", False)):
        script.take(e.IncidentJudged(at=script.now, by="ada", incident=id_, right=right))
    found = week(history(script), until=script.now)
    assert {one.kind: (one.right, one.wrong) for one in found.judged} == {"hang": (0, 1), "worker_killed": (1, 0)}
    assert found.unjudged == 2


def test_no_run_at_all_is_an_empty_report() -> None:
    found = report([], T0, T0 + DAY_S)
    assert (found.runs, found.ettr, found.interruptions, found.bills, found.automatic_share) == (0, None, (), (), None)

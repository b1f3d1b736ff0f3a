"""What is a tracker told, and is it told once? A journal and rows of steps become lines, with a place to go on from."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitors.incidents import Incident, Kind, Subject
from monitors.signals import StepReported
from orchestrator.core import actions as a
from orchestrator.core import events as e
from orchestrator.core.policy import Rung, Severity
from orchestrator.core.state import Opened, Phase
from orchestrator.journal import Entry
from orchestrator.tracker_branch import Course, branched, skipped, way
from orchestrator.tracker_lines import AXIS, Line, Place, Scribe, dumped, parsed, rewound
from orchestrator.tracker_outbox import Outbox, Reader


def row(step: int, world: int = 1, loss: float = 1.0) -> StepReported:
    return StepReported(
        at=100.0 + step, node=0, world=world, rank=0, step=step, data_index=step, loss=loss, tokens=64.0, step_s=0.5
    )


def entry(number: int, event: e.Event, phase: Phase = Phase.TRAINING, **more: object) -> Entry:
    return Entry(id=number, event=event, phase=phase, **more)  # type: ignore[arg-type]


def start(world: int) -> a.StartWorld:
    return a.StartWorld(attempt=1, world=world, candidates=("step-4",) if world > 1 else (), skips=())


def trained(scribe: Scribe, number: int, world: int, first: int, last: int) -> list[Line]:
    """A world begins and takes steps."""
    begun = scribe.entry(number, entry(number, e.TimePassed(at=99.0), actions=(start(world),), reason="why"))
    return [*begun, *scribe.rows([row(step, world) for step in range(first, last + 1)])]


def test_a_step_says_where_it_was_trained_and_how_it_went() -> None:
    scribe = Scribe("r", Place())
    (line,) = trained(scribe, 1, 1, 1, 1)
    assert (line.at, line.kind) == (101.0, "step")
    assert line.values == {
        AXIS: 1,
        "lastgood/attempt": 1,
        "lastgood/world": 1,
        "train/loss": 1.0,
        "train/tokens": 64.0,
        "train/tokens_per_s": 128.0,
        "train/step_s": 0.5,
        "train/data_index": 1,
    }


def test_a_world_that_trains_again_says_what_was_rolled_back() -> None:
    scribe = Scribe("r", Place())
    trained(scribe, 1, 1, 1, 7)
    restart, rewind, *steps = trained(scribe, 2, 2, 5, 9)
    assert restart.values == {
        AXIS: 7,
        "lastgood/attempt": 1,
        "lastgood/world": 2,
        "restart/world": 2,
        "restart/from": "step-4",
        "lastgood/event": "why",
    }
    rolled = (rewind.kind, rewind.values["lastgood/rolled_back_to"], rewind.values["lastgood/steps_again"])
    assert rolled == ("rewind", 4, 3)
    assert [line.values[AXIS] for line in steps] == [5, 6, 7, 8, 9]
    assert not [line for line in trained(scribe, 3, 3, 10, 11) if line.kind == "rewind"], "nothing was lost"


def test_what_was_told_is_not_told_again() -> None:
    scribe = Scribe("r", Place())
    trained(scribe, 1, 1, 1, 3)
    again = Scribe("r", parsed(dumped(Line(at=0.0, kind="mark"), scribe.place))[1] or Place())
    assert again.place == scribe.place
    assert again.entry(1, entry(1, e.TimePassed(at=99.0), actions=(start(1),))) == []


def test_an_incident_is_told_with_its_alert() -> None:
    scribe = Scribe("a-run-with-a-name-of-some-length", Place())
    incident = Incident(kind=Kind.HANG, at=5.0, onset=4.0, world=1, subject=Subject(node=0, rank=3), step=17)
    alert = a.Alert(severity=Severity.CRITICAL, title="the run is held: it hung three times", text="look", page=True)
    opened = Opened(id="i1", incident=incident, rung=Rung.HOLD)
    whole = {"reason": "held", "opened": (opened,), "actions": (alert,), "closed": ("i0",)}
    seen, told, closed, ended = scribe.entry(4, entry(4, e.TimePassed(at=6.0), Phase.HELD, **whole))
    assert {"incident/opened": "i1", "incident/kind": "hang", "incident/rank": 3}.items() <= seen.values.items()
    assert "incident/device" not in seen.values
    assert told.alert is not None
    title, text, level = told.alert
    assert (len(title), title[-1], text, level) == (63, "…", "look", "ERROR")
    assert closed.values["incident/closed"] == "i0"
    assert ended.values["lastgood/state"] == "HELD"
    assert scribe.end(9.0).values["lastgood/exit"] == 1


def test_power_is_what_was_spent_between_two_readings() -> None:
    def read(until: float, joules: float, since: float) -> e.Progressed:
        energy = e.EnergyRead(since=since, until=until, joules=joules, gpu_s=until)
        return e.Progressed(at=until, world=1, step=1, energy=energy)

    scribe, watts = Scribe("r", Place()), []
    totals = [(10.0, 1000.0, 5.0), (15.0, 9999.0, 5.0), (30.0, 15000.0, 5.0), (50.0, 10.0, 40.0), (70.0, 4010.0, 40.0)]
    for number, (until, joules, since) in enumerate(totals, 1):
        lines = scribe.entry(number, entry(number, read(until, joules, since)))
        watts += [line.values["power/gpus_w"] for line in lines]
    assert watts == [700.0, 200.0], "another supervisor's totals begin anew"


def test_nodes_come_and_go() -> None:
    scribe, joined = Scribe("r", Place()), []
    events: list[e.Event] = [
        e.AgentJoined(at=1.0, attempt=1, node=0, host="a"),
        e.AgentJoined(at=2.0, attempt=1, node=1, host="b"),
        e.AgentGone(at=3.0, attempt=1, node=0, witnesses=("x", "y")),
        e.AttemptEnded(at=4.0, attempt=1),
    ]
    for number, event in enumerate(events, 1):
        joined += [line.values["nodes/joined"] for line in scribe.entry(number, entry(number, event))]
    assert joined == [1, 2, 1, 0]


# The outbox


def test_a_batch_counts_once_it_is_whole(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.append([Line(at=1.0, kind="mark"), Line(at=2.0, kind="mark")], Place(entry=7))
    reader = Reader(tmp_path)
    assert [(n, line.at) for n, line in reader.more()] == [(0, 1.0), (1, 2.0)]
    whole = outbox.path.read_bytes()
    more = dumped(Line(at=3.0, kind="mark")) + "\n" + dumped(Line(at=4.0, kind="mark"), Place(entry=9)) + "\n"
    for torn in range(1, len(more)):
        outbox.path.write_bytes(whole + more.encode()[:torn])
        assert reader.more() == [], "half a batch was given"
        again = Outbox(tmp_path)
        assert (again.count, again.place.entry, outbox.path.read_bytes()) == (2, 7, whole)
        again.close()
    outbox.path.write_bytes(whole + more.encode())
    assert [(n, line.at) for n, line in reader.more()] == [(2, 3.0), (3, 4.0)]
    assert [(n, line.at) for n, line in Reader(tmp_path, 3).more()] == [(3, 4.0)]
    outbox.close()


# Which step of W&B is a line?


def lines(*kinds: tuple[str, int]) -> list[Line]:
    return [Line(at=0.0, kind=kind, values={AXIS: step}) for kind, step in kinds]


def test_a_rewind_keeps_what_is_not_rolled_back_and_tells_marks_again() -> None:
    told = lines(("begin", 0), ("step", 1), ("step", 2), ("mark", 2), ("step", 3), ("mark", 3))
    keep, copies = rewound(told, 2)
    assert keep == 2
    assert [(copy.kind, copy.values[AXIS]) for copy in copies] == [("copy", 2), ("copy", 3)]
    assert rewound(told, 0) == (None, []), "to the start: there is no step to keep"


def test_a_second_rewind_goes_behind_the_first() -> None:
    told = lines(("step", 1), ("step", 2), ("step", 3))
    told += [Line(at=0.0, kind="rewind", values={AXIS: 3}, keep=1), *lines(("step", 3), ("step", 4))]
    assert rewound(told, 3)[0] == 4
    assert rewound(told, 1)[0] == 0
    course = branched(Course(id="r"), 3, 1, "rewind")
    assert [course.step(n) for n in (0, 1, 3, 4, 5)] == [0, 1, 2, 3, 4]
    assert [course.number(s) for s in (2, 3, 4)] == [3, 4, 5]
    course = branched(course, 6, 0, "fork", "r-f1")
    assert [course.step(n) for n in (0, 6, 7)] == [0, 1, 2]
    assert course.id == "r-f1"


@pytest.mark.parametrize(
    ("asked", "refused", "how"),
    [
        ("append", (), "append"),
        ("rewind", (), "rewind"),
        ("fork", (), "fork"),
        ("auto", (), "rewind"),
        ("auto", (("rewind", "no"),), "fork"),
        ("auto", (("rewind", "no"), ("fork", "no")), "append"),
        ("rewind", (("rewind", "no"),), "append"),
    ],
)
def test_what_the_server_refuses_is_not_tried_again(asked: str, refused: tuple[tuple[str, str], ...], how: str) -> None:
    rewind = Line(at=0.0, kind="rewind", keep=3)
    course = Course(id="r", refused=refused)
    assert way(course, 5, rewind, asked) == how
    assert way(branched(course, 5, 3, how), 5, rewind, asked) == "", "it was dealt with"


def test_copies_are_for_who_lost_the_marks() -> None:
    copy = Line(at=0.0, kind="copy")
    assert branched(Course(id="r"), 5, 3, "rewind").tells(copy)
    assert not branched(Course(id="r"), 5, 3, "append").tells(copy)


def test_lines_that_a_disk_lost_are_not_taken_for_new_ones() -> None:
    course = skipped(Course(id="r"), 10, 12)
    assert [course.step(n) for n in (9, 10, 11)] == [9, 12, 13]
    assert skipped(Course(id="r"), 10, 10) == Course(id="r")

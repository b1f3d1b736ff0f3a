"""The loss detector on made curves, whose faults are known to the row, and the rules of the score themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.detect import scoring
from tests.score import made_curves, published
from tests.score.curves import Curve, Event, Judge, Tally, judged
from tests.score.loss import meets


@pytest.mark.parametrize("seed", [1, 2])
def test_the_target_is_met_on_made_curves(seed: int) -> None:
    tally = judged(scoring.detector, made_curves.made(seed, of_each=1))
    assert tally.serious >= 20
    assert tally.transients >= 8
    assert meets(tally), tally


def test_published_rules_miss_what_creeps_or_act_on_what_is_nothing() -> None:
    curves = made_curves.made(1, of_each=1)[::3]
    for name, factory in published.OWN.items():
        tally = judged(factory, curves)
        assert not meets(tally), name
        assert tally.found >= sum(event.kind == "nan" for curve in curves for event in curve.events) or "Kill" in name


def said(at: Mapping[int, str]) -> Judge:
    rows = iter(range(1000))
    return lambda *_: at.get(next(rows))


CURVE = Curve(
    name="one",
    rows=[(float(row), 2.0, None) for row in range(300)],
    events=(
        Event(kind="sustained", first=50, last=80),
        Event(kind="transient", first=120, last=125),
        Event(kind="outlier", first=150, last=150),
    ),
    unclear=((200, 210),),
)


@pytest.mark.parametrize(
    ("alarms", "expected"),
    [
        ({52: "warn", 58: "spike"}, {"found": 1, "acted": 1, "delays": [2], "action_delays": [8]}),
        ({39: "spike"}, {"found": 0, "false_episodes": 1, "false_actions": 1, "missed": ["one: sustained at 50"]}),
        ({122: "warn"}, {"transients_noticed": 1, "transients_acted": 0, "false_episodes": 0}),
        ({130: "spike"}, {"transients_noticed": 1, "transients_acted": 1, "false_actions": 0}),
        ({151: "spike"}, {"outliers_acted": 1, "false_actions": 0}),
        ({205: "spike"}, {"false_episodes": 0, "false_actions": 0}),
        ({250: "warn", 258: "warn", 270: "warn"}, {"false_episodes": 2, "false_actions": 0}),
    ],
)
def test_what_counts(alarms: Mapping[int, str], expected: Mapping[str, Any]) -> None:
    tally = Tally()
    tally.add(CURVE, said(alarms))
    assert {name: getattr(tally, name) for name in expected} == expected

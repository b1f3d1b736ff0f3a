"""The loss detector on recorded curves: what is serious is acted on, what is not is left alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from monitors.detect.loss import Loss, LossConfig
from monitors.incidents import Kind
from monitors.signals import StepReported

FOLDER = Path(__file__).parent.parent / "data" / "loss_curves"
CURVES: list[dict[str, Any]] = [json.loads(line) for line in (FOLDER / "INDEX.jsonl").read_text().splitlines()]
SERIOUS = ("sustained", "divergence", "nan")
GRACE_ROWS = 10
SLOW_ONSET_ROWS = 10
"""a rise whose first rows look like noise may be dated this much too early or too late"""


def verdicts(name: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(row of the conclusion, row of the onset) of the actions, and of everything noticed."""
    detector = Loss(LossConfig())
    with (FOLDER / f"{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    actions, noticed = [], []
    suspicious = False
    for number, row in enumerate(rows):
        norm = row.get("grad_norm")
        signal = StepReported(
            at=float(number),
            node=0,
            world=0,
            rank=0,
            step=number,
            loss=float(row["loss"]),
            grad_norm=None if norm is None else float(norm),
        )
        for incident in detector.see(signal):
            place = (number, incident.onset_step or 0)
            noticed.append(place)
            actions += [place] if incident.kind is not Kind.LOSS_TRANSIENT else []
        since = detector.suspicious_since_step
        if since is not None and not suspicious:
            noticed.append((number, since))
        suspicious = since is not None
    return actions, noticed


def near(row: int, event: dict[str, Any]) -> bool:
    return bool(event["start"] - GRACE_ROWS <= row <= event["end"] + GRACE_ROWS)


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: str(curve["name"]))
def test_a_curve(curve: dict[str, Any]) -> None:
    actions, noticed = verdicts(curve["name"])
    serious = [event for event in curve["events"] if event["kind"] in SERIOUS]
    for event in serious:
        first = next((place for place in actions if near(place[0], event)), None)
        assert first is not None, f"missed {event}"
        assert abs(first[1] - event["start"]) <= SLOW_ONSET_ROWS
        assert any(near(row, event) and row <= event["start"] + 12 for row, _ in noticed)
    elsewhere = [row for row, _ in actions if not any(near(row, event) for event in serious)]
    transient = [event for event in curve["events"] if event["kind"] == "transient"]
    unclear = [{"start": first, "end": last} for first, last in curve["unclear"]]
    false = [row for row in elsewhere if not any(near(row, event) for event in [*transient, *unclear])]
    assert false == [], "acted where nothing was wrong"


def test_the_bar_over_all_curves() -> None:
    delays, onsets, acted, seen, transients = [], [], 0, 0, 0
    for curve in CURVES:
        actions, noticed = verdicts(curve["name"])
        for event in curve["events"]:
            if event["kind"] in SERIOUS:
                delays.append(min(row for row, _ in noticed if near(row, event)) - event["start"])
                onsets.append(abs(next(on for row, on in actions if near(row, event)) - event["start"]))
            elif event["kind"] == "transient":
                transients += 1
                acted += any(near(row, event) for row, _ in actions)
                seen += any(near(row, event) for row, _ in noticed)
    assert transients >= 20
    assert seen >= 0.8 * transients
    assert acted <= 0.1 * transients
    assert sorted(delays)[len(delays) // 2] <= 3
    assert sorted(onsets)[len(onsets) // 2] <= 3

"""Do table and picture say what the rows say? And is each peer in them, also one that never came back?"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from tests.bench import picture, recovery, table
from tests.bench.__main__ import parse
from tests.bench.peers import PEERS

SVG = "{http://www.w3.org/2000/svg}"


def row(peer: str, fault: str, new_s: float | None, **more: Any) -> dict[str, Any]:
    end = "not within 60 s" if new_s is None else "recovered"
    return {"peer": peer, "fault": fault, "new_s": new_s, "end": end, "load": 1.5, "shrunk_s": None, "lost": 5} | more


ROWS = [
    *(row("lastgood", "kill", s, lost=1, same=True) for s in (0.6, 0.5, 0.7)),
    *(row("torchrun", "kill", s) for s in (5.0, None, 5.2)),
    *(row("torchrun-store", "kill", s) for s in (5.1, 5.5, 5.3)),
    *(row("nvrx-inprocess", "kill", None, end="shrunk", shrunk_s=s) for s in (1.4, 1.5)),
    *(row("lastgood", "stop", s, lost=0) for s in (1.6, 1.5)),
    *(row("torchrun", "stop", None) for _ in range(3)),
]


def test_a_cell_says_how_often_it_came_back() -> None:
    cells = {peer: table.cell(table.of(ROWS, peer, "kill")) for peer in PEERS}
    assert cells == {
        "lastgood": "0.60 [0.50]",
        "lastgood-inprocess": "-",
        "torchrun": "5.10 [5.00], 2 of 3",
        "torchrun-store": "5.30 [5.10]",
        "nvrx": "-",
        "nvrx-inprocess": "1.45 [1.40], the world shrinks",
        "dlrover": "-",
        "torchft": "-",
    }
    assert table.cell(table.of(ROWS, "torchrun", "stop")) == "not within 60 s (0 of 3)"


def test_a_supervisor_that_was_killed_is_told_by_when_one_watches_again() -> None:
    rows = [row("lastgood", "supervisor", None, end="recovered", seen_s=s, gap_s=0.2) for s in (2.0, 1.8)]
    assert table.cell(rows) == "watched again after 1.90 [1.80], no step later than 0.20"


def test_only_a_peer_that_always_restores_the_whole_world_is_the_best() -> None:
    assert table.best_peer(ROWS, "kill") == ("torchrun-store", 5.3)
    assert table.best_peer(ROWS, "stop") is None
    best = "the best that always restores the whole world (torchrun-store, 5.30 s)"
    assert table.ratios(ROWS) == [f"kill -9 of a rank: 8.8 times faster than {best}"]


def test_a_peer_that_cannot_be_installed_has_its_row() -> None:
    lines = table.markdown(ROWS, {"dlrover": "no such package"}).splitlines()
    assert len({line.count("|") for line in lines}) == 1, "every row has as many columns"
    assert any(line.startswith("| DLRover") and "not installed: no such package" in line for line in lines)
    assert any(line.startswith("| **lastgood** | 0.60 [0.50] | 1.55 [1.50] | 0 to 1 | 3 of 3 |") for line in lines)


def texts(svg: str) -> list[str]:
    return ["".join(found.itertext()) for found in ET.fromstring(svg).iter(f"{SVG}text")]


def test_the_picture_holds_every_peer_of_every_fault() -> None:
    found = texts(picture.draw(ROWS))
    assert found.count("lastgood") == found.count("torchrun") == 2
    assert {"0.60 s", "5.10 s, 2 of 3", "1.45 s, world shrinks", "not within 60 s", "1.55 s"} <= set(found)


def test_bars_are_as_long_as_what_they_say_and_stay_inside() -> None:
    root = ET.fromstring(picture.draw([*ROWS, row("dlrover", "kill", 48.0)]))
    right = float(root.attrib["viewBox"].split()[2])
    bars = list(root.iter(f"{SVG}rect"))
    assert all(float(bar.attrib["x"]) + float(bar.attrib["width"]) < right for bar in bars)
    ours = [float(bar.attrib["width"]) for bar in bars if bar.attrib["class"] == "ours"]
    assert ours[0] == pytest.approx(picture.BAR * 0.6 / picture.LONGEST_S, abs=0.1)
    assert "48.00 s" in texts(picture.draw([row("dlrover", "kill", 48.0)]))


def test_the_picture_is_read_on_dark_pages_and_aloud() -> None:
    svg = picture.draw(ROWS)
    assert "prefers-color-scheme:dark" in svg
    label = ET.fromstring(svg).attrib["aria-label"]
    assert label.startswith("a rank is killed: lastgood 0.60 s, the best peer torchrun-store 5.30 s")


def test_everything_runs_once_before_anything_runs_twice() -> None:
    planned = list(recovery.schedule(("lastgood", "nvrx-inprocess"), ("kill", "launcher", "supervisor"), 2))
    first, second = planned[: len(planned) // 2], planned[len(planned) // 2 :]
    assert {turn for turn, _, _ in first} == {0}
    assert sorted(case[1:] for case in first) == sorted(case[1:] for case in second)
    assert first[0][1] != second[0][1], "not always the same begins"
    assert (0, "nvrx-inprocess", "launcher") not in first
    assert (0, "nvrx-inprocess", "supervisor") not in first


def test_what_never_came_back_in_five_trials_is_not_tried_again() -> None:
    rows = [row("torchrun", "stop", None) for _ in range(5)]
    assert recovery.hopeless(rows, "torchrun", "stop")
    assert not recovery.hopeless(rows[:-1], "torchrun", "stop")
    assert not recovery.hopeless([*rows[:-1], row("torchrun", "stop", 5.0)], "torchrun", "stop")


def test_lastgood_is_always_among_the_peers(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["recovery", "--peers", "nvrx,torchrun"]).peers == ("lastgood", "torchrun", "nvrx")
    with pytest.raises(SystemExit):
        parse(["recovery", "--peers", "slurm"])
    assert "'slurm' is none of lastgood, lastgood-inprocess, torchrun" in capsys.readouterr().err

"""Is what is drawn what was measured? Lines with few points, lanes, runbooks as trees."""

from __future__ import annotations

import math
import shlex
from itertools import pairwise

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitors.incidents import Kind
from orchestrator import runbooks
from orchestrator.api import actions, prose
from orchestrator.api.lanes import merged
from orchestrator.api.sampling import Line, Point, reduced
from orchestrator.api.tokens import Role
from orchestrator.cli import lastgood
from orchestrator.spans import Bucket, Span

VALUES = st.lists(st.floats(width=32), max_size=400)


def points(values: list[float]) -> list[Point]:
    return [Point(float(n), n, value) for n, value in enumerate(values)]


@given(VALUES, st.floats(0.5, 200))
@settings(deadline=None)
def test_a_reduced_line_has_every_extreme_and_every_kind_of_broken_number(values: list[float], width_s: float) -> None:
    few = reduced(points(values), 0.0, width_s)
    assert few == sorted(few)[: len(few)] or any(math.isnan(point.y) for point in few)
    finite = [value for value in values if math.isfinite(value)]
    kept = [point.y for point in few]
    if finite:
        assert (min(finite), max(finite)) == (
            min(y for y in kept if math.isfinite(y)),
            max(y for y in kept if math.isfinite(y)),
        )
    assert {str(v) for v in values if not math.isfinite(v)} == {str(y) for y in kept if not math.isfinite(y)}
    if values:
        assert (few[0].at, few[-1].at) == (0.0, float(len(values) - 1))
    assert len(few) <= 10 * (len(values) / width_s + 2)


@given(st.lists(VALUES, max_size=20))
@settings(deadline=None, max_examples=50)
def test_a_line_that_grows_for_ever_stays_small_and_keeps_its_spikes(parts: list[list[float]]) -> None:
    line = Line(most=200)
    number, seen = 0, list[float]()
    for part in parts:
        line.add(Point(float(number + n), number + n, value) for n, value in enumerate(part))
        number += len(part)
        seen += part
        assert len(line.points) <= 200
    finite = [value for value in seen if math.isfinite(value)]
    assert line.total == len(seen)
    if finite:
        assert max(finite) == max(point.y for point in line.points if math.isfinite(point.y))
    assert any(map(math.isnan, seen)) == any(math.isnan(point.y) for point in line.points)


SPANS = st.lists(st.tuples(st.integers(1, 5000), st.sampled_from(list(Bucket))), min_size=1, max_size=60)


@given(SPANS, st.floats(0.0, 5.0))
@settings(deadline=None)
def test_lanes_have_no_gap_and_lose_no_second(lengths: list[tuple[int, Bucket]], least_s: float) -> None:
    spans, at = [], 0
    for length, bucket in lengths:
        spans.append(Span(start_ms=at, end_ms=at + length, bucket=bucket, world=1))
        at += length
    drawn = list(merged(spans, least_s))
    assert (drawn[0][0], drawn[-1][1]) == (0.0, at / 1000)
    assert all(one[1] == other[0] for one, other in pairwise(drawn))
    assert len(drawn) <= 2 * at / 1000 / max(least_s, 0.001) + 2
    if not any(one[3] for one in drawn):
        assert sum(s.end_ms - s.start_ms for s in spans if s.bucket is Bucket.HELD) == pytest.approx(
            1000 * sum(one[1] - one[0] for one in drawn if one[2] == "held")
        )


@pytest.mark.parametrize("kind", list(Kind))
def test_every_runbook_is_a_tree_with_all_its_sections(kind: Kind) -> None:
    tree = prose.blocks(runbooks.page(kind))
    titles = ["".join(part["text"] for part in block["of"]) for block in tree if block["is"] == "heading"]
    assert titles[1:] == list(runbooks.SECTIONS)
    assert titles[0] == runbooks.front(kind).title
    words = " ".join(text for block in tree for text in _texts(block)).split()
    plain = runbooks.page(kind).replace("`", " ").replace("*", " ").split()
    assert len(words) > 0.8 * len([word for word in plain if word.strip("#-1234567890.")])


def _texts(block: dict[str, object]) -> list[str]:
    if block["is"] == "code":
        return [str(block["text"])]
    parts = block["items"] if block["is"] == "list" else [block["of"]]
    return [part["text"] for item in parts for part in item]  # type: ignore[attr-defined]


@given(st.text(max_size=300))
@settings(deadline=None)
def test_any_text_is_a_tree_of_text(text: str) -> None:
    for block in prose.blocks(text):
        assert block["is"] in ("heading", "paragraph", "list", "code")
        assert all(isinstance(part, str) for part in _texts(block))


def test_html_and_other_schemes_are_the_text_that_they_are() -> None:
    (block,) = prose.blocks("<img src=x onerror=alert(1)> [x](javascript:alert(1)) [y](https://a.example/b)")
    assert [part["is"] for part in block["of"]] == ["text", "link"]
    assert "<img" in block["of"][0]["text"]
    assert "javascript:" in block["of"][0]["text"]


@pytest.mark.parametrize("action", list(actions.ACTIONS))
def test_an_action_is_the_command_that_it_is_shown_as(action: str) -> None:
    body = {"incident": "i1", "text": "it's $HOME", "right": True, "checkpoint": "step-1", "pinned": True}
    body |= {"host": "box7", "cordoned": True, "why": "a fan; rm -rf ~"}
    fields = actions.read(action, {name: body[name] for name in actions.ACTIONS[action].fields if name in body})
    request = actions.request(action, "gpt-abcde", fields, "ann")
    assert (request["ask"], request["run"], request["by"]) == (action, "gpt-abcde", "ann")
    command = actions.cli(action, "gpt-abcde", fields)
    words = shlex.split(command)
    assert words[0] == "lastgood"
    assert not {"rm", "$HOME"}.intersection(words), "text is one word of the shell"
    called: click.Command | None = lastgood
    rest = words[1:]
    while isinstance(called, click.Group):
        called = called.get_command(click.Context(called), rest.pop(0))
    assert called is not None
    called.make_context(called.name, rest)  # raises for an option or a word too many


def test_what_a_run_offers_follows_its_state_and_the_role() -> None:
    def offered(state: str, role: Role = Role.OPERATOR) -> set[str]:
        return {one["action"] for one in actions.offered("r", {"state": state}, role) if one["allowed"]}

    assert offered("RUNNING") == {"stop", "pause", "restart"}
    assert offered("HELD") == {"stop", "resume"}
    assert offered("PAUSED") == {"stop", "resume"}
    assert offered("SUCCEEDED") == set()
    assert offered("RUNNING", Role.VIEWER) == set()
    of_incident = {one["action"] for one in actions.offered("r", {"state": "HELD"}, Role.OPERATOR, "i1")}
    assert {"acknowledge", "note", "judge"} <= of_incident

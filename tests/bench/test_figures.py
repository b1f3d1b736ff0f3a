"""Are the referee's figures right, and are they judged? Lines as jobs wrote them, what a person reads from them, and
what is missed when one figure is not as it should be.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench import figures, table
from tests.bench.figures import Line, Recovery

RECORDED = Path(__file__).parent.parent / "data" / "recovery"


def told(at: float, rank: int, step: int, life: str, *, size: int = 2, event: str = "step") -> Line:
    return Line(at=at, event=event, rank=rank, size=size, pid=1, life=life, step=step, loss=f"loss {step}")


def world(
    began: float, first: int, last: int, name: str, *, every_s: float = 0.1, ranks: tuple[int, ...] = (0, 1)
) -> list[Line]:
    """Ranks that enter, and do steps one after the other; rank 1 tells each 10 ms later."""
    lines = [told(began, rank, 0, f"{name}{rank}", size=len(ranks), event="entered") for rank in ranks]
    for number, step in enumerate(range(first, last + 1), start=1):
        at = began + number * every_s
        lines += [told(at + 0.01 * rank, rank, step, f"{name}{rank}", size=len(ranks)) for rank in ranks]
    return lines


def test_all_ranks_are_born_again() -> None:
    lines = world(0.0, 1, 15, "a") + world(3.0, 11, 20, "b")
    # Its first step at 3.1, steps 11 to 15 again, the first new one is its sixth; rank 1 is the last to tell.
    assert figures.recovery(lines, 2.0, (1,), 2) == Recovery(
        last_step=15, first_s=1.11, new_s=1.61, shrunk_s=None, lost=5
    )


def test_a_step_that_a_survivor_of_the_old_world_still_tells_counts_for_nothing() -> None:
    lines = [*world(0.0, 1, 15, "a"), told(2.05, 0, 16, "a0"), *world(3.0, 16, 20, "b")]
    found = figures.recovery(lines, 2.0, (1,), 2)
    assert (found.last_step, found.new_s, found.lost) == (15, 1.11, 0)


def test_a_world_that_came_back_twice_counts_from_the_first_step_that_is_new() -> None:
    lines = world(0.0, 1, 15, "a") + world(3.0, 11, 12, "b") + world(6.0, 11, 20, "c")
    found = figures.recovery(lines, 2.0, (0, 1), 2)
    assert (found.first_s, found.new_s, found.lost) == (1.11, 4.61, 5)


def test_a_survivor_that_lives_on_needs_no_new_life() -> None:
    lines = [*world(0.0, 1, 15, "a"), *world(2.2, 16, 20, "a", ranks=(0, 1)), told(2.2, 1, 0, "b1", event="entered")]
    lines = [line for line in lines if not (line.life == "a1" and line.at > 2.0)]
    lines += [told(2.5 + 0.1 * n, 1, 16 + n, "b1") for n in range(4)]
    found = figures.recovery(lines, 2.0, (1,), 2)
    assert (found.first_s, found.new_s, found.lost) == (0.5, 0.5, 0)


def test_a_world_that_shrinks_is_not_whole() -> None:
    lines = world(0.0, 1, 15, "a") + world(3.0, 11, 20, "b", ranks=(0,))
    found = figures.recovery(lines, 2.0, (1,), 2)
    assert (found.first_s, found.new_s, found.shrunk_s, found.lost) == (None, None, 1.6, 5)


def test_a_world_that_shrinks_and_grows_again_has_both_figures() -> None:
    alone = [told(3.0 + 0.1 * n, 0, 16 + n, "a0", size=1) for n in range(3)]
    both = [told(4.1 + 0.1 * n, rank, 19 + n, f"{'ab'[rank]}{rank}") for n in range(3) for rank in (0, 1)]
    found = figures.recovery([*world(0.0, 1, 15, "a"), *alone, *both], 2.0, (1,), 2)
    assert (found.shrunk_s, found.new_s, found.lost) == (1.0, 2.1, 0)


def test_orphans_that_train_on_did_not_come_back() -> None:
    found = figures.recovery(world(0.0, 1, 40, "a"), 1.55, (0, 1), 2)
    assert found == Recovery(last_step=15, first_s=None, new_s=None, shrunk_s=None, lost=None)


def test_nothing_is_known_of_a_rank_that_never_spoke() -> None:
    assert figures.whole(world(0.0, 1, 9, "a", ranks=(0,)), 2) == 0


def test_ranks_whose_weights_differ_have_no_outcome() -> None:
    steps = world(0.0, 1, 3, "a")
    done = [Line(at=9.0, event="done", rank=rank, size=2, pid=1, life=f"a{rank}", weights="same") for rank in (0, 1)]
    other = Line(at=9.0, event="done", rank=1, size=2, pid=1, life="a1", weights="other")
    assert figures.outcome([*steps, *done], 2) == ("loss 3", "same")
    assert figures.outcome([*steps, done[0], other], 2) is None
    assert figures.outcome([*steps, done[0]], 2) is None


def test_a_step_that_was_done_again_counts_as_it_was_in_the_end() -> None:
    again = Line(at=5.0, event="step", rank=0, size=2, pid=1, life="b0", step=2, loss="another")
    assert figures.losses([again, *world(0.0, 1, 2, "a")]) == {1: "loss 1", 2: "another"}


def test_a_gap_is_the_longest_time_without_a_step_of_rank_0() -> None:
    lines = [*world(0.0, 1, 10, "a"), told(1.7, 0, 11, "a0"), told(1.2, 1, 11, "a1")]
    assert figures.gap_s(lines, 0.55) == 0.7
    assert figures.step_s(lines, 1.05) == 0.1


def block(began: float, event: str, steps: int, step_s: float) -> list[Line]:
    return [told(began + number * step_s, 0, number, "a", event=event) for number in range(1, steps + 1)]


def test_a_block_with_is_held_against_the_one_without_after_it() -> None:
    lines = block(0.0, "step", 10, 0.101) + block(2.0, "bare_step", 10, 0.1) + block(4.0, "step", 10, 0.103)
    found = figures.blocks(lines, 10)
    assert [(kind, pytest.approx(step_s)) for kind, step_s in found] == [
        ("with", 0.101),
        ("without", 0.1),
        ("with", 0.103),
    ]
    assert figures.overhead(found) == [pytest.approx(0.01)]
    assert figures.overhead(found[1:]) == []


def test_the_steps_after_a_change_do_not_count() -> None:
    slow, usual = block(0.0, "step", 10, 0.2), block(2.0, "step", 10, 0.1)
    assert figures.blocks([*slow, *usual], 10) == [("with", pytest.approx(0.1))]
    assert figures.blocks(slow[:9], 10) == []


def test_a_line_that_is_not_whole_yet_is_left_for_later() -> None:
    line = {"at": 1.0, "event": "entered", "rank": 0, "size": 2, "pid": 7, "life": "7.0"}
    text = json.dumps(line) + "\n" + json.dumps(line)[:20]
    assert [found.pid for found in figures.read(text)] == [7]


@pytest.mark.parametrize("file", sorted(RECORDED.glob("*.jsonl")), ids=lambda file: file.stem)
def test_recorded_runs_come_out_as_they_were_judged_by_hand(file: Path) -> None:
    head, _, rest = file.read_text().partition("\n")
    asked = json.loads(head)
    found = figures.recovery(figures.read(rest), asked["fault_at"], asked["victims"], 2)
    assert {name: getattr(found, name) for name in asked["wanted"]} == asked["wanted"]


def test_there_are_recorded_runs() -> None:
    assert len(list(RECORDED.glob("*.jsonl"))) >= 3


@pytest.mark.parametrize(
    ("found", "missed"),
    [
        ({"a copy": 1.2}, []),
        ({"a copy": 1.21, "another": 9.0}, ["a copy: 1.21 times, wanted at most 1.2"]),
        ({"a copy": float("nan")}, ["a copy: nan times, wanted at most 1.2"]),
        ({}, ["a copy: not measured"]),
    ],
)
def test_what_is_above_its_target_is_missed_and_so_is_what_was_not_measured(
    found: dict[str, float], missed: list[str]
) -> None:
    assert figures.above(found, {"a copy": 1.2}, " times") == missed


def test_one_line_says_what_was_missed() -> None:
    assert figures.verdict([]) == "within its targets"
    assert figures.verdict(["one", "another"]) == "MISSED: one; another"


USUAL_S = {"kill": 0.5, "exception": 0.5, "stop": 1.5, "spin": 1.6, "two": 1.0, "launcher": 3.5}


def trials(new_s: dict[str, float], peer: str = "lastgood", **more: Any) -> list[dict[str, Any]]:
    """Three of each fault, each as long, and of ours one whose supervisor was killed."""
    row = {"peer": peer, "end": "recovered", "same": True, "lost": 0, "step_s": 0.1}
    found = [row | {"fault": fault, "new_s": s} for fault, s in new_s.items() for _ in range(3)]
    adopted = row | {"fault": "supervisor", "seen_s": 1.0, "gap_s": 0.3}
    return [one | more for one in (*found, *([adopted] if peer == "lastgood" else []))]


def test_nothing_is_missed_where_all_is_within_its_targets() -> None:
    slow = {fault: 8.1 * s for fault, s in USUAL_S.items()}
    assert table.missed([*trials(USUAL_S), *trials(slow, peer="torchrun")]) == []
    assert table.missed(trials({"kill": 0.6})) == [], "what nobody tried has no target"


@pytest.mark.parametrize("fault", USUAL_S)
def test_a_median_that_is_too_long_is_missed(fault: str) -> None:
    found = table.missed(trials(USUAL_S | {fault: 4.2}))
    assert found == [f"{fault}: 4.20 s, wanted at most {table.MOST_S[fault]:g}"]


@pytest.mark.parametrize(("fault", "times"), [("kill", 8), ("exception", 8), ("stop", 5), ("spin", 5)])
def test_a_peer_that_is_nearly_as_fast_is_told(fault: str, times: int) -> None:
    rows = [*trials(USUAL_S), *trials({fault: (times - 0.1) * USUAL_S[fault]}, peer="torchrun")]
    (told,) = table.missed(rows)
    assert f"{times - 0.1} times faster" in told
    assert told.endswith(f"(torchrun, {rows[-1]['new_s']:.2f} s), wanted {times}")
    rows[-1] |= {"end": "ends", "new_s": None}
    assert table.missed(rows) == [], "it does not always restore the whole world"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"end": "not within 60 s", "new_s": None}, "not within 60 s"),
        ({"same": False}, "it does not end as undisturbed training does"),
        ({"same": None}, "it does not end as undisturbed training does"),
    ],
)
def test_one_trial_of_ours_that_ends_otherwise_is_missed(more: dict[str, Any], why: str) -> None:
    rows = trials(USUAL_S)
    rows[0] |= more
    assert table.missed(rows) == [f"lastgood, kill: {why}"]
    assert table.missed([one | {"peer": "torchrun"} for one in rows[:-1]]) == [], "only ours is judged"


def test_a_pause_without_a_supervisor_is_missed_and_so_is_a_new_life() -> None:
    (late,), (anew,) = table.missed(trials({}, gap_s=0.31)), table.missed(trials({}, lost=None))
    assert late == "lastgood, supervisor: a step came 2.1 steps late, wanted at most 2"
    assert anew == "lastgood, supervisor: a rank was started anew"

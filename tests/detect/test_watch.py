"""All detectors together, on whatever comes."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitors import signals as s
from monitors.incidents import Incident, Kind
from monitors.watch import Watch, WatchConfig
from tests.detect.worlds import World

WILD = st.one_of(st.floats(0, 100), st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 0.0, 1e300, -1e300]))
FAILURES = st.builds(
    s.Failure,
    kind=st.sampled_from(["ValueError", "RuntimeError"]),
    message=st.sampled_from(["boom", "Connection closed by peer", ""]),
    traceback=st.just(""),
    raised_at=WILD,
    fingerprint=st.sampled_from(["", "a"]),
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "at": WILD,
    "node": st.integers(0, 3),
    "world": st.integers(0, 3),
    "rank": st.integers(0, 4),
    "pid": st.just(7),
    "step": st.integers(-1, 60),
    "checkpoint": st.sampled_from(["step-00000040.a1w1", "step-00000050.a1w2"]),
    "phase": st.sampled_from(list(s.Phase)),
    "moved_at": WILD,
    "spent_s": st.one_of(st.just(()), st.lists(WILD, min_size=1, max_size=8).map(tuple)),
    "loss": st.one_of(st.none(), WILD),
    "grad_norm": st.one_of(st.none(), WILD),
    "step_s": st.one_of(st.none(), WILD),
    "code": st.sampled_from([None, 0, 1]),
    "signal": st.sampled_from([None, 6, 9, 64]),
    "failure": st.one_of(st.none(), FAILURES),
    "ordered": st.booleans(),
    "state": st.sampled_from("RSDTZ"),
    "stack": st.sampled_from([(), ("main", "spin")]),
    "cpu_s": WILD,
    "bytes": st.just(1),
    "saved_at": WILD,
    "stall_s": WILD,
    "took_s": WILD,
    "why": st.just("why"),
    "errno": st.sampled_from([None, 28, 9999]),
    "sense": st.just("notes"),
    "drill": st.just("spin"),
}


def signals_of(cls: type) -> st.SearchStrategy[Any]:
    # What VALUES does not name is any value of its type.
    return st.builds(cls, **{f.name: VALUES[f.name] for f in fields(cls) if f.name in VALUES})


ANY = st.one_of(*(signals_of(cls) for cls in s.Signal.__args__))


def watch() -> Watch:
    return Watch(WatchConfig(unlearned_s=5, start_s=20), nodes=2, ranks_per_node=2)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(ANY, st.tuples(st.floats(0, 200)), st.sampled_from(["world", "rewind"])), max_size=80))
def test_nothing_that_arrives_is_too_much(heard: list[Any]) -> None:
    one, world = watch(), 0
    for thing in heard:
        if thing == "world":
            world += 1
            one.world_began(world, float(world))
        elif thing == "rewind":
            one.rewound(10)
        elif isinstance(thing, tuple):
            one.silent(thing[0])
            assert one.silent(thing[0]) == [], "asked twice"
        else:
            for incident in one.see(thing):
                assert isinstance(incident, Incident)
                assert incident.world == world
        assert one.deadline is None or math.isfinite(one.deadline)
        assert all(isinstance(rank, int) for rank in one.looks)


@settings(max_examples=50, deadline=None)
@given(st.lists(ANY, max_size=40))
def test_older_worlds_raise_no_incident(heard: list[Any]) -> None:
    one = watch()
    one.world_began(9, 0.0)
    kinds = [i.kind for signal in heard for i in one.see(signal)]
    assert set(kinds) <= {Kind.CHECKPOINT_CORRUPT, Kind.START_STALLED}, "what is true in any world"


@settings(max_examples=30, deadline=None)
@given(st.lists(ANY, max_size=60))
def test_the_same_signals_give_the_same_incidents(heard: list[Any]) -> None:
    one, other = watch(), watch()
    for each in (one, other):
        each.world_began(1, 0.0)
    assert [repr(one.see(signal)) for signal in heard] == [repr(other.see(signal)) for signal in heard]


def test_a_world_once_over_is_not_told_of_again() -> None:
    world = World()
    world.train(20)
    world.begin(step=10)
    old = s.RankExited(at=world.now, node=0, world=1, rank=0, code=None, signal=9, step=20)
    world.say(old)
    assert world.incidents == []
    world.train(20)
    world.ends(1, code=None, signal=11)
    assert [i.kind for i in world.incidents] == [Kind.WORKER_KILLED]


def test_every_fault_of_a_run_in_turn() -> None:
    """One watch through a life of five worlds: each fault is named once, nothing else is said."""
    world = World()
    world.train(30)
    world.ends(1, code=None, signal=9)
    world.begin(step=20)
    world.train(30)
    world.ranks[0].still = True
    world.train(1)
    world.until_incident(0)
    world.passes(3)
    world.begin(step=40)
    world.train(30)
    world.say(s.SaveFailed(at=world.now, node=0, world=3, rank=0, step=50, why="[Errno 28]", errno=28))
    world.say(s.CheckpointRefused(at=world.now, node=0, checkpoint="step-00000040.a1w2", why="digest"))
    world.train(30)
    world.say(s.StepReported(at=world.now, node=0, world=3, rank=0, step=101, loss=math.nan))
    world.passes(0.9)
    kinds = [incident.kind for incident in world.incidents]
    assert kinds == [
        Kind.WORKER_KILLED,
        Kind.HANG,
        Kind.SAVE_FAILED,
        Kind.CHECKPOINT_CORRUPT,
        Kind.NONFINITE_LOSS,
    ]
    assert [incident.subject.rank for incident in world.incidents[:2]] == [1, 0]


def test_the_deadline_is_the_nearest_one() -> None:
    one = watch()
    one.world_began(1, 100.0)
    assert one.deadline == 130.0
    failure = s.Failure(
        kind="RuntimeError", message="Connection closed by peer", traceback="", raised_at=101.0, fingerprint="f"
    )
    assert one.see(s.RankExited(at=101.0, node=0, world=1, rank=0, code=1, signal=None, step=3, failure=failure)) == []
    assert one.deadline == 101.5
    assert [i.kind for i in one.silent(101.5)] == [Kind.WORKER_EXCEPTION]
    assert one.deadline == 130.0


def test_worlds_only_move_forward() -> None:
    one = watch()
    one.world_began(2, 0.0)
    with pytest.raises(AssertionError):
        one.world_began(2, 1.0)

"""A world that never came to its first step."""

from __future__ import annotations

from monitors.incidents import Kind
from monitors.signals import Phase, RankEntered
from tests.detect.worlds import World


def starting(**config: float) -> World:
    world = World(**config)  # type: ignore[arg-type]
    for rank in world.ranks:
        rank.phase = Phase.STARTING
    return world


def test_the_rank_that_did_not_start_is_named() -> None:
    world = starting(start_s=60)
    world.say(*(RankEntered(at=0.0, node=0, world=1, rank=n) for n in (0, 1)))
    world.ranks[0].does(Phase.RESTORING, 1.0)
    assert 61 <= world.until_incident(100) < 62, "rank 0 moved after a second"
    (stalled,) = world.incidents
    assert (stalled.kind, stalled.subject.rank) == (Kind.START_STALLED, 1)
    assert stalled.onset < 1
    world.passes(100)
    assert len(world.incidents) == 1


def test_a_first_start_may_take_as_long_as_one_of_its_ranks_works() -> None:
    world = starting(start_s=60)
    for _ in range(600):
        world.passes(1)
        world.ranks[0].moved_at = world.now  # its agent sees it use the CPU; rank 1 waits for it
    assert world.incidents == []
    assert 59 <= world.until_incident(100) < 61
    assert [i.kind for i in world.incidents] == [Kind.START_STALLED]


def test_a_start_that_is_known_has_a_limit_whatever_its_ranks_do() -> None:
    world = starting(start_s=60, unlearned_s=1000)
    world.begin(step=0)
    world.train(3)
    world.begin(step=3)
    for rank in world.ranks:
        rank.phase, rank.speaks = Phase.STARTING, True
    for _ in range(70):
        world.passes(1)
        world.ranks[0].moved_at = world.now
    assert [i.kind for i in world.incidents] == [Kind.START_STALLED]


def test_a_script_that_tells_no_steps_is_stalled_only_when_it_does_nothing() -> None:
    world = starting(start_s=60, unlearned_s=1000)
    for number in range(600):
        world.passes(1)
        world.ranks[number % 2].moved_at = world.now
    assert world.incidents == []
    assert 59 <= world.until_incident(100) < 61


def test_a_first_step_ends_the_start_whatever_step_was_restored() -> None:
    world = starting(start_s=60, unlearned_s=1000)
    world.begin(step=500)
    world.say(*(RankEntered(at=0.0, node=0, world=2, rank=n) for n in (0, 1)))
    world.passes(59)
    world.train(1)
    world.passes(300)
    assert world.incidents == []


def test_one_rank_without_a_first_step_stalls_the_start() -> None:
    world = starting(start_s=60, unlearned_s=1000)
    world.begin(step=500)
    world.say(*(RankEntered(at=0.0, node=0, world=2, rank=n) for n in (0, 1)))
    world.ranks[1].still = True
    world.train(1)
    world.passes(100)
    assert [(i.kind, i.subject.rank) for i in world.incidents] == [(Kind.START_STALLED, 1)]


def test_a_script_that_speaks_of_no_steps_has_started_once_it_is_past_its_start() -> None:
    world = starting(start_s=60)
    world.passes(10)
    for rank in world.ranks:
        rank.does(Phase.STEP, world.now)
    world.passes(100)
    assert world.incidents == []


def test_an_unheard_node_is_not_said_to_have_stalled() -> None:
    world = starting(nodes=2, ranks_per_node=1, start_s=20, unseen_s=1000)
    world.unheard = {1}
    world.train(3)
    world.passes(30)
    assert world.incidents == []
    world.unheard = set()
    world.ranks[1].does(Phase.STEP, world.now)
    world.look()
    assert world.incidents == []


def test_the_limit_of_a_start_counts_from_when_the_last_node_had_the_order() -> None:
    world = starting(nodes=2, ranks_per_node=1, start_s=60, unseen_s=10_000)
    world.unheard = {1}
    world.passes(2600)
    assert world.incidents == [], "node 0 waits for a node that is cut off"
    world.unheard = set()
    heard = world.now
    assert 60 <= world.until_incident(100) < 61
    (stalled,) = world.incidents
    assert stalled.kind is Kind.START_STALLED
    assert heard <= stalled.onset < heard + 1, "the hour before was not a start that stalled"


def test_a_world_that_died_while_starting_has_one_incident() -> None:
    world = starting(start_s=20)
    world.passes(5)
    world.ends(1, code=1)
    world.passes(60)
    assert [i.kind for i in world.incidents] == [Kind.WORKER_EXCEPTION]

"""Who holds up the world, and who only waits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from monitors.detect.hang import Hang, HangConfig
from monitors.incidents import Blame, Incident, Kind
from monitors.signals import PHASES, NodeSeen, Phase, RankProgress, RankRestored, StepReported
from tests.detect.worlds import World


def trained(steps: int = 40, **config: float) -> World:
    world = World(**config)  # type: ignore[arg-type]
    world.train(steps)
    assert world.incidents == []
    return world


def test_a_stopped_rank_is_named_within_a_second_and_a_third() -> None:
    world = trained()
    began = world.now
    world.passes(0.8)
    assert world.watch.looks == (0, 1)
    world.kernel(0, "S")
    world.kernel(1, "T")
    assert world.watch.looks == ()
    world.until_incident(5)
    (hang,) = world.incidents
    assert (hang.kind, hang.subject.rank, hang.blame) == (Kind.HANG, 1, Blame.HOST)
    assert hang.at - began <= 1.3
    assert hang.onset == pytest.approx(began)
    assert hang.confidence > 0.9


def test_the_name_waits_for_a_look_that_is_late() -> None:
    world = trained()
    world.passes(0.8)
    world.kernel(0, "S")
    world.passes(0.5)
    assert world.incidents == []
    world.kernel(1, "T")
    world.until_incident(5)
    (hang,) = world.incidents
    assert (hang.subject.rank, hang.blame) == (1, Blame.HOST)


def test_a_look_that_never_comes_does_not_hold_up_the_verdict() -> None:
    world = trained()
    world.passes(0.8)
    world.kernel(0, "S")
    assert world.until_incident(5) == pytest.approx(1.5 - 0.8, abs=0.3)


def test_a_spinning_rank_is_named_by_its_cpu() -> None:
    world = trained(ranks_per_node=4)
    world.passes(0.8)
    for rank in (0, 1, 3):
        world.kernel(rank, "S")
    world.kernel(2, "R", ("train.py:9 main", "train.py:30 spin"))
    world.until_incident(5)
    (hang,) = world.incidents
    assert (hang.subject.rank, hang.blame, hang.step) == (2, Blame.USER_CODE, 40)
    assert any("train.py:30 spin" in said for said in hang.evidence)


def test_a_rank_that_is_held_in_the_kernel_is_named_among_sleepers() -> None:
    world = trained(ranks_per_node=4)
    world.passes(0.8)
    for rank in (0, 1, 3):
        world.kernel(rank, "S")
    world.kernel(2, "D", ("train.py:9 main", "loader.py:30 read"))
    world.until_incident(5)
    (hang,) = world.incidents
    assert (hang.subject.rank, hang.blame, hang.confidence) == (2, Blame.STORAGE, 0.85)


def test_the_rank_that_is_behind_is_named_without_any_look_at_processes() -> None:
    world = trained()
    world.ranks[1].still = True
    world.train(1)
    world.until_incident(5)
    (hang,) = world.incidents
    assert (hang.subject.rank, hang.step, hang.confidence) == (1, 40, 0.95)
    assert "rank 0 finished step 41, so the world waits for it" in hang.evidence


def test_a_rank_that_saves_while_the_others_went_on_holds_them_up() -> None:
    world = trained(unlearned_s=20)
    world.ranks[1].does(Phase.SAVE, world.now)
    assert world.until_incident(60) == pytest.approx(20, abs=0.4)
    assert world.incidents[0].subject.rank == 1


def test_equal_ranks_are_named_with_little_confidence() -> None:
    world = trained()
    assert world.until_incident(5) <= 1.3
    assert world.incidents[0].confidence < 0.5
    world.passes(60)
    assert len(world.incidents) == 1, "one world, one hang"


@pytest.mark.parametrize("phase", [Phase.SAVE, Phase.EVAL, Phase.DATA])
@pytest.mark.parametrize("everybody", [True, False])
def test_long_phases_are_no_hang(phase: Phase, everybody: bool) -> None:
    world = trained()
    for rank in world.ranks[: None if everybody else 1]:
        rank.does(phase, world.now)
    world.passes(250)
    for rank in world.ranks:
        if rank.phase is phase:
            rank.does(Phase.STEP, world.now)
    world.train(20)
    assert world.incidents == []


def test_short_saves_do_not_make_a_long_one_a_hang() -> None:
    world = trained()
    for seconds in [0.05] * 20 + [60]:
        for rank in world.ranks:
            rank.does(Phase.SAVE, world.now)
        world.passes(seconds)
        for rank in world.ranks:
            rank.does(Phase.STEP, world.now)
        world.train(3)
    assert world.incidents == []


@pytest.mark.parametrize("step_s", [0.01, 0.1, 1.0, 8.0])
def test_slow_steps_are_no_hang(step_s: float) -> None:
    world = trained(step_s=step_s)
    for slower in (1, 5, 2, 5, 5, 1):
        world.train(1, step_s=slower * step_s)
        world.train(10)
    assert world.incidents == []


def test_the_limit_follows_the_run() -> None:
    world = trained(step_s=2.0)
    assert 11.5 < world.until_incident(60) < 13
    assert "the limit for a step is 12.0 s" in world.incidents[0].evidence[-1]


def test_what_was_learned_outlives_the_world_and_the_first_step_is_its_own_phase() -> None:
    world = trained(step_s=0.1)
    world.begin(step=30)
    world.train(1, step_s=50)
    world.train(5)
    assert world.incidents == []
    assert world.until_incident(5) <= 1.3


@pytest.mark.parametrize(("in_eval_s", "limit_s"), [(0.0, 3.0), (0.4, 3.0), (0.8, 1.0)])
def test_of_several_steps_in_one_look_the_longest_counts_as_far_as_it_was_a_step(
    in_eval_s: float, limit_s: float
) -> None:
    """Four steps of 0.1 s and one of 0.5, of which, or besides which, some was spent in an evaluation."""
    hang, at, spent_s = Hang(HangConfig(), ranks=1), 0.0, [0.0] * len(PHASES)

    def told(step: int, moved_at: float, longest_s: float = 0.0) -> list[Incident]:
        return hang.see(
            RankProgress(
                at=at,
                node=0,
                world=0,
                rank=0,
                step=step,
                phase=Phase.STEP,
                moved_at=moved_at,
                spent_s=tuple(spent_s),
                longest_s=longest_s,
            )
        )

    told(1, at)
    for look in range(1, 31):
        at += 0.9
        spent_s[PHASES.index(Phase.EVAL)] += in_eval_s
        spent_s[PHASES.index(Phase.STEP)] += 0.9 - in_eval_s
        assert told(1 + 5 * look, at, longest_s=0.5) == []
    silent_from = at
    while not told(151, silent_from):
        at += 0.05
    assert at - silent_from == pytest.approx(limit_s, abs=0.11)


def test_one_look_at_many_steps_teaches_as_much_as_many_looks() -> None:
    """A rank that hangs a second after its first steps is not left for as long as one of whom nothing is known."""
    hang = Hang(HangConfig(), ranks=1)
    spent_s = [0.0] * len(PHASES)
    seen = RankProgress(at=0.0, node=0, world=0, rank=0, step=0, phase=Phase.STEP, moved_at=0.0, spent_s=tuple(spent_s))
    hang.see(seen)
    spent_s[PHASES.index(Phase.STEP)] = 1.4
    hang.see(replace(seen, at=1.4, moved_at=1.4, step=10, spent_s=tuple(spent_s), longest_s=0.5))
    told, at = list[Incident](), 1.4
    while not told and at < 10.0:
        at += 0.05
        told = hang.see(replace(seen, at=at, moved_at=1.4, step=10, spent_s=tuple(spent_s)))
    assert at == pytest.approx(1.4 + 1.0, abs=0.11)


def test_the_step_that_a_rank_is_restored_to_teaches_nothing() -> None:
    """A thousand steps in no time would make a second of silence a hang, whatever a step takes."""
    hang, spent_s = Hang(HangConfig(), ranks=1), [0.0] * len(PHASES)
    seen = RankProgress(at=1.0, node=0, world=0, rank=0, step=0, phase=Phase.STARTING, moved_at=1.0)
    for at, phase in ((1.0, Phase.STARTING), (2.0, Phase.RESTORING)):
        hang.see(replace(seen, at=at, moved_at=at, phase=phase, spent_s=tuple(spent_s)))
    hang.see(RankRestored(at=2.0, node=0, world=0, rank=0, checkpoint="step-00001000.a1w1", step=1000))
    at = 3.0
    for step, passed_s in ((1000, 1.0), (1001, 5.0), (1002, 5.0), (1003, 5.0)):
        spent_s[PHASES.index(Phase.STEP)] += passed_s
        moved = replace(seen, at=at, moved_at=at, step=step, phase=Phase.STEP, spent_s=tuple(spent_s))
        assert hang.see(moved) == []
        for look in range(1, 20):
            assert hang.see(replace(moved, at=at + 0.25 * look)) == [], "a step of five seconds is no silence"
        at += 5.0


@pytest.mark.parametrize(("glanced_at", "after_s"), [(10.5, 1.0), (0.0, 1.2)])
def test_a_glance_that_saw_a_rank_move_is_no_pause_of_its_agent(glanced_at: float, after_s: float) -> None:
    hang = Hang(HangConfig(), ranks=1)
    seen = RankProgress(at=0.0, node=0, world=0, rank=0, step=0, phase=Phase.STEP, moved_at=0.0)
    for step in range(101):
        at = 0.1 * step
        assert hang.see(replace(seen, at=at, moved_at=at, step=step)) == []
    stopped_at = 10.3
    told = hang.see(replace(seen, at=11.0, moved_at=stopped_at, step=103, glanced_at=glanced_at))
    at = 11.0
    while not told:
        at += 0.05
        told = hang.see(replace(seen, at=at, moved_at=stopped_at, step=103))
    assert at - stopped_at == pytest.approx(after_s, abs=0.06)


def test_the_stack_of_an_earlier_look_is_told_where_that_of_the_last_has_not_come() -> None:
    world = trained()
    for after_s, stack in ((0.4, ("train.py:7 in load_batch",)), (0.3, ())):
        world.passes(after_s)
        for rank in world.ranks:
            world.kernel(rank.number, "S", stack)
    world.until_incident(5)
    assert any("load_batch" in said for said in world.incidents[0].evidence if said.startswith("stack of"))


def test_stored_rows_teach_step_times_again() -> None:
    world = World()
    rows = [
        StepReported(at=float(n), node=0, world=0, rank=0, step=n, step_s=90.0 if n % 50 == 0 else 0.1)
        for n in range(1, 200)
    ]
    world.watch.recall(rows)
    world.train(2)
    assert world.until_incident(5) <= 1.3


def test_an_agent_that_is_not_heard_makes_no_hang() -> None:
    world = trained(nodes=2, ranks_per_node=1)
    world.unheard = {1}
    world.ranks[1].still = world.ranks[0].still = True
    world.passes(25)
    assert world.incidents == []
    world.passes(10)
    assert [(i.kind, i.subject.node) for i in world.incidents] == [(Kind.NODE_UNSEEN, 1)]


def test_a_paused_node_is_no_hang() -> None:
    world = trained()
    world.now += 90  # agent and ranks alike
    world.look()
    world.train(30)
    assert [i for i in world.incidents if i.kind is Kind.HANG] == []


def test_a_rank_that_is_not_there_yet_is_waited_for() -> None:
    world = World(start_s=600)
    for rank in world.ranks:
        rank.phase = Phase.STARTING
    world.look()
    world.ranks[0].does(Phase.STEP, world.now)
    world.passes(500)
    assert world.incidents == []


def test_a_rank_that_ended_well_leaves_the_others_to_be_judged() -> None:
    world = trained()
    world.ends(0)
    world.until_incident(5)
    assert world.incidents[0].subject.rank == 1


def test_after_a_death_nobody_hangs() -> None:
    world = trained()
    world.ends(0, code=None, signal=9)
    world.passes(30)
    assert [i.kind for i in world.incidents] == [Kind.WORKER_KILLED]


def test_looks_without_news_count_through_the_nodes_word() -> None:
    world = trained()
    for n in range(8):
        world.say(NodeSeen(at=world.now + 0.25 * n, node=0, world=1))
    assert [i.kind for i in world.incidents] == [Kind.HANG]


def test_a_look_is_wanted_twice_in_each_stretch_of_silence() -> None:
    world = trained()
    for rank in world.ranks:
        rank.does(Phase.EVAL, world.now)
    for seconds in (0.6, 0.4):
        world.passes(seconds)
        assert world.watch.looks == (0, 1)
        world.kernel(0, "R")
        world.kernel(1, "S")
        assert world.watch.looks == ()
    world.passes(100)
    assert world.watch.looks == ()
    for rank in world.ranks:
        rank.does(Phase.STEP, world.now)
    world.passes(0.6)
    assert world.watch.looks == (0, 1)


@pytest.mark.parametrize(("share", "least", "most"), [(0.2, 4.0, 4.5), (1.0, 1.0, 1.3)])
def test_a_rank_that_gets_little_cpu_is_given_more_time(share: float, least: float, most: float) -> None:
    world = trained()
    began = world.now
    for seconds in (0.4, 0.4):
        world.passes(seconds)
        world.kernel(0, "S")
        world.kernel(1, "R", cpu_s=share * (world.now - began))
    world.until_incident(10)
    (hang,) = world.incidents
    assert least <= hang.at - began <= most
    assert hang.subject.rank == 1

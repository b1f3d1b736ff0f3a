"""Which save is written, which waits, and which copies are free again?"""

from __future__ import annotations

from jobs.agent.staged import Queue, Save, Staged


def copy(rank: int, step: int, world: int = 1, path: str = "") -> Staged:
    return Staged(
        rank=rank, world=world, step=step, path=path or f"{rank}.{step}", data_index=step, saved_at=float(step)
    )


def put(queue: Queue, step: int, world: int = 1) -> Save | None:
    """Both ranks stage a step; what it took the place of."""
    assert queue.put(copy(1, step, world)) is None
    return queue.put(copy(0, step, world))


def steps(*saves: Save | None) -> list[int]:
    return [save[0].step for save in saves if save is not None]


def test_a_save_is_complete_with_its_last_rank_and_in_the_order_of_ranks() -> None:
    queue = Queue(ranks=2)
    queue.put(copy(1, 5))
    assert queue.begin() is None
    queue.put(copy(0, 5))
    begun = queue.begin()
    assert begun is not None
    assert [one.rank for one in begun] == [0, 1]


def test_one_is_written_and_the_newest_waits() -> None:
    queue = Queue(ranks=2)
    assert steps(put(queue, 5), queue.begin(), put(queue, 10), queue.begin()) == [5]
    assert steps(put(queue, 15)) == [10], "the third takes the second's place"
    assert steps(*queue.known) == [5, 15]
    assert steps(queue.end(), queue.begin(), queue.begin(), queue.end(), queue.begin()) == [5, 15, 15]


def test_one_that_waits_outlives_its_world_and_half_a_one_does_not() -> None:
    queue = Queue(ranks=2)
    put(queue, 5)
    queue.put(copy(0, 10))
    assert queue.free(["0.5", "1.5", "0.10", "1.10"]) == ["1.10"]
    queue.world_over()
    assert queue.free(["0.5", "1.5", "0.10", "1.10"]) == ["0.10", "1.10"]
    assert queue.put(copy(1, 10)) is None
    assert steps(*queue.known) == [5]


def test_the_same_step_of_two_worlds_is_two_saves() -> None:
    queue = Queue(ranks=2)
    queue.put(copy(0, 5, world=1))
    queue.put(copy(1, 5, world=2))
    assert queue.known == ()

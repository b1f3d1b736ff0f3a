"""What does the outbox keep for a supervisor that is away?"""

from __future__ import annotations

from jobs.agent.outbox import RANKS_KEPT, SLACK, STEPS_KEPT, Outbox
from monitors.signals import NodeSeen, Phase, RankExited, RankProgress, RanksReported, Signal, StepReported


def progress(rank: int, step: int) -> RankProgress:
    return RankProgress(at=1.0, node=0, world=1, rank=rank, step=step, phase=Phase.STEP, moved_at=1.0)


def row(step: int) -> StepReported:
    return StepReported(at=1.0, node=0, world=1, rank=0, step=step)


EXITED = RankExited(at=1.0, node=0, world=1, rank=0, code=1, signal=None, step=3)


def sent(outbox: Outbox) -> list[tuple[int, Signal]]:
    return [(report.seq, report.signal) for report in outbox.take(1_000_000)]


def test_facts_go_out_in_order_and_once() -> None:
    outbox = Outbox()
    for signal in (row(1), EXITED, row(2)):
        outbox.put(signal)
    assert outbox.changed.is_set()
    assert sent(outbox) == [(1, row(1)), (2, EXITED), (3, row(2))]
    assert not outbox.changed.is_set()
    assert sent(outbox) == []


def test_a_new_connection_gets_what_was_not_heard() -> None:
    outbox = Outbox()
    for step in range(1, 6):
        outbox.put(row(step))
    sent(outbox)
    outbox.heard(3)
    outbox.rewind()
    assert sent(outbox) == [(4, row(4)), (5, row(5))]


def test_the_newest_progress_overtakes_the_older() -> None:
    outbox = Outbox()
    seen = NodeSeen(at=1.0, node=0, world=1)
    for signal in (progress(0, 1), progress(1, 1), EXITED, seen, progress(0, 2), seen):
        outbox.put(signal)
    assert sent(outbox) == [(2, progress(1, 1)), (3, EXITED), (5, progress(0, 2)), (6, seen)]


def test_steps_are_bounded_and_facts_are_not() -> None:
    outbox = Outbox()
    outbox.put(EXITED)
    for step in range(STEPS_KEPT + 10):
        outbox.put(row(step))
    signals = [signal for _, signal in sent(outbox)]
    assert signals[0] == EXITED
    assert signals[1:] == [row(step) for step in range(10, STEPS_KEPT + 10)]


def test_what_ranks_saw_alone_crowds_out_no_step() -> None:
    outbox = Outbox()
    outbox.put(row(1))
    for step in range(RANKS_KEPT + 10):
        outbox.put(RanksReported(at=1.0, node=0, world=1, step=step, ranks=(0, 1)))
    signals = [signal for _, signal in sent(outbox)]
    assert signals[0] == row(1)
    assert [one.step for one in signals[1:] if isinstance(one, RanksReported)] == list(range(10, RANKS_KEPT + 10))


def test_what_another_agents_supervisor_heard_is_not_ours() -> None:
    outbox = Outbox()
    outbox.put(EXITED)
    outbox.heard(500)
    assert sent(outbox) == [(1, EXITED)]
    outbox.heard(1)
    assert len(outbox) == 0


def test_what_is_overtaken_leaves_nothing_behind_while_nobody_listens() -> None:
    outbox = Outbox()
    outbox.put(EXITED)
    for step in range(10 * SLACK):
        outbox.put(progress(0, step))
    assert outbox.waiting <= SLACK + 2 * len(outbox)
    assert [signal for _, signal in sent(outbox)] == [EXITED, progress(0, 10 * SLACK - 1)]

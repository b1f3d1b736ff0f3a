"""When is what single ranks report true of the whole world?"""

from __future__ import annotations

from dataclasses import replace

from monitors import signals as s
from monitors.incidents import Kind
from monitors.watch import Watch, WatchConfig
from orchestrator.core import events as e
from orchestrator.inbox import Inbox

NODES, EACH = 2, 1


def inbox() -> Inbox:
    watch = Watch(WatchConfig(), nodes=NODES, ranks_per_node=EACH)
    return Inbox(nodes=NODES, ranks_per_node=EACH, watch=watch, folder="/ckpt")


def entered(rank: int, at: float, world: int = 1) -> s.RankEntered:
    return s.RankEntered(at=at, node=rank, world=world, rank=rank)


def restored(rank: int, at: float, step: int = 40, world: int = 1) -> s.RankRestored:
    return s.RankRestored(at=at, node=rank, world=world, rank=rank, checkpoint="c", step=step)


def moved(rank: int, at: float, step: int, phase: s.Phase = s.Phase.STEP, world: int = 1) -> s.RankProgress:
    return s.RankProgress(at=at, node=rank, world=world, rank=rank, step=step, phase=phase, moved_at=at)


def told(box: Inbox, *signals: s.Signal) -> list[str]:
    return [type(event).__name__ for signal in signals for event in box.see(signal)]


def test_a_world_has_entered_and_restored_when_its_last_rank_has() -> None:
    box = inbox()
    box.began(1, 0.0)
    assert told(box, entered(0, 1.0)) == []
    assert told(box, entered(1, 2.0)) == ["WorldEntered"]
    assert told(box, restored(0, 3.0)) == []
    (event,) = box.see(restored(1, 4.0))
    assert event == e.WorldRestored(at=4.0, world=1, checkpoint="c", step=40)


def test_the_first_step_is_the_first_that_every_rank_finished() -> None:
    box = inbox()
    box.began(1, 0.0)
    told(box, entered(0, 1.0), entered(1, 1.0), restored(0, 2.0), restored(1, 2.0))
    assert told(box, moved(0, 3.0, 40), moved(1, 3.0, 40), moved(0, 4.0, 41)) == []
    (event,) = box.see(moved(1, 5.0, 41))
    assert isinstance(event, e.Progressed)
    assert event.step == 41


def test_said_twice_is_heard_once() -> None:
    box = inbox()
    box.began(1, 0.0)
    told(
        box, entered(0, 1.0), entered(1, 1.0), restored(0, 2.0), restored(1, 2.0), moved(0, 3.0, 41), moved(1, 3.0, 41)
    )
    assert told(box, entered(0, 1.0), entered(1, 1.0), restored(0, 2.0), restored(1, 2.0)) == []
    assert told(box, moved(0, 3.0, 41), moved(1, 3.0, 41)) == []


def test_an_older_world_is_history() -> None:
    box = inbox()
    box.began(1, 0.0)
    box.began(2, 1.0)
    assert told(box, entered(0, 2.0), entered(1, 2.0), moved(0, 3.0, 41), moved(1, 3.0, 41)) == []


def test_a_supervisor_that_came_in_the_middle_of_a_start_still_sees_its_end() -> None:
    """The one before heard half of the ranks, and what was heard is not said again."""
    box = inbox()
    box.adopted(1, 10.0, speaks=False, trains=False)
    assert told(box, entered(1, 11.0)) == []
    assert told(box, restored(1, 12.0)) == []
    assert told(box, moved(1, 13.0, 41)) == []
    assert told(box, moved(0, 14.0, 41)) == ["WorldEntered", "WorldRestored", "Progressed"]


def test_a_restore_that_takes_long_is_not_taken_for_progress() -> None:
    box = inbox()
    box.adopted(1, 0.0, speaks=True, trains=False)
    for at in range(0, 100, 10):
        assert told(box, moved(0, at, 0, s.Phase.RESTORING), moved(1, at, 0, s.Phase.RESTORING)) == []


def test_a_world_adopted_while_it_trains_goes_on_with_its_next_step() -> None:
    box = inbox()
    box.adopted(3, 0.0, speaks=True, trains=True)
    assert told(box, moved(0, 1.0, 70, world=3), moved(1, 1.0, 70, world=3)) == []
    assert told(box, moved(0, 3.0, 71, world=3), moved(1, 3.0, 71, world=3)) == ["Progressed"]
    assert told(box, restored(0, 0.5, world=3), restored(1, 0.5, world=3)) == []  # sent again


def test_steps_read_from_one_ranks_log_are_those_of_the_world() -> None:
    box = inbox()
    box.began(1, 0.0)
    (event,) = box.see(moved(0, 1.0, 5))
    assert isinstance(event, e.Progressed)
    assert event.step == 5


def test_a_script_that_speaks_of_no_steps_makes_progress_by_moving() -> None:
    box = inbox()
    box.began(1, 0.0)
    assert told(box, moved(0, 10.0, 0), moved(1, 10.0, 0)) == []
    assert told(box, moved(0, 31.0, 0)) == ["Progressed"]


def test_the_last_step_is_told_before_the_end_of_the_world() -> None:
    box = inbox()
    box.began(1, 0.0)
    told(box, entered(0, 1.0), entered(1, 1.0), restored(0, 2.0), restored(1, 2.0))
    told(box, moved(0, 3.0, 41), moved(1, 3.0, 41), moved(0, 3.2, 42), moved(1, 3.2, 42))
    events = box.see(s.WorldStopped(at=3.3, node=0, world=1))
    assert [type(event).__name__ for event in events] == ["Progressed", "NodeStopped"]
    assert isinstance(events[0], e.Progressed)
    assert events[0].step == 42


def test_only_an_end_of_its_own_that_went_well_finishes_a_rank() -> None:
    box = inbox()
    box.began(1, 0.0)
    ends = [
        s.RankExited(at=1.0, node=0, world=1, rank=0, code=0, signal=None, step=9),
        s.RankExited(at=1.0, node=1, world=1, rank=1, code=0, signal=None, step=9, ordered=True),
    ]
    assert told(box, *ends) == ["RankFinished"]


def test_which_ranks_of_the_newest_world_are_there() -> None:
    box = inbox()
    box.began(1, 0.0)
    assert told(box, s.RankStarted(at=1.0, node=0, world=1, rank=0, pid=7)) == []
    assert [box.has_started(rank) for rank in (0, 1)] == [True, False]
    box.began(2, 2.0)
    told(box, s.RankStarted(at=3.0, node=1, world=1, rank=1, pid=8))
    assert [box.has_started(rank) for rank in (0, 1)] == [False, False]


def test_how_long_a_save_took_to_be_written_is_told_by_the_clock_of_its_host() -> None:
    saved = s.SaveCommitted(at=90.0, node=0, world=1, checkpoint="c", step=40, bytes=7, saved_at=87.5, stall_s=0.25)
    (event,) = inbox().see(saved)
    assert isinstance(event, e.CheckpointCommitted)
    assert (event.stall_s, event.write_s) == (0.25, 2.5)


def test_a_run_that_spoke_of_steps_is_starting_until_it_does_so_again() -> None:
    box = inbox()
    box.began(2, 0.0, spoke=True)
    minutes = [moved(rank, 60.0 * at, 0, s.Phase.STARTING, world=2) for at in range(1, 20) for rank in range(NODES)]
    assert told(box, *minutes) == []
    assert told(box, entered(0, 1200.0, 2), entered(1, 1200.0, 2)) == ["WorldEntered"]
    assert told(box, restored(0, 1201.0, world=2), restored(1, 1201.0, world=2)) == ["WorldRestored"]
    first = [moved(rank, 1202.0, 41, world=2) for rank in range(NODES)]
    assert told(box, *first) == ["Progressed"]


def test_a_run_that_reads_steps_from_logs_is_starting_until_one_is_read_again() -> None:
    box = inbox()
    box.began(2, 0.0, spoke=True)
    assert told(box, *(moved(rank, 90.0, 0, s.Phase.STARTING, world=2) for rank in range(NODES))) == []
    (event,) = box.see(moved(0, 95.0, 41, s.Phase.STARTING, world=2))
    assert isinstance(event, e.Progressed)
    assert event.step == 41


def test_a_first_world_whose_ranks_use_the_sdk_is_starting_until_their_first_step() -> None:
    """Joining the others may take for ever: it is told as a start that stalled, and as nothing before."""
    box = inbox()
    box.began(1, 0.0)
    seen: list[e.Event] = []
    for at in range(1, 660):
        for rank in range(NODES):
            joining = replace(moved(rank, float(at), 0, s.Phase.STARTING), speaks=True, moved_at=0.5)
            seen += [*box.see(joining), *box.see(s.NodeSeen(at=float(at), node=rank, world=1))]
    (stalled,) = seen
    assert isinstance(stalled, e.IncidentDetected)
    assert (stalled.incident.kind, stalled.at) == (Kind.START_STALLED, 602.0)

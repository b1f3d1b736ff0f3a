"""Does one loop alone write the journal of a run?"""

from __future__ import annotations

import errno
from pathlib import Path

from monitors.clock import SystemClock
from monitors.signals import SaveFailed, StepReported
from monitors.watch import Watch, WatchConfig
from orchestrator import runbooks
from orchestrator.core import actions as a
from orchestrator.core import events as e
from orchestrator.core.state import CheckpointState
from orchestrator.inbox import Inbox
from orchestrator.journal import Journal
from orchestrator.ports import Answer, Ports
from orchestrator.supervisor import RunLoop

NAME = "step-00000004.a1w1"


class World:
    """Every port; remembers what it was asked to read back."""

    def __init__(self) -> None:
        self.read_back: list[str] = []

    def launch(self, order: a.Launch, answer: Answer) -> None:
        """Nothing."""

    def end_attempt(self, order: a.EndAttempt, answer: Answer) -> None:
        """Nothing."""

    def start_world(self, order: a.StartWorld) -> None:
        """Nothing."""

    def stop_world(self, order: a.StopWorld) -> None:
        """Nothing."""

    def save_every(self, order: a.SaveEvery) -> None:
        """Nothing."""

    def stop_after_step(self, order: a.StopAfterStep) -> None:
        """Nothing."""

    def inject(self, order: a.InjectFault) -> None:
        """Nothing."""

    def verify(self, order: a.VerifyCheckpoint, answer: Answer) -> None:  # noqa: ARG002 - it never answers
        """Note it."""
        self.read_back.append(order.checkpoint)

    def delete(self, order: a.DeleteCheckpoint, answer: Answer) -> None:
        """Nothing."""

    def alert(self, run: str, order: a.Alert) -> None:
        """Nothing."""


def loop(journal: Journal, world: World) -> RunLoop:
    """A loop that goes on from the journal."""
    state, later = journal.load("one")
    assert later == []
    return RunLoop(
        run="one",
        state=state,
        inbox=Inbox(nodes=1, ranks_per_node=1, watch=Watch(WatchConfig(), nodes=1, ranks_per_node=1), folder="/c"),
        journal=journal,
        ports=Ports(scheduler=world, agents=world, storage=world, notifier=world),
        clock=SystemClock(),
        look=lambda *_: None,
        probe=lambda _: None,
    )


def test_an_answer_to_the_loop_before_does_not_undo_a_resumed_run(tmp_path: Path) -> None:
    save = e.CheckpointCommitted(at=2.0, checkpoint=NAME, step=4, world=1, saved_at=2.0, bytes=1, path=f"/c/{NAME}")
    with Journal(tmp_path / "journal.db") as journal:
        journal.submit("one", "one", {}, "", 1.0)
        before, world = loop(journal, World()), World()
        before.take(e.RunSubmitted(at=1.0, run="one", plan=e.Plan(), policy=runbooks.load(None)))
        before.take(save)
        before.take(e.StopRequested(at=3.0, by="ada", now=True))
        before.take(e.AttemptEnded(at=4.0, attempt=1))
        assert before.ended

        before.retire()
        after = loop(journal, world)
        after.take(e.ResumeRequested(at=5.0, by="ada"))
        after.verify_unread()
        before.answered(e.CheckpointVerified(at=6.0, checkpoint=NAME))
        before.answered(e.AttemptEnded(at=6.0, attempt=1))

        assert journal.state("one") == after.state
        assert world.read_back == [NAME]  # the one before would not have told it
        after.answered(e.CheckpointVerified(at=7.0, checkpoint=NAME))
        kept = journal.state("one")
        assert kept is not None
        assert kept.checkpoints[0].state is CheckpointState.VERIFIED


def test_a_save_that_was_deleted_while_it_was_read_is_no_incident(tmp_path: Path) -> None:
    save = e.CheckpointCommitted(at=2.0, checkpoint=NAME, step=4, world=1, saved_at=2.0, bytes=1, path=f"/c/{NAME}")
    with Journal(tmp_path / "journal.db") as journal:
        journal.submit("one", "one", {}, "", 1.0)
        run = loop(journal, World())
        run.take(e.RunSubmitted(at=1.0, run="one", plan=e.Plan(), policy=runbooks.load(None)))
        run.take(e.AgentJoined(at=1.5, attempt=1, node=0, host="h"))
        for gone in (True, False):
            run.take(save)
            if gone:
                run.take(e.CheckpointDeleted(at=3.0, checkpoint=NAME))
            run.answered(e.CheckpointRefused(at=4.0, checkpoint=NAME, why="is gone"))
            assert run.state is not None
            assert run.state.incidents == (0 if gone else 1)


def test_the_steps_heard_before_a_decision_are_written_with_it(tmp_path: Path) -> None:
    heard = [StepReported(at=2.0, node=0, world=1, rank=0, step=step) for step in (1, 2, 3)]
    with Journal(tmp_path / "journal.db") as journal:
        journal.submit("one", "one", {}, "", 1.0)
        run = loop(journal, World())
        run.take(e.RunSubmitted(at=1.0, run="one", plan=e.Plan(), policy=runbooks.load(None)))
        began = journal.beat_at
        for row in heard[:2]:
            run.see(row)
        assert journal.rows("one") == []
        run.take(e.AgentJoined(at=1.5, attempt=1, node=0, host="h"))
        assert journal.rows("one") == heard[:2]
        assert journal.beat_at > began
        run.see(heard[2])
        run.save_rows()
        assert journal.rows("one") == heard


def test_a_failing_save_that_a_person_called_over_is_told_again(tmp_path: Path) -> None:
    def failed(at: float) -> SaveFailed:
        return SaveFailed(at=at, node=0, world=1, rank=0, step=4, why="No space left on device", errno=errno.ENOSPC)

    with Journal(tmp_path / "journal.db") as journal:
        journal.submit("one", "one", {}, "", 1.0)
        run = loop(journal, World())
        run.take(e.RunSubmitted(at=1.0, run="one", plan=e.Plan(), policy=runbooks.load(None)))
        run.take(e.AgentJoined(at=1.5, attempt=1, node=0, host="h"))
        run.see(failed(2.0))
        run.see(failed(3.0))
        assert run.state is not None
        assert run.state.incidents == 1
        run.take(e.IncidentResolved(at=4.0, by="ada", incident=run.state.open[0].id))
        assert run.state.open == ()
        run.see(failed(5.0))
        assert run.state.incidents == 2

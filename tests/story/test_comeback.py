"""Is a probe passed only by a run that came back, and is everything else said as what it is?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from monitors.incidents import Kind
from orchestrator import contract
from orchestrator.comeback import STEADY_S, Seen, Stage, judged, restored, unjudged
from orchestrator.core import events as e
from orchestrator.journal import Journal
from tests.story.scripted import RUN, Script


class Probe:
    """A run that is probed, and looks at it."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.journal = Journal(home / "journal.db")
        self.script = Script(self.journal)
        self.kills = 0

    def look(self, *, spoke: bool = False, quiet_s: float | None = None) -> Seen:
        """What the command line sees now."""
        at, story = self.script.now, contract.story(self._home, RUN)
        return Seen(
            at=at,
            status=contract.status(self._home, RUN, now=at),
            incidents=story["incidents"],
            worlds=story["worlds"],
            checkpoints=contract.checkpoints(self._home, RUN)["checkpoints"],
            kills=self.kills,
            spoke=spoke,
            quiet_s=quiet_s,
        )

    def kill(self) -> Probe:
        """The drill is asked for and done."""
        self.kills += 1
        script = self.script
        script.take(e.DrillRequested(at=script.now, by="probe", drill="kill", rank=1, number=self.kills))
        script.take(e.DrillDone(at=script.now, world=script.state.world, drill="kill", rank=1))
        return self

    def step(self, step: int) -> None:
        """A step of a script without the SDK."""
        script = self.script
        script.take(e.Progressed(at=script.wait(1).now, world=script.state.world, step=step, step_s=0.1))


@pytest.fixture
def probe(tmp_path: Path) -> Probe:
    return Probe(tmp_path)


def test_with_the_sdk_a_fault_waits_for_something_to_come_back_to_and_the_pass_for_new_steps(probe: Probe) -> None:
    assert judged(probe.look()).why == "a first step (submitted)"
    script = probe.script.join().begin(0)
    assert judged(probe.look(spoke=True, quiet_s=0.0)).stage is Stage.WAITS, "the SDK will tell its steps"
    script.train(5)
    assert judged(probe.look()).why == "a save that was read back (it is at step 5)"
    script.save().train(5)
    ready = judged(probe.look())
    assert (ready.stage, ready.why) == (Stage.KILL, "it trains, at step 10, and can go back to step 5")
    probe.kill()
    assert judged(probe.look()).why == "the fault to be noticed"
    script.fail(Kind.WORKER_KILLED)
    assert judged(probe.look()).stage is Stage.WAITS
    script.stop().begin(5).train(5)
    assert judged(probe.look()).why.startswith("a step past 10, where the fault struck (")
    script.train(1)
    seen = probe.look()
    assert judged(seen).stage is Stage.PASSED
    assert seen.fault is not None
    assert restored(seen, seen.fault) == "checkpoint step-00000005.a1w1"
    assert (seen.fault["steps_lost"], unjudged(seen)) == (5, [])


def test_what_was_lost_altogether_did_not_come_back(probe: Probe) -> None:
    probe.script.join().begin(0).train(5).save().train(5)
    probe.kill().script.fail(Kind.WORKER_KILLED).stop()
    probe.script.take(e.WorldEntered(at=probe.script.wait(1).now, world=2))
    probe.script.take(e.WorldRestored(at=probe.script.now, world=2, checkpoint=None, step=0))
    probe.script.train(11)
    assert judged(probe.look()).stage is Stage.FAILED
    assert "from scratch" in judged(probe.look()).why


def test_a_kill_before_the_first_step_of_a_script_with_the_sdk_proves_nothing(probe: Probe) -> None:
    script = probe.script.join()
    script.wait(STEADY_S)
    assert judged(probe.look(spoke=True, quiet_s=STEADY_S)).stage is Stage.KILL
    probe.kill().script.fail(Kind.WORKER_KILLED).stop().begin(0).train(5).save()
    assert judged(probe.look(spoke=True, quiet_s=STEADY_S)).stage is Stage.KILL, "again, now that it can be judged"


def test_a_run_that_is_given_up_fails_with_its_reason(probe: Probe) -> None:
    probe.script.join().begin(0).train(5).save().train(5)
    probe.kill().script.fail(Kind.WORKER_KILLED).stop()
    probe.script.fail(Kind.CRASH_LOOP)
    probe.script.take(e.AttemptEnded(at=probe.script.wait(1).now, attempt=1))
    found = judged(probe.look())
    assert found.stage is Stage.FAILED
    assert found.why.startswith("it was given up, after the fault: ")


def test_a_run_that_is_complete_too_soon_says_so(probe: Probe) -> None:
    probe.script.join().begin(0).train(5).finish()
    found = judged(probe.look())
    assert found.stage is Stage.FAILED
    assert found.why == "it was complete at step 5, before a fault could be injected: give it more steps"


def test_a_run_that_somebody_stops_says_so(probe: Probe) -> None:
    probe.script.join().begin(0).train(5)
    probe.script.take(e.StopRequested(at=probe.script.now, by="ada", now=True))
    probe.script.take(e.AttemptEnded(at=probe.script.wait(1).now, attempt=1))
    assert judged(probe.look()).why.startswith("somebody stopped it, before a fault could be injected: ")


def test_without_the_sdk_its_steps_are_enough(probe: Probe) -> None:
    script = probe.script.join()
    script.wait(60.0)
    assert judged(probe.look(spoke=True)).stage is Stage.WAITS, "its pattern will find a step"
    probe.step(3)
    assert judged(probe.look()).stage is Stage.KILL
    probe.kill().script.fail(Kind.WORKER_KILLED).stop()
    assert judged(probe.look()).stage is Stage.WAITS
    probe.step(4)
    seen = probe.look()
    assert judged(seen).stage is Stage.PASSED
    assert [words.partition(":")[0] for words in unjudged(seen)] == ["whether its state came back"]


def test_without_steps_it_must_live_and_write_as_long_as_before(probe: Probe) -> None:
    script = probe.script.join()
    script.wait(STEADY_S)
    assert judged(probe.look(spoke=False, quiet_s=STEADY_S)).stage is Stage.WAITS
    assert judged(probe.look(spoke=True, quiet_s=STEADY_S)).stage is Stage.KILL
    probe.kill().script.fail(Kind.WORKER_KILLED).stop().wait(STEADY_S / 2)
    early = probe.look(spoke=True, quiet_s=STEADY_S)
    assert judged(early).stage is Stage.WAITS
    assert judged(replace(early, at=early.at + STEADY_S, spoke=False)).stage is Stage.WAITS, "it says nothing"
    late = replace(early, at=early.at + STEADY_S)
    assert judged(late).stage is Stage.PASSED
    assert len(unjudged(late)) == 2

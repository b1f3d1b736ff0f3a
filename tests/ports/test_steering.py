"""What does the supervisor make of what people ask about a run? A real daemon and journal, and nothing launched."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.spec import Spec
from monitors.clock import SystemClock
from monitors.incidents import Kind
from orchestrator import contract, requests, revisions
from orchestrator.core import events as e
from orchestrator.core.asked import POWER_BUDGET
from orchestrator.core.state import Phase, State
from orchestrator.daemon import Daemon
from orchestrator.home import Home
from orchestrator.journal import Journal
from orchestrator.requests import AskError
from tests.story.scripted import Script

RUN = "gpt-abcde"
Course = Callable[[Home, Daemon], None]


def with_run(tmp_path: Path, course: Course, prepare: Callable[[Script], None]) -> None:
    """A run that came as far as `prepare` takes it, in a home where nothing can be launched."""

    async def through(home: Home, journal: Journal) -> None:
        (tmp_path / "t.py").touch()
        spec = Spec(name="gpt", command="t.py", workdir=str(tmp_path), ranks_per_node=2, env={"A": "1"})
        home.run(RUN).mkdir()
        (home.run(RUN) / "spec.json").write_text(spec.model_dump_json())
        (home.run(RUN) / "attempts").touch()
        prepare(Script(journal, run=RUN).join().begin(0).train(10).save())
        for entry, position, _ in journal.unmarked(RUN):  # else they would be carried out now
            journal.mark(entry, position, 0.0)
        daemon = Daemon(home, journal, SystemClock())
        daemon.adopt(None)
        course(home, daemon)

    home = Home(tmp_path / "home")
    home.create()
    with Journal(home.journal) as journal:
        asyncio.run(through(home, journal))


def goes_on(script: Script) -> None:
    """It trains."""


def paused(script: Script) -> None:
    script.take(e.PauseRequested(at=script.now, by="ada"))
    script.take(e.AttemptEnded(at=script.now, attempt=1))


def stopped(script: Script) -> None:
    script.fail(Kind.SAVE_FAILED)
    script.take(e.StopRequested(at=script.now, by="ada", now=True))
    script.take(e.AttemptEnded(at=script.now, attempt=1))


def state_of(daemon: Daemon) -> State:
    return daemon.recorded(RUN)


def test_a_pause_is_taken_told_and_not_taken_twice(tmp_path: Path) -> None:
    def course(home: Home, daemon: Daemon) -> None:
        answer = daemon.ask(requests.Pause(run=RUN, by="ada", why="the\nhall  is hot"))
        assert answer == {"run": RUN, "paused_by": "ada"}
        state = state_of(daemon)
        assert (state.phase, state.paused_why) == (Phase.PAUSING, "the hall is hot")
        with pytest.raises(AskError, match="pausing already, by ada"):
            daemon.ask(requests.Pause(run=RUN, by=POWER_BUDGET))
        with pytest.raises(AskError, match="still pausing") as caught:
            daemon.ask(requests.Resume(run=RUN))
        assert caught.value.code == "not_yet"
        daemon.runs[RUN].loop.take(e.AttemptEnded(at=SystemClock().now(), attempt=1))
        daemon.wake()
        assert contract.status(home.root, RUN)["state"] == "PAUSED"
        with pytest.raises(AskError, match="only a person lets it go on"):
            daemon.ask(requests.Resume(run=RUN, by=POWER_BUDGET))
        assert daemon.ask(requests.Resume(run=RUN)) == {"run": RUN}
        assert state_of(daemon).attempt == 2

    with_run(tmp_path, course, goes_on)


def test_a_supervisor_that_begins_leaves_a_paused_run_alone(tmp_path: Path) -> None:
    def course(_home: Home, daemon: Daemon) -> None:
        assert daemon.runs == {}
        assert state_of(daemon).phase is Phase.PAUSED
        daemon.ask(requests.Stop(run=RUN, by="eve"))
        assert state_of(daemon).phase is Phase.STOPPED

    with_run(tmp_path, course, paused)


def test_what_is_said_of_a_run_that_is_over_is_written_down_too(tmp_path: Path) -> None:
    def course(home: Home, daemon: Daemon) -> None:
        daemon.ask(requests.Acknowledge(run=RUN, incident="i1", by="ada"))
        daemon.ask(requests.Note(run=RUN, incident="i1", text="the fan", by="ada"))
        daemon.ask(requests.Judge(run=RUN, incident="i1", right=False, text="the cable", by="ada"))
        with pytest.raises(AskError, match="it is not open"):
            daemon.ask(requests.Resolve(run=RUN, incident="i1", by="ada"))
        with pytest.raises(AskError, match="there is i1 to i1"):
            daemon.ask(requests.Note(run=RUN, incident="i2", text="x", by="ada"))
        save = state_of(daemon).checkpoints[0].name
        assert daemon.ask(requests.Pin(run=RUN, checkpoint=save)) == {"run": RUN, "checkpoint": save, "pinned": True}
        told = contract.incident(home.root, RUN, "i1")["incident"]
        assert (told["acknowledged_by"], told["judged_right"], told["judged_text"]) == ("ada", False, "the cable")
        assert [note["text"] for note in told["notes"]] == ["the fan"]
        assert contract.checkpoints(home.root, RUN)["checkpoints"][0]["pinned"]
        daemon.wake()
        assert daemon.runs == {}, "it is over all the same"

    with_run(tmp_path, course, stopped)


def test_what_the_scheduler_cannot_do_is_refused_with_what_is_possible(tmp_path: Path) -> None:
    def course(_home: Home, daemon: Daemon) -> None:
        before = state_of(daemon)
        with pytest.raises(AskError, match="no other host to give"):
            daemon.ask(requests.Restart(run=RUN, without=0))
        with pytest.raises(AskError, match="no other host to give"):
            daemon.ask(requests.Cordon(run=RUN, host="h1"))
        with pytest.raises(AskError, match="no name of a host"):
            daemon.ask(requests.Cordon(run=RUN, host="-rf /", cordoned=False))
        assert state_of(daemon) == before
        daemon.ask(requests.Restart(run=RUN))
        assert state_of(daemon).phase is Phase.STOPPING_WORLD

    with_run(tmp_path, course, goes_on)


def test_the_spec_is_changed_where_that_may_be_and_every_revision_is_kept(tmp_path: Path) -> None:
    def course(home: Home, daemon: Daemon) -> None:
        folder = home.run(RUN)
        submitted = (folder / "spec.json").read_text()
        for sets, why in (
            (("nodes=2",), "nodes stays what it is"),
            (("checkpoint.keep=9",), "checkpoint stays what it is"),
            (("recovery.stop_grace=9",), 'unknown key; did you mean "stop_grace_s"'),
            (("detect.unseen_s=never",), "must be a number"),
            (("command=none.py",), "none.py is not a file"),
            (("recovery.runbooks=books",), "not the absolute path of a folder"),
            (("command",), "needs the form KEY=VALUE"),
        ):
            with pytest.raises(AskError, match=why) as caught:
                daemon.ask(requests.Resume(run=RUN, sets=sets))
            assert caught.value.code == "usage"
        assert (folder / "spec.json").read_text() == submitted
        assert state_of(daemon).revision == 0

        daemon.ask(requests.Resume(run=RUN, sets=("recovery.stop_grace_s=5", "env.B=hunter2", "detect.unseen_s=7")))
        state, spec = state_of(daemon), daemon.spec(RUN)
        assert (state.revision, state.plan.stop_grace_s, state.phase) == (1, 5.0, Phase.LAUNCHING)
        assert (spec.env, spec.detect.unseen_s) == ({"A": "1", "B": "hunter2"}, 7.0)
        assert daemon.runs[RUN].spec == spec
        assert json.loads((folder / "spec.r0.json").read_text()) == json.loads(submitted)
        assert json.loads((folder / "spec.r1.json").read_text()) == json.loads((folder / "spec.json").read_text())
        assert contract.status(home.root, RUN)["spec_revision"] == 1
        assert "hunter2" not in json.dumps(contract.events(home.root, RUN))

    with_run(tmp_path, course, paused)


def test_a_supervisor_that_died_between_journal_and_file_puts_the_file_right(tmp_path: Path) -> None:
    def course(home: Home, daemon: Daemon) -> None:
        state = state_of(daemon)
        changed = revisions.revised(daemon.spec(RUN), ("env.A=2",))
        revisions.keep(home.run(RUN), changed, 1)
        assert daemon.spec(RUN).env == {"A": "1"}, "kept is not yet in force"
        event = e.SpecRevised(at=state.now, by="ada", revision=1, sets=("env.A",), plan=state.plan)
        daemon.reopened(RUN, state).loop.take(event)
        daemon.ask(requests.Resume(run=RUN))
        assert daemon.spec(RUN).env == {"A": "2"}

    with_run(tmp_path, course, paused)


def test_every_request_survives_its_way_through_the_door() -> None:
    said = {"ask": "judge", "run": "r", "incident": "i1", "right": True, "text": "x", "by": "ada", "token": "t"}
    assert requests.parse(said) == requests.Judge(run="r", incident="i1", right=True, text="x", by="ada")
    for body, why in (
        ({"ask": "judge", "run": "r", "incident": "i1"}, "right"),
        ({"ask": "pause"}, "run"),
        ({"ask": "restart", "run": "r", "without": "one"}, "without"),
        ({"ask": "erase", "run": "r"}, "nobody can ask 'erase'"),
        ({"ask": None}, "nobody can ask None"),
    ):
        with pytest.raises(AskError, match=why):
            requests.parse(body)

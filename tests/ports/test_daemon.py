"""What does a daemon make of what people ask? A real one, over a journal, with no process of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from jobs.spec import Checkpoints, Recovery, Spec
from monitors.clock import SystemClock
from monitors.incidents import Kind
from orchestrator import contract, requests, runbooks
from orchestrator.core import events as e
from orchestrator.daemon import Daemon
from orchestrator.home import Home
from orchestrator.journal import Journal
from orchestrator.requests import AskError
from tests.story.scripted import Script

RUN = "held-aaaaa"


class Gone(BaseException):
    """The supervisor's process is no more."""


class CutOff(Journal):
    """Of a supervisor that dies before its first decision is written."""

    def record(self, *args: object, **more: object) -> int:  # noqa: ARG002
        """It never comes to it."""
        raise Gone


def test_a_supervisor_that_dies_in_the_middle_of_a_submission_leaves_no_run_behind(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create()
    spec = Spec(name="cut", command="t.py").model_dump(mode="json")
    with CutOff(home.journal) as journal:
        with pytest.raises(Gone):
            Daemon(home, journal, SystemClock()).ask(requests.Submit(spec=spec))
        assert contract.runs(home.root)["runs"] == []


def test_runbooks_that_were_edited_while_a_run_was_held_are_what_it_resumes_under(tmp_path: Path) -> None:
    async def course(home: Home, journal: Journal) -> None:
        page = tmp_path / "books" / "hang.md"
        page.parent.mkdir()
        page.write_text("no front matter")
        spec = Spec(name="held", command="t.py", ranks_per_node=2, recovery=Recovery(runbooks=str(page.parent)))
        home.run(RUN).mkdir()
        (home.run(RUN) / "spec.json").write_text(spec.model_dump_json())
        (home.run(RUN) / "attempts").touch()  # so that nothing can be launched
        script = Script(journal, run=RUN).join().begin(0).train(3).fail(Kind.CRASH_LOOP)
        script.take(e.AttemptEnded(at=script.now, attempt=1))

        daemon = Daemon(home, journal, SystemClock())
        with pytest.raises(AskError, match=r"hang\.md"):
            daemon.ask(requests.Resume(run=RUN))
        assert journal.phase(RUN) == "held", "nothing was changed"
        edited = (runbooks.BUILT_IN / "hang.md").read_text().replace("strikes_max: ", "strikes_max: 1")
        page.write_text(edited)
        daemon.ask(requests.Resume(run=RUN))
        state = daemon.runs[RUN].loop.state
        assert state is not None
        assert state.policy == runbooks.load(page.parent)

    home = Home(tmp_path / "home")
    home.create()
    with Journal(home.journal) as journal:
        asyncio.run(course(home, journal))


def _stop(daemon: Daemon, run: str) -> None:
    daemon.ask(requests.Stop(run=run, now=True))
    daemon.runs[run].loop.take(e.AttemptEnded(at=SystemClock().now(), attempt=1))
    daemon.wake()
    assert run not in daemon.runs


def test_two_runs_that_have_not_ended_never_save_into_one_folder(tmp_path: Path) -> None:
    async def course(home: Home, journal: Journal) -> None:
        daemon = Daemon(home, journal, SystemClock())

        def submit(folder: Path | None) -> str:
            spec = Spec(name="one", command="t.py", checkpoint=Checkpoints(folder=str(folder) if folder else None))
            run = str(daemon.ask(requests.Submit(spec=spec.model_dump(mode="json")))["run"])
            (home.run(run) / "attempts").touch()  # so that nothing can be launched
            return run

        first = submit(tmp_path / "saves")
        other = submit(None)
        for run, folder in ((first, tmp_path / "saves"), (other, home.run(other) / "checkpoints")):
            with pytest.raises(AskError, match=f"{folder} is where {run} saves, .*: lastgood stop {run}"):
                submit(folder)
        assert len(journal.runs()) == 2
        _stop(daemon, first)
        second = submit(tmp_path / "saves")
        with pytest.raises(AskError, match=f"is where {second} saves"):
            daemon.ask(requests.Resume(run=first))
        _stop(daemon, second)
        assert daemon.ask(requests.Resume(run=first)) == {"run": first}

    home = Home(tmp_path / "home")
    home.create()
    with Journal(home.journal) as journal:
        asyncio.run(course(home, journal))

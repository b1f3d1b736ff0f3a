"""What does a daemon make of what people ask? A real one, over a journal, with no process of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from jobs.spec import Recovery, Spec
from monitors.clock import SystemClock
from monitors.incidents import Kind
from orchestrator import requests, runbooks
from orchestrator.core import events as e
from orchestrator.daemon import Daemon
from orchestrator.home import Home
from orchestrator.journal import Journal
from orchestrator.requests import AskError
from tests.story.scripted import Script

RUN = "held-aaaaa"


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

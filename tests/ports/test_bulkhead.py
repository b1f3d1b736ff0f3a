"""Does what is wrong with one run stay that run's own? A real daemon and door over journals with a fault in them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.agent import orders as o
from jobs.spec import Spec
from monitors import signals as s
from monitors.clock import SystemClock
from orchestrator import contract, requests
from orchestrator.core import events as e
from orchestrator.core.state import Decision, Phase
from orchestrator.daemon import Daemon
from orchestrator.door import Door
from orchestrator.home import Home
from orchestrator.journal import Journal, JournalUnavailable
from orchestrator.requests import AskError
from tests.story.scripted import Script

WELL, ILL = "well-aaaaa", "ill-bbbbb"
DEADLINE_S = 10.0


class Scene:
    """A home with two runs that train, and whoever is told."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root / "home")
        self.home.create()
        hook = self.home.root / "on-alert"
        hook.write_text(f"#!/bin/sh\ncat >> {self.home.root}/pages; echo >> {self.home.root}/pages\n")
        hook.chmod(0o700)
        self.journal = Journal(self.home.journal)
        self.scripts = {run: self._trains(run) for run in (WELL, ILL)}

    def _trains(self, run: str) -> Script:
        folder = self.home.run(run)
        folder.mkdir()
        (folder / "spec.json").write_text(Spec(name="gpt", command="train.py", ranks_per_node=2).model_dump_json())
        script = Script(self.journal, run=run).join().begin(0).train(10)
        self.done(run)
        return script

    def done(self, run: str) -> None:
        """Nothing of it has to be ordered again."""
        for entry, position, _ in self.journal.unmarked(run):
            self.journal.mark(entry, position, 0.0)

    def daemon(self) -> Daemon:
        """A supervisor that has taken over what it could."""
        daemon = Daemon(self.home, self.journal, SystemClock())
        daemon.adopt(None)
        return daemon

    def hello(self, run: str) -> o.Hello:
        """What an agent of it says."""
        return o.Hello(
            token=self.home.token(), run=run, attempt=1, node=0, host="h", pid=1, started_at=0.0, world=1, alive=True
        )

    def pages(self) -> list[str]:
        """Titles of those that people got."""
        path = self.home.root / "pages"
        return [json.loads(line)["title"] for line in path.read_text().splitlines()] if path.exists() else []

    async def paged(self, count: int) -> None:
        """Until so many came."""
        async with asyncio.timeout(DEADLINE_S):
            while len(self.pages()) < count:
                await asyncio.sleep(0.01)


def play(root: Path, course: Callable[[Scene], Awaitable[None]]) -> None:
    """One scene."""
    scene = Scene(root)
    try:
        asyncio.run(course(scene))  # type: ignore[arg-type]
    finally:
        scene.journal.close()


def spoil_spec(scene: Scene) -> None:
    """A file that cannot be read."""
    (scene.home.run(ILL) / "spec.json").write_text("half of i")


def spoil_state(scene: Scene) -> None:
    """A state that breaks an invariant at the first event."""
    state = replace(scene.scripts[ILL].state, deadline=None)
    scene.journal.record(ILL, e.TimePassed(at=state.now), Decision(state=state))


def spoil_history(scene: Scene) -> None:
    """An event of a newer lastgood, and no state."""
    db = scene.journal._file._db  # what a newer version would have written cannot be asked of this one
    db.execute("DELETE FROM snapshots WHERE run = ?", (ILL,))
    db.execute("UPDATE entries SET kind = 'Comet', event = '{\"is\": \"Comet\"}' WHERE run = ?", (ILL,))


@pytest.mark.parametrize("spoil", [spoil_spec, spoil_state, spoil_history])
def test_a_run_that_cannot_be_taken_over_is_told_once_and_others_go_on(
    tmp_path: Path, spoil: Callable[[Scene], None]
) -> None:
    async def course(scene: Scene) -> None:
        spoil(scene)
        daemon = scene.daemon()
        await scene.paged(1)
        daemon = scene.daemon()
        assert list(daemon.runs) == [WELL]
        assert scene.pages() == [f"{ILL} is unsupervised"]
        assert contract.status(scene.home.root, ILL)["unsupervised"]
        assert contract.status(scene.home.root, WELL)["unsupervised"] is None
        said: list[bytes] = []
        assert daemon.hello(scene.hello(ILL), said.append) is None, "its agents must train on"
        assert [json.loads(line)["is"] for line in said] == ["Welcome"]
        with pytest.raises(AskError, match=f"nothing can be decided about {ILL}"):
            daemon.ask(requests.Stop(run=ILL))

    play(tmp_path, course)


def test_only_agents_of_what_is_known_to_be_over_are_sent_away_for_good(tmp_path: Path) -> None:
    async def course(scene: Scene) -> None:
        scene.scripts[ILL].finish()
        daemon = scene.daemon()

        def cause(run: str, attempt: int = 1) -> o.Refusal | None:
            refused = daemon.hello(replace(scene.hello(run), attempt=attempt), lambda _: None)
            return refused.cause if refused is not None else None

        assert cause(WELL) is None
        assert cause(WELL, attempt=0) is o.Refusal.OVER
        assert cause(ILL) is o.Refusal.OVER
        assert cause(WELL, attempt=2) is o.Refusal.UNKNOWN, "its journal may be an older copy"
        assert cause("none-ccccc") is o.Refusal.UNKNOWN

    play(tmp_path, course)


def test_what_a_host_with_another_clock_saw_is_dated_by_ours(tmp_path: Path) -> None:
    async def course(scene: Scene) -> None:
        daemon = scene.daemon()
        now = SystemClock().now()
        assert daemon.hello(replace(scene.hello(WELL), at=now - 3600.0), lambda _: None) is None
        row = s.StepReported(at=now - 3600.0, node=0, world=1, rank=0, step=11, loss=1.0)
        daemon.message(WELL, 0, o.Report(seq=1, signal=row))
        daemon.save_rows()
        assert scene.journal.rows(WELL)[-1].at == pytest.approx(now, abs=5.0)
        assert contract.status(scene.home.root, WELL)["nodes"][0]["clock_offset_s"] == pytest.approx(3600.0, abs=5.0)

    play(tmp_path, course)


def test_a_run_that_has_ended_is_not_read_at_all(tmp_path: Path) -> None:
    async def course(scene: Scene) -> None:
        scene.scripts[ILL].finish()
        spoil_spec(scene)
        assert list(scene.daemon().runs) == [WELL]
        assert contract.status(scene.home.root, ILL)["unsupervised"] is None

    play(tmp_path, course)


def test_a_repaired_run_is_taken_over_when_a_person_asks(tmp_path: Path) -> None:
    async def course(scene: Scene) -> None:
        spoil_spec(scene)
        daemon = scene.daemon()
        spec = scene.home.run(WELL) / "spec.json"
        (scene.home.run(ILL) / "spec.json").write_text(spec.read_text())
        assert daemon.ask(requests.Resume(run=ILL)) == {"run": ILL}
        assert sorted(daemon.runs) == [ILL, WELL]
        assert contract.status(scene.home.root, ILL)["unsupervised"] is None

    play(tmp_path, course)


def stopping_for_nothing(scene: Scene) -> None:
    """A state that can be taken over and in which the end of the world cannot be decided on: what for is missing."""
    state = replace(scene.scripts[ILL].state, phase=Phase.STOPPING_WORLD, recovery=None)
    scene.journal.record(ILL, e.TimePassed(at=state.now), Decision(state=state))


def test_a_fault_of_ours_ends_the_decisions_about_one_run_and_loses_no_report(tmp_path: Path) -> None:
    ended = s.WorldStopped(at=2e6, node=0, world=1)

    async def course(scene: Scene) -> None:
        stopping_for_nothing(scene)
        daemon = scene.daemon()
        door = Door(daemon, scene.home.token())
        port = await door.open("127.0.0.1", 0)
        assert sorted(daemon.runs) == [ILL, WELL]

        ill, well = [await _Dialled.of(port, scene.hello(run)) for run in (ILL, WELL)]
        ill.report(1, ended)
        well.report(1, s.NodeSeen(at=2e6, node=0, world=1))
        assert await _until_heard(door, well) == 1
        assert (daemon.unsupervised, list(daemon.runs)) == ({ILL}, [WELL])
        await scene.paged(1)
        assert await _until_heard(door, ill, 0) == 0, "what was not decided on is to be told again"
        assert not door.failed.done()
        # A person has seen to it; the agent must dial again, or what was not heard would never be.
        state = replace(scene.scripts[ILL].state, now=2e6)
        scene.journal.record(ILL, e.TimePassed(at=2e6), Decision(state=state))
        daemon.ask(requests.Resume(run=ILL))
        ill.report(2, s.NodeSeen(at=2e6, node=0, world=1))
        assert await asyncio.wait_for(ill.closed(), DEADLINE_S)
        again = await _Dialled.of(port, scene.hello(ILL))
        again.report(2, s.NodeSeen(at=2e6, node=0, world=1))
        assert await _until_heard(door, again, 2) == 2
        for agent in (ill, well, again):
            await agent.hang_up()
        door.close()

    play(tmp_path, course)


def step(number: int, **other: float) -> s.StepReported:
    """A finished one."""
    return replace(s.StepReported(at=2e6, node=0, world=1, rank=0, step=number), **other)


UNFIT = step(2**63)  # sqlite3 answers with an OverflowError, which is no error of a database


@asynccontextmanager
async def _both(scene: Scene) -> AsyncIterator[tuple[Door, _Dialled, _Dialled]]:
    """A door, and the agents of both runs."""
    door = Door(scene.daemon(), scene.home.token())
    port = await door.open("127.0.0.1", 0)
    ill, well = [await _Dialled.of(port, scene.hello(run)) for run in (ILL, WELL)]
    yield door, ill, well
    for agent in (ill, well):
        await agent.hang_up()
    door.close()
    assert not door.failed.done()


def test_what_is_said_is_acknowledged_once_the_journal_has_it_and_also_where_nobody_decides(tmp_path: Path) -> None:
    async def course(scene: Scene) -> None:
        spoil_spec(scene)
        async with _both(scene) as (door, ill, well):
            answering = asyncio.create_task(door.answer())
            for seq in (1, 2):
                well.report(seq, step(10 + seq))
            while (await well.line()).get("seq") != 2:
                pass
            assert [row.step for row in scene.journal.rows(WELL)][-2:] == [11, 12]
            assert (await ill.line())["seq"] == 0, "that it trains on unsupervised is not that nobody is there"
            answering.cancel()

    play(tmp_path, course)


@pytest.mark.parametrize(
    "unfit", [UNFIT, step(11, data_index=2**63), step(11, world=-(2**63) - 1), step(11, at=float("nan"))]
)
def test_a_step_that_no_journal_takes_is_left_out_and_does_not_come_again(tmp_path: Path, unfit: s.Signal) -> None:
    async def course(scene: Scene) -> None:
        async with _both(scene) as (door, ill, _):
            ill.report(1, unfit)
            ill.report(2, step(12))
            assert await _until_heard(door, ill, 2) == 2
        assert [row.step for row in scene.journal.rows(ILL)] == [12]

    play(tmp_path, course)


def test_a_report_without_a_number_ends_its_connection_alone(tmp_path: Path) -> None:
    async def course(scene: Scene) -> None:
        async with _both(scene) as (door, ill, well):
            ill.say(b'{"is": "Report", "seq": 1e999, "signal": {"is": "NodeSeen", "at": 2e6, "node": 0, "world": 1}}\n')
            assert await asyncio.wait_for(ill.closed(), DEADLINE_S)
            well.report(1, step(11))
            assert await _until_heard(door, well) == 1

    play(tmp_path, course)


def test_steps_that_the_journal_refuses_are_one_runs_fault_and_are_not_acknowledged(tmp_path: Path) -> None:
    async def course(scene: Scene) -> None:
        async with _both(scene) as (door, ill, well):
            daemon = door._daemon
            ill.report(1, step(11))
            well.report(1, step(11))
            async with asyncio.timeout(DEADLINE_S):
                while not all(daemon.runs[run].inbox.rows for run in (ILL, WELL)):
                    await asyncio.sleep(0.01)
            daemon.runs[ILL].inbox.rows.append(UNFIT)
            assert await _until_heard(door, well) == 1
            assert (daemon.unsupervised, list(daemon.runs)) == ({ILL}, [WELL])
            assert await _until_heard(door, ill, 0) == 0
            await scene.paged(1)
            assert [len(scene.journal.rows(run)) for run in (ILL, WELL)] == [0, 1]
            daemon.ask(requests.Resume(run=ILL))
            assert sorted(daemon.runs) == [ILL, WELL]
            door.acknowledge()
            assert {(await ill.line())["seq"] for _ in range(2)} == {0}, "who decides now has not heard it"

    play(tmp_path, course)


def at_a_decision(daemon: Daemon) -> None:
    """It is written with the steps heard before."""
    daemon.message(ILL, 0, o.Report(seq=1, signal=s.WorldStopped(at=2e6, node=0, world=1)))


def at_the_end(daemon: Daemon) -> None:
    """A run that is over is let go of."""
    daemon.runs[ILL].loop.ended = True
    daemon.wake()


@pytest.mark.parametrize("when", [Daemon.save_rows, at_a_decision, at_the_end])
def test_steps_are_one_runs_fault_whenever_they_are_refused(tmp_path: Path, when: Callable[[Daemon], None]) -> None:
    async def course(scene: Scene) -> None:
        daemon = scene.daemon()
        daemon.hello(scene.hello(ILL), lambda _: None)
        daemon.runs[ILL].inbox.rows.append(UNFIT)
        when(daemon)
        assert (daemon.unsupervised, list(daemon.runs)) == ({ILL}, [WELL])
        assert "OverflowError" in contract.status(scene.home.root, ILL)["unsupervised"]
        await scene.paged(1)

    play(tmp_path, course)


def test_a_journal_that_cannot_be_written_is_no_runs_own_but_people_know_first(tmp_path: Path) -> None:
    async def course(scene: Scene) -> None:
        stopping_for_nothing(scene)
        daemon = scene.daemon()
        daemon.hello(scene.hello(ILL), lambda _: None)
        daemon.runs[ILL].inbox.rows.append(step(11))
        scene.journal._file._db.execute("PRAGMA query_only = ON")
        with pytest.raises(JournalUnavailable):
            at_a_decision(daemon)
        await scene.paged(1)

    play(tmp_path, course)


class _Dialled:
    """An agent's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def of(cls, port: int, hello: o.Hello) -> _Dialled:
        """Dial, say hello, be welcome."""
        made = cls(*await asyncio.open_connection("127.0.0.1", port))
        made._writer.write(o.encode(hello))
        assert (await made.line())["is"] == "Welcome"
        return made

    def report(self, seq: int, signal: s.Signal) -> None:
        """Tell of something."""
        self.say(o.encode(o.Report(seq=seq, signal=signal)))

    def say(self, line: bytes) -> None:
        """Whatever it is."""
        self._writer.write(line)

    async def line(self) -> dict[str, object]:
        """What the supervisor says next."""
        body: dict[str, object] = json.loads(await asyncio.wait_for(self._reader.readline(), DEADLINE_S))
        return body

    async def hang_up(self) -> None:
        """Go, and wait until that was noticed."""
        with suppress(OSError):
            self._writer.write_eof()
        await self.closed()
        self._writer.close()

    async def closed(self) -> bool:
        """The connection ended."""
        while await self._reader.readline():
            pass
        return True


async def _until_heard(door: Door, agent: _Dialled, least: int = 1) -> object:
    """The newest acknowledgement, once it is as much."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            await asyncio.sleep(0.01)
            door.acknowledge()
            body = await agent.line()
            if body["is"] == "Heard" and int(str(body["seq"])) >= least:
                return body["seq"]

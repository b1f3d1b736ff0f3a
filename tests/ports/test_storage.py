"""Does the storage port answer what is known, and nothing when nothing is? Real verifiers, real folders."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from lastgood.manifest import MANIFEST, Manifest, encode, parse_name
from monitors.clock import SystemClock
from orchestrator.core import actions
from orchestrator.core import events as e
from orchestrator.storage import CheckpointFolder

NAME = "step-00000004.a1w1"


@dataclass
class Desk:
    """Where the port puts its answers, and the tasks that it began."""

    answers: list[e.Event] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))


def play(folder: Path, course: Callable[[CheckpointFolder, Desk], Awaitable[None]]) -> Desk:
    """The port at work on a folder for as long as `course` takes."""
    desk = Desk()

    async def work() -> None:
        await asyncio.wait_for(course(CheckpointFolder(folder, SystemClock(), desk.spawn), desk), 30)
        for task in desk.tasks:
            task.cancel()

    asyncio.run(work())
    return desk


def verifiers() -> list[psutil.Process]:
    """Children that read a checkpoint back; what another test has left behind may be going, or gone, meanwhile."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            found += [child] if "jobs.checkpoint.verify" in child.cmdline() else []
    return found


def test_a_verifier_that_is_killed_says_nothing_about_the_checkpoint(tmp_path: Path) -> None:
    manifest = tmp_path / NAME / "manifest.json"
    manifest.parent.mkdir()
    os.mkfifo(manifest)  # whoever reads it waits

    async def course(port: CheckpointFolder, desk: Desk) -> None:
        port.verify(actions.VerifyCheckpoint(checkpoint=NAME), desk.answers.append)
        while not (found := verifiers()):
            await asyncio.sleep(0.02)
        assert desk.answers == []
        manifest.unlink()  # before the kill: the next try must not wait for it
        found[0].kill()
        await desk.tasks[0]

    (answer,) = play(tmp_path, course).answers
    assert isinstance(answer, e.CheckpointRefused)
    assert (answer.checkpoint, answer.why) == (NAME, "manifest.json: is missing")


def test_what_cannot_be_read_is_read_again_and_nothing_is_said_of_it_meanwhile(tmp_path: Path) -> None:
    hidden, mount = tmp_path / "hidden", tmp_path / "mount"
    (hidden / NAME).mkdir(parents=True)
    name = parse_name(NAME)
    assert name is not None
    whole = Manifest(
        run="run",
        attempt=name.attempt,
        world=name.world,
        step=name.step,
        world_size=1,
        data_index=4,
        saved_at=1.0,
        torch="2.13.0",
        files={},
    )
    (hidden / NAME / MANIFEST).write_bytes(encode(whole))

    async def course(port: CheckpointFolder, desk: Desk) -> None:
        port.verify(actions.VerifyCheckpoint(checkpoint=NAME), desk.answers.append)
        while not verifiers():
            await asyncio.sleep(0.02)
        while verifiers():
            await asyncio.sleep(0.02)
        assert desk.answers == []
        hidden.rename(mount)
        await desk.tasks[0]

    (answer,) = play(mount, course).answers
    assert isinstance(answer, e.CheckpointVerified)


def test_what_cannot_be_deleted_is_not_said_to_be_gone(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / f"{NAME}.deleting").touch()  # a file where a folder is wanted

    async def course(port: CheckpointFolder, desk: Desk) -> None:
        for _ in range(3):
            port.delete(actions.DeleteCheckpoint(checkpoint=NAME), desk.answers.append)
            await asyncio.sleep(0.1)
        assert [task.done() for task in desk.tasks] == [False], "asked once, and to be asked again later"

    assert play(tmp_path, course).answers == []
    assert (tmp_path / NAME).is_dir()


def test_what_is_deleted_is_gone(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()

    async def course(port: CheckpointFolder, desk: Desk) -> None:
        port.delete(actions.DeleteCheckpoint(checkpoint=NAME), desk.answers.append)
        await desk.tasks[0]

    (answer,) = play(tmp_path, course).answers
    assert isinstance(answer, e.CheckpointDeleted)
    assert list(tmp_path.iterdir()) == []


def test_what_was_given_up_while_it_was_read_is_not_damaged(tmp_path: Path) -> None:
    async def course(port: CheckpointFolder, desk: Desk) -> None:
        verify = actions.VerifyCheckpoint(checkpoint=NAME)
        for _ in range(3):  # a supervisor that starts asks again for what the one before may not have done
            port.verify(verify, desk.answers.append)
        assert len(desk.tasks) == 1
        port.delete(actions.DeleteCheckpoint(checkpoint=NAME), desk.answers.append)
        await asyncio.gather(*desk.tasks)
        port.verify(verify, desk.answers.append)
        await asyncio.gather(*desk.tasks)

    assert [type(answer) for answer in play(tmp_path, course).answers] == [e.CheckpointDeleted]

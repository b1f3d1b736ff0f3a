"""Where does the process of a rank come from? The first of these that can be had:

one that outlived the world before       everything it needs is there
a spare                                  its device is held
a fork of the zygote                     everything is imported
a new one
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, NamedTuple

from jobs.agent.child import Child, Exit
from jobs.agent.nursery import Cold, Nursery
from jobs.agent.survivors import Line, Survivors, end
from jobs.spec import Spec
from lastgood.survivor import CONTROL

log = logging.getLogger(__name__)


class Hears(NamedTuple):
    """Who is told about one rank."""

    ended: Callable[[Exit], None]
    """of the end of its process"""
    left: Callable[[bool], None]
    """that its process has left the world, and whether it failed there"""


class Births:
    """The processes of one world of this node."""

    def __init__(
        self, spec: Spec, nursery: Nursery | None, survivors: Survivors, spare: Callable[[int], Survivors]
    ) -> None:
        """`spare` gives away that of a rank, if there is one."""
        self._spec = spec
        self._spare = spare
        self._nursery = nursery
        self._survivors = survivors

    def rank(self, rank: int, env: Mapping[str, str], folder: Path, hears: Hears) -> tuple[Child, Line | None]:
        """Its process, and the line to it where it may outlive this world. Raises OSError or ValueError when the kernel
        refuses."""
        with (folder / "stdout.log").open("ab") as out, (folder / "stderr.log").open("ab") as err:
            for waiting in (self._survivors, self._spare(rank)):
                if rank in waiting and (found := self._entered(waiting.pop(rank), env, (out, err), hears)) is not None:
                    return found
            if self._nursery is not None:
                try:
                    return self._forked(self._nursery, env, (out, err), hears)
                except Cold as why:
                    log.info("rank %d: a cold start: %s", rank, why)
            return self._started(env, (out, err), hears), None

    def over(self) -> None:
        """Every rank has its process: whoever outlived the world before and was not asked is ended."""
        end(self._survivors)

    def _entered(
        self, waiting: tuple[Child, Line], env: Mapping[str, str], files: tuple[IO[bytes], IO[bytes]], hears: Hears
    ) -> tuple[Child, Line | None] | None:
        child, line = waiting
        again = self._spec.recovery.in_process
        if child.exit is not None or not line.enter({**env, CONTROL: ""} if again else env, *files):
            end({0: waiting})
            return None
        child.tell(hears.ended)
        line.hear(hears.left)
        if not again:
            line.close()
        return child, line if again else None

    def _forked(
        self, nursery: Nursery, env: Mapping[str, str], files: tuple[IO[bytes], IO[bytes]], hears: Hears
    ) -> tuple[Child, Line | None]:
        out, err = files
        argv = ("--", *self._spec.argv)
        if not self._spec.recovery.in_process:
            return nursery.fork(argv, hears.ended, env=env, stdout=out, stderr=err), None
        line = Line(hears.left)
        try:
            child = nursery.fork(argv, hears.ended, env=env, stdout=out, stderr=err, control=line.theirs)
        except (Cold, OSError):
            line.close()
            raise
        finally:
            line.connected()
        return child, line

    def _started(self, env: Mapping[str, str], files: tuple[IO[bytes], IO[bytes]], hears: Hears) -> Child:
        program = () if self._spec.python else ("--program",)
        out, err = files
        argv = (sys.executable, "-P", "-m", "lastgood.worker", *program, "--", *self._spec.argv)
        cwd, python = Path(self._spec.workdir), self._spec.python  # what another program is can hold nothing
        return Child(argv, hears.ended, env=env, cwd=cwd, stdout=out, stderr=err, tethered=python)

"""Is a checkpoint whole? The `Storage` port: reading back and deleting, in children of low priority."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from jobs.checkpoint import folder
from jobs.checkpoint.verify import DAMAGED, finding
from monitors.clock import Clock
from orchestrator.core import actions
from orchestrator.core.events import CheckpointDeleted, CheckpointRefused, CheckpointVerified
from orchestrator.ports import Answer

log = logging.getLogger(__name__)

READ_BACK_S = 3600.0
"""for the largest checkpoint on the slowest storage; beyond it the mount is taken for dead"""
AGAIN_S = (1.0, 10.0, 60.0, 600.0, 3600.0)
"""waits after a verifier that came to no verdict; a checkpoint that has none stays unverified, and is not restored"""


class CheckpointFolder:
    """Checkpoints of one run."""

    def __init__(self, path: Path, clock: Clock, spawn: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._path = path
        self._clock = clock
        self._spawn = spawn
        # One at a time: reading back must not compete with itself for the disk that training saves to.
        self._turn = asyncio.Lock()
        self._reading: set[str] = set()
        self._doomed: set[str] = set()
        """those whose deletion is under way"""
        self._given_up: set[str] = set()
        """those that were ever to be deleted: that one of them is not there any more says nothing"""

    def verify(self, order: actions.VerifyCheckpoint, answer: Answer) -> None:
        """Answers CheckpointVerified or CheckpointRefused; once, however often it is asked meanwhile."""
        if order.checkpoint not in self._reading:
            self._reading.add(order.checkpoint)
            self._spawn(self._verify(order.checkpoint, answer))

    def delete(self, order: actions.DeleteCheckpoint, answer: Answer) -> None:
        """Answers CheckpointDeleted."""
        self._given_up.add(order.checkpoint)
        if order.checkpoint not in self._doomed:
            self._doomed.add(order.checkpoint)
            self._spawn(self._delete(order.checkpoint, answer))

    async def _verify(self, name: str, answer: Answer) -> None:
        verdict = await self._verdict(name)
        self._reading.discard(name)
        gone = isinstance(verdict, CheckpointRefused) and name in self._given_up
        if verdict is not None and not gone:
            answer(verdict)

    async def _verdict(self, name: str) -> CheckpointVerified | CheckpointRefused | None:
        for again_s in AGAIN_S:
            verdict = await self._read_back(name)
            if isinstance(verdict, CheckpointVerified | CheckpointRefused):
                return verdict
            if name in self._given_up:
                return None
            # Killed, out of memory, or the storage does not answer: that says nothing about the checkpoint.
            log.error("%s could not be read back: %s", name, verdict)
            await asyncio.sleep(again_s)
        return None

    async def _read_back(self, name: str) -> CheckpointVerified | CheckpointRefused | str:
        """What the verifier found, or why it came to no verdict."""
        command = (sys.executable, "-P", "-m", "jobs.checkpoint.verify", str(self._path / name), "--json")
        pipe = asyncio.subprocess.PIPE
        async with self._turn:
            try:
                child = await asyncio.create_subprocess_exec(
                    *command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
                )
            except OSError as error:
                return str(error)
            try:
                out, err = await asyncio.wait_for(child.communicate(), READ_BACK_S)
            except TimeoutError:
                child.kill()  # and not waited for: a read from a dead mount ends when the mount does
                return f"not read back within {READ_BACK_S:.0f} s"
        if child.returncode == 0:
            return CheckpointVerified(at=self._clock.now(), checkpoint=name)
        why = finding(out)
        if why is not None and child.returncode == DAMAGED:
            return CheckpointRefused(at=self._clock.now(), checkpoint=name, why=why)
        return why or f"status {child.returncode}: {err.decode(errors='replace').strip()[-300:]}"

    async def _delete(self, name: str, answer: Answer) -> None:
        try:
            await asyncio.to_thread(folder.delete, str(self._path), name)
        except OSError as error:
            log.error("%s could not be deleted: %s", name, error)
            await asyncio.sleep(AGAIN_S[2])  # every progress asks again
        else:
            answer(CheckpointDeleted(at=self._clock.now(), checkpoint=name))
        self._doomed.discard(name)

"""Is a checkpoint whole? The `Storage` port: reading back and deleting, in children of low priority."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from jobs.checkpoint import folder
from monitors.clock import Clock
from orchestrator.core import actions
from orchestrator.core.events import CheckpointDeleted, CheckpointRefused, CheckpointVerified
from orchestrator.ports import Answer


class CheckpointFolder:
    """Checkpoints of one run."""

    def __init__(self, path: Path, clock: Clock, spawn: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._path = path
        self._clock = clock
        self._spawn = spawn
        # One at a time: reading back must not compete with itself for the disk that training saves to.
        self._turn = asyncio.Lock()

    def verify(self, order: actions.VerifyCheckpoint, answer: Answer) -> None:
        """Answers CheckpointVerified or CheckpointRefused."""
        self._spawn(self._verify(order.checkpoint, answer))

    def delete(self, order: actions.DeleteCheckpoint, answer: Answer) -> None:
        """Answers CheckpointDeleted."""
        self._spawn(self._delete(order.checkpoint, answer))

    async def _verify(self, name: str, answer: Answer) -> None:
        async with self._turn:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "jobs.checkpoint.verify",
                str(self._path / name),
                "--json",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, err = await child.communicate()
        now = self._clock.now()
        if child.returncode == 0:
            answer(CheckpointVerified(at=now, checkpoint=name))
        else:
            answer(CheckpointRefused(at=now, checkpoint=name, why=_why(out, err)))

    async def _delete(self, name: str, answer: Answer) -> None:
        await asyncio.to_thread(folder.delete, str(self._path), name)
        answer(CheckpointDeleted(at=self._clock.now(), checkpoint=name))


def _why(out: bytes, err: bytes) -> str:
    try:
        verdict = json.loads(out.splitlines()[-1])
        return f"{verdict['file']}: {verdict['why']}"
    except (IndexError, KeyError, ValueError):
        return err.decode(errors="replace").strip()[-300:] or "the verifier failed without a word"

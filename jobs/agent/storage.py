"""Is a checkpoint whole on storage, and gone when it must be? One order after the other, out of training's way."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from jobs.agent.child import Child, Exit
from jobs.agent.orders import DeleteCheckpoint, VerifyCheckpoint
from jobs.agent.outbox import Outbox
from monitors.clock import Clock
from monitors.signals import Blind, CheckpointDeleted, CheckpointRefused, CheckpointVerified, Signal

log = logging.getLogger(__name__)


class Storage:
    """The checkpoint folder, as this node sees it."""

    def __init__(self, folder: Path, node: int, clock: Clock, outbox: Outbox) -> None:
        self._folder = folder
        self._node = node
        self._clock = clock
        self._outbox = outbox
        self._orders: asyncio.Queue[VerifyCheckpoint | DeleteCheckpoint] = asyncio.Queue()
        self._waiting: set[VerifyCheckpoint | DeleteCheckpoint] = set()

    def obey(self, order: VerifyCheckpoint | DeleteCheckpoint) -> None:
        """Put it in the queue, once."""
        if order not in self._waiting:
            self._waiting.add(order)
            self._orders.put_nowait(order)

    async def clear(self, before_world: int, spared: Collection[str] = ()) -> None:
        """Remove what dead worlds left half-written: each piece may be as large as a checkpoint. `spared`: checkpoints
        that a saver is at work on."""
        from jobs.checkpoint.folder import clean

        try:
            removed = await asyncio.to_thread(clean, str(self._folder), before_world=before_world, spared=spared)
        except OSError as error:
            why = f"{self._folder} could not be cleared: {error}"
            self._outbox.put(Blind(at=self._clock.now(), node=self._node, sense="clear", why=why))
            return
        if removed:
            log.info("removed %s", ", ".join(removed))

    async def run(self) -> None:
        """Work for ever."""
        while True:
            order = await self._orders.get()
            act = self._verify if isinstance(order, VerifyCheckpoint) else self._delete
            self._outbox.put(await act(order.checkpoint))
            self._waiting.discard(order)

    async def _verify(self, name: str) -> Signal:
        began_at = self._clock.now()
        end, output = await _run_verifier(self._folder / name)
        now = self._clock.now()
        if end.code == 0:
            return CheckpointVerified(at=now, node=self._node, checkpoint=name, took_s=now - began_at)
        with suppress(ValueError, KeyError, TypeError):
            finding = json.loads(output.strip().splitlines()[-1]) if end.code == 1 and output.strip() else {}
            why = f"{finding['file']}: {finding['why']}" if finding.get("file") else str(finding["why"])
            return CheckpointRefused(at=now, node=self._node, checkpoint=name, why=why)
        why = f"{name} could not be verified: status {end.code}, signal {end.signal}: {output[-500:]!r}"
        return Blind(at=now, node=self._node, sense="verify", why=why)

    async def _delete(self, name: str) -> Signal:
        from jobs.checkpoint.folder import delete

        try:
            await asyncio.to_thread(delete, str(self._folder), name)
        except OSError as error:
            why = f"{name} could not be deleted: {error}"
            return Blind(at=self._clock.now(), node=self._node, sense="delete", why=why)
        return CheckpointDeleted(at=self._clock.now(), node=self._node, checkpoint=name)


async def _run_verifier(path: Path) -> tuple[Exit, str]:
    """How the verifier ended, and what it printed (a few lines, which fit into the pipe)."""
    ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
    argv = (sys.executable, "-P", "-m", "jobs.checkpoint.verify", str(path), "--json")
    reading, writing = os.pipe()
    with open(reading, "rb") as output:
        with open(writing, "wb") as end:
            child = Child(argv, ended.set_result, stdout=end, stderr=subprocess.STDOUT)
        try:
            how = await asyncio.shield(ended)
        except asyncio.CancelledError:
            child.send_group(9)
            raise
        return how, output.read().decode(errors="replace")

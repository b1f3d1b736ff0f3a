"""Who sees to it that what the ranks staged becomes a checkpoint? Keeps one saver (`lastgood.saver`) at work.

It is started when the first rank of the node speaks, forked from the zygote where there is one, and outlives every
world. While there is none, ranks are told so and save by themselves.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from jobs.agent import aide
from jobs.agent.child import Child, Exit
from jobs.agent.nursery import Nursery
from jobs.agent.outbox import Outbox
from jobs.agent.place import Place
from jobs.agent.staged import Queue, Save, Staged
from jobs.spec import Spec
from lastgood import hold
from lastgood.manifest import Name
from lastgood.progress import Saved
from monitors.clock import Clock
from monitors.sense.progress import RankSense
from monitors.signals import Blind, SaveCommitted, SaveFailed

BACKOFF_S = (1.0, 60.0)
"""before the next saver: doubled each time, from one to the other"""
WITHIN_S = 3660.0
"""for one save: half an hour for each of its two rounds (`lastgood.peers.ROUND_TIMEOUT`)"""
ANSWER_BYTES = 1 << 16
POLL_S = 0.02

log = logging.getLogger(__name__)


class Saver:
    """The saves of one node that are made from copies in memory."""

    def __init__(
        self,
        place: Place,
        spec: Spec,
        clock: Clock,
        outbox: Outbox,
        *,
        nursery: Callable[[], Nursery | None],
        copies: Callable[[int], Sequence[str]],
    ) -> None:
        """`copies`: where a rank keeps its copies."""
        self._place, self._spec, self._clock, self._outbox = place, spec, clock, outbox
        self._nursery, self._copies = nursery, copies
        self._queue = Queue(ranks=spec.ranks_per_node)
        self._child: Child | None = None
        self._channel: socket.socket | None = None
        self._ready = False
        self._wanted = False
        self._why = "" if spec.python and spec.checkpoint.memory_every_steps != 0 else "this run keeps no copies"
        """why there is none, and none is about to be there"""
        self._backoff_s = BACKOFF_S[0]
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._saved: dict[int, Saved] = {}
        """by world"""
        self._told: dict[int, tuple[str, Saved]] = {}
        """by the number of a rank's process"""
        self._closed = False
        self._replaced = False

    def hear(self, world: int, rank: int, note: Mapping[str, Any]) -> None:
        """A rank noted something."""
        if note["note"] == "entered" and not self._wanted and not self._why:
            self._wanted = True
            self._start()
        if note["note"] != "staged":
            return
        names = ("step", "path", "data_index", "saved_at", "stall_s")
        replaced = self._queue.put(Staged(world=world, rank=rank, **{name: note[name] for name in names}))
        if replaced is not None:
            self._leave_out(replaced, f"that of step {note['step']} is due already")
        self._go_on()

    def tell(self, world: int, senses: Iterable[RankSense]) -> None:
        """Let the ranks of a world know what became of their saves, and whether they may count on a saver."""
        saver = "none" if self._why else "there" if self._ready else "starting"
        now = saver, self._saved.get(world, Saved())
        for sense in senses:
            if self._told.get(id(sense)) != now:
                self._told[id(sense)] = now
                sense.tell_saver(*now)

    def world_over(self) -> None:
        """No process of it is left: what it had not staged on every rank never will be."""
        self._queue.world_over()
        self._told.clear()
        self._release([path for rank in self._ranks() for path in self._copies(rank)])

    @property
    def spared(self) -> tuple[str, ...]:
        """Checkpoints that are still to be made of copies, whatever becomes of their world."""
        return tuple(str(self._name(save)) for save in self._queue.known)

    async def finish(self, until: float) -> None:
        """Until there is nothing left to write, or the time has come."""
        while self._queue.known and not self._why and self._clock.now() < until:
            await asyncio.sleep(POLL_S)

    def close(self) -> None:
        """End it for good."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._drop()
        if self._child is not None:
            self._child.send_group(signal.SIGKILL)

    def _ranks(self) -> range:
        first = self._place.node * self._spec.ranks_per_node
        return range(first, first + self._spec.ranks_per_node)

    # --- its process

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._child = aide.start(
                    "saver", self._ended, place=self._place, spec=self._spec, nursery=self._nursery(), channel=theirs
                )
        except OSError as error:
            ours.close()
            self._lost(f"it could not be started: {error}")
            return
        ours.setblocking(False)
        self._channel = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._heard)

    def _ended(self, end: Exit) -> None:
        how = f"signal {end.signal}" if end.code is None else f"status {end.code}"
        self._drop()
        self._lost(f"it ended with {how}, see saver.log")

    def _drop(self) -> None:
        if self._channel is not None:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._channel.close()
            self._channel = None

    def _lost(self, why: str) -> None:
        """The save that it was at is lost with it; those that wait, too, if it never came so far as to begin one."""
        was_ready, self._ready, self._child, self._why = self._ready, False, None, why
        if self._closed:
            return
        log.warning("saver: %s; again in %.0f s", why, self._backoff_s)
        self._cancel("_overdue")
        self._fail(self._queue.end(), f"the saver of node {self._place.node} is lost: {why}")
        if not was_ready:
            self._fail(self._queue.give_up(), f"there is no saver on node {self._place.node}: {why}")
        self._later("_start", self._backoff_s)
        self._backoff_s = min(2 * self._backoff_s, BACKOFF_S[1])

    def _later(self, what: str, delay_s: float) -> None:
        self._timers[what] = asyncio.get_running_loop().call_later(delay_s, getattr(self, what))

    def _cancel(self, what: str) -> None:
        if what in self._timers:
            self._timers.pop(what).cancel()

    def _overdue(self) -> None:
        """Its storage stands still: nobody would ever hear of this save."""
        if self._child is not None:
            self._child.send_group(signal.SIGKILL)

    # --- its work

    def _go_on(self) -> None:
        if self._channel is None or not self._ready:
            return
        save = self._queue.begin()
        if save is None:
            return
        log.info("saving %s", self._name(save))
        try:
            self._channel.send(json.dumps(self._order(save)).encode())
        except OSError as error:  # its end is about to be told
            log.warning("the saver takes no order: %s", error)
        self._later("_overdue", WITHIN_S)

    def _order(self, save: Save) -> dict[str, Any]:
        first = save[0]
        return {
            "folder": str(self._place.checkpoints(self._spec.checkpoint.folder)),
            "run": self._place.run,
            "attempt": self._place.attempt,
            "world": first.world,
            "node": self._place.node,
            "nodes": self._spec.nodes,
            "step": first.step,
            "data_index": first.data_index,
            "saved_at": first.saved_at,
            "stall_s": first.stall_s,
            "paths": [one.path for one in save],
        }

    def _name(self, save: Save) -> Name:
        return Name(step=save[0].step, attempt=self._place.attempt, world=save[0].world)

    def _heard(self) -> None:
        assert self._channel is not None
        try:
            message = self._channel.recv(ANSWER_BYTES)
        except OSError:
            message = b""
        if not message:
            return self._drop()  # its end is told by its pidfd
        answer = json.loads(message)
        if answer.get("ready"):
            log.info("the saver is process %d", self._child.pid if self._child is not None else 0)
            self._ready, self._why, self._backoff_s = True, "", BACKOFF_S[0]
        elif (save := self._queue.end()) is not None:
            self._cancel("_overdue")
            self._over(save, answer)
        return self._go_on()

    def _over(self, save: Save, answer: Mapping[str, Any]) -> None:
        first, failure, note = save[0], answer["failure"], answer["committed"]
        if answer["replaced"]:
            self._leave_out(save, answer["replaced"])
        elif failure is not None:
            self._fail(save, failure["why"], failure["errno"], node=failure["rank"])
        else:
            log.info("saved %s", self._name(save))
            self._settle(save, Saved(step=first.step))
            self._keeps_up()
        if note is not None:
            names = ("at", "checkpoint", "step", "bytes", "saved_at", "stall_s")
            fields = {name: note[name] for name in names}
            self._outbox.put(SaveCommitted(node=self._place.node, world=first.world, **fields))

    def _fail(self, save: Save | None, why: str, errno: int | None = None, *, node: int | None = None) -> None:
        """`node`: which one failed; None: this one."""
        if save is None:
            return
        log.warning("saving %s failed: %s", self._name(save), why)
        self._settle(save, Saved(failed_step=save[0].step, why=why))
        if node in (None, self._place.node):
            first, now = save[0], self._clock.now()
            self._outbox.put(
                SaveFailed(
                    at=now,
                    node=self._place.node,
                    world=first.world,
                    rank=first.rank,
                    step=first.step,
                    why=why,
                    errno=errno,
                )
            )

    def _leave_out(self, save: Save, why: str) -> None:
        log.warning("%s is not saved: %s", self._name(save), why)
        self._release([one.path for one in save])
        if not self._replaced:
            self._replaced = True
            self._say(f"saves are due faster than they can be written: that of step {save[0].step} was left out first")

    def _keeps_up(self) -> None:
        if self._replaced and self._queue.waiting is None:
            self._replaced = False
            self._say("")

    def _say(self, why: str) -> None:
        self._outbox.put(Blind(at=self._clock.now(), node=self._place.node, sense="saves", why=why))

    def _settle(self, save: Save, result: Saved) -> None:
        known = self._saved.get(save[0].world, Saved())
        self._saved[save[0].world] = Saved(
            step=max(known.step, result.step),
            failed_step=max(known.failed_step, result.failed_step),
            why=result.why or known.why,
        )
        self._release([one.path for one in save])

    def _release(self, paths: Sequence[str]) -> None:
        for path in self._queue.free(paths):
            with suppress(OSError):  # the memory is gone, and its copies with it
                hold.release(path)

"""What does the agent of a node do with its orders? One world at a time, the older one gone before the next begins."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import psutil

from jobs.agent import address, environment, guard, orders, senses, sweep
from jobs.agent.caps import Caps
from jobs.agent.copies import Copies
from jobs.agent.drills import Drills
from jobs.agent.link import Link
from jobs.agent.nursery import Nursery
from jobs.agent.outbox import Outbox
from jobs.agent.patience import Patience
from jobs.agent.place import Place
from jobs.agent.probe import Prober
from jobs.agent.pulse import TICK_S, Pulse
from jobs.agent.saver import Saver
from jobs.agent.spares import Spares
from jobs.agent.storage import Storage
from jobs.agent.stores import Stores
from jobs.agent.survivors import Survivors, end
from jobs.agent.wandb_service import Services
from jobs.agent.world import World
from jobs.spec import Spec
from monitors.clock import SystemClock
from monitors.signals import Blind, NodeSeen, RankStarted, WorldStopped

TERM_GRACE_S = 5.0
"""TorchX gives the agent 10 s between TERM and KILL"""
FLUSH_S = 2.0
"""for the last reports to be heard before the agent ends"""
CRASHED = 70
"""exit status of a failure of ours; the workers die with their parent"""

log = logging.getLogger(__name__)


class Agent:
    """Owns the workers of one node."""

    def __init__(self, place: Place, spec: Spec) -> None:
        self._place = place
        self._spec = spec
        self._clock = SystemClock()
        self._started_at = psutil.Process().create_time()
        self._outbox = Outbox()
        self._link = Link(place.home, self._outbox, hello=self._hello, obey=self._obey, refused=self._refused)
        self._storage = Storage(place.checkpoints(spec.checkpoint.folder), place.node, self._clock, self._outbox)
        self._drills = Drills(place.folder / "drills")
        self._prober = Prober(place.node, self._clock, self._outbox)
        self._caps = Caps(place, spec, self._clock, self._outbox)
        self._senses = senses.Senses(
            senses.command(spec, place),
            names=spec.senses.on,
            node=place.node,
            log_file=place.folder / "senses.log",
            clock=self._clock,
            outbox=self._outbox,
        )
        self._services = Services(spec, place, os.environ, self._go_on)
        self._stores: Stores | None = None
        self._nursery: Nursery | None = None
        self._copies = Copies(place, spec, clock=self._clock, say=self._blind, moved=self._link.redial)
        self._fetches: dict[int, asyncio.Task[None]] = {}
        """by world: copies that come from other nodes before it begins"""
        self._saver = Saver(
            place, spec, self._clock, self._outbox, nursery=lambda: self._nursery, copies=self._copies.paths
        )
        self._world: World | None = None
        self._ranks: tuple[RankStarted, ...] = ()
        """of the last world that is over"""
        self._spares: Spares | None = None
        self._survivors: Survivors = {}
        """of that world"""
        self._next: orders.StartWorld | None = None
        """waits until the world before it is gone"""
        self._unbegun: list[int] = []
        """worlds ordered away before they began: they have stopped as soon as no older world is left"""
        self._newest = 0
        """of the worlds ordered to start, or ordered to stop"""
        self._patience = Patience()
        self._why_refused = ""
        self._leaving: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._pulse = Pulse(self._clock, look=self._look, glance=self._glance, seen=self._seen)
        self._world_changed = asyncio.Event()

    async def run(self) -> None:
        """Obey until told to leave."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_crash)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._leave, TERM_GRACE_S)
        await self._clear_place()
        self._introduce()
        if self._spec.python and self._spec.recovery.warm:  # first: nothing else takes as long
            self._nursery = self._new_nursery()
            self._nursery.start()
            self._spares = Spares(self._place, self._spec, self._nursery) if self._spec.recovery.spares else None
        await self._copies.open()
        self._saver.world_over()  # an agent before this one may have died over saves, and left copies held for them
        if self._place.node == 0:
            host = address.reachable_host(self._place.home)
            self._stores = Stores(host, self._place, self._spec, nursery=self._nursery, on_loss=self._store_lost)
        watchdog = guard.Guard(
            self._place.home,
            self._clock,
            is_linked=lambda: self._link.up,
            is_silent=lambda: self._link.silent,
            welcomes=lambda: self._link.welcomes,
            argv=guard.command(self._place.home),
        )
        for part in (self._link, watchdog, self._storage, self._prober, self._caps, self._copies):
            self._spawn(part.run())
        self._pulse.beat()
        self._senses.start()
        while self._leaving is None:
            self._world_changed.clear()
            await self._world_changed.wait()
        await self._leaving
        await self._end()

    async def _clear_place(self) -> None:
        """An agent that was killed before us may have left workers' children, and progress files."""
        marks = sweep.Marks(mark=self._place.mark, node=self._place.node)
        while sweep.kill(marks):
            await asyncio.sleep(TICK_S)
        for path in self._place.left_in_memory():
            path.unlink(missing_ok=True)

    def _introduce(self) -> None:
        body = {
            "pid": os.getpid(),
            "started_at": self._started_at,
            "host": socket.gethostname(),
            "home": str(self._place.home),
        }
        draft = self._place.folder / "agent.json.writing"
        draft.write_text(json.dumps(body) + "\n")
        draft.replace(self._place.folder / "agent.json")

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._senses.close()
        self._services.close()
        await self._caps.leave()
        self._copies.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.result()  # raises into the loop's handler: a task that failed is a failure of ours

    def _hello(self, token: str) -> orders.Hello:
        world = self._current(self._newest)
        return orders.Hello(
            token=token,
            run=self._place.run,
            attempt=self._place.attempt,
            node=self._place.node,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=self._started_at,
            world=self._newest,
            alive=world is not None and world.alive,
            store=self._stores.offer if self._stores is not None else None,
            at=self._clock.now(),
            ranks=self._ranks if world is None else world.ranks,
            keepers=self._copies.keepers,
            domain=environment.failure_domain(os.environ),
        )

    def _obey(self, order: orders.Order) -> None:
        log.info("ordered: %s", order)
        match order:
            case orders.StartWorld():
                self._start_world(order)
            case orders.StopWorld():
                self._stop_world(order)
            case orders.VerifyCheckpoint() | orders.DeleteCheckpoint():
                self._storage.obey(order)
            case orders.CapPower():
                self._caps.obey(order)
            case orders.SendCopies():
                self._spawn(self._copies.send_to(order))
            case orders.Leave(grace_s=grace_s, relaunch=relaunch):
                if not relaunch:
                    self._copies.dismiss()
                self._leave(grace_s)
            case _:
                if world := self._current(order.world):
                    self._obey_in(world, order)

    def _obey_in(self, world: World, order: orders.InWorld) -> None:
        match order:
            case orders.SaveEvery(steps=steps):
                world.save_every(steps)
            case orders.StopAfter(step=step):
                world.stop_after(step)
            case orders.LookAt(ranks=ranks):
                self._spawn(world.look_at(ranks))
            case orders.Inject():
                world.inject(order, self._drills.use_up, self._senses.inject)
            case orders.Probe():
                self._prober.obey(order)

    def _current(self, number: int) -> World | None:
        return self._world if self._world is not None and self._world.number == number else None

    def _start_world(self, order: orders.StartWorld) -> None:
        if self._leaving is not None:
            return
        if order.world <= self._newest:
            world = self._current(order.world)
            if world is not None and world.alive:
                world.tell_started()
            return
        self._drop_next()
        self._newest = order.world
        self._next = order
        if self._world is not None:
            self._world.stop()
        self._go_on()

    def _stop_world(self, order: orders.StopWorld) -> None:
        number = order.world
        end({rank: self._survivors.pop(rank) for rank in order.culprits if rank in self._survivors})
        if self._next is not None and self._next.world <= number:
            self._drop_next()
        if number > self._newest:
            self._newest = number
            self._unbegun.append(number)
        if self._world is not None and self._world.number <= number:
            if order.in_process and self._world.number == number:
                self._world.vacate(order.culprits)
            else:
                self._world.stop(order.grace_s)
        self._go_on()

    def _drop_next(self) -> None:
        if self._next is not None:
            self._unbegun.append(self._next.world)
            self._next = None

    def _world_over(self) -> None:
        if self._world is not None:
            self._ranks, self._survivors = self._world.ranks, self._world.survivors
        self._world = None
        self._services.over()
        self._saver.world_over()
        self._go_on()

    def _go_on(self) -> None:
        """With no world left, the ones that never began are over and the next may begin."""
        self._world_changed.set()
        if self._world is not None:
            return
        for number in self._unbegun:
            self._outbox.put(WorldStopped(at=self._clock.now(), node=self._place.node, world=number))
        self._unbegun.clear()
        warm = self._nursery is None or not self._nursery.preparing
        if self._next is not None and self._services.ready() and warm and self._has_copies(self._next):
            order, self._next = self._next, None
            self._begin(order)

    def _has_copies(self, order: orders.StartWorld) -> bool:
        """What other nodes have of its ranks is here, or will not come; nothing is written for an older order."""
        if order.fetch and order.world not in self._fetches:
            task = self._fetches[order.world] = self._spawn(self._copies.fetch(order.fetch))
            task.add_done_callback(lambda _: self._go_on())
        return all(task.done() for task in self._fetches.values())

    def _begin(self, order: orders.StartWorld) -> None:
        if not order.in_process:
            end(self._survivors)
        self._world = World(
            order,
            place=self._place,
            spec=self._spec,
            clock=self._clock,
            outbox=self._outbox,
            over=self._world_over,
            nursery=self._nursery,
            copies=self._copies.paths,
            survivors=self._survivors,
            spare=self._spares.take if self._spares is not None else lambda _: {},
            saver=self._saver,
            service=self._services.take(),
        )
        if self._spares is not None:
            self._spares.fill_later()
        if self._stores is not None:
            if not self._stores.take(order.store):
                self._world.refuse(f"the store at port {order.store.port} is not the one that was offered")
                return
            self._link.offer(self._stores.offer)
            # One node is enough: all see the same folder.
            self._spawn(self._storage.clear(order.world, self._saver.spared))
        self._world.start()
        self._pulse.beat()

    def _new_nursery(self) -> Nursery:
        return Nursery(
            self._spec.argv,
            env=environment.of_zygote(os.environ, self._spec, self._place),
            cwd=Path(self._spec.workdir),
            log_file=self._place.folder / "zygote.log",
            settled=self._warmed,
        )

    def _warmed(self, why: str) -> None:
        """It is known whether ranks can be forked: the world that waited for it begins."""
        if self._stores is not None:
            self._stores.start()
        if why:
            log.warning("ranks start cold: %s", why)
        self._blind("warm workers", why)
        self._go_on()

    def _store_lost(self, why: str) -> None:
        log.error("%s", why)
        self._blind("store", why)
        if self._world is not None:
            self._world.fail("lastgood.StoreLost", why)

    def _blind(self, sense: str, why: str) -> None:
        self._outbox.put(Blind(at=self._clock.now(), node=self._place.node, sense=sense, why=why))

    def _look(self) -> bool:
        return self._world is not None and self._world.look()

    def _glance(self) -> bool:
        return self._world is not None and self._world.goes_on

    def _seen(self, now: float) -> None:
        self._outbox.put(NodeSeen(at=now, node=self._place.node, world=self._newest))

    def _refused(self, refused: orders.Refused) -> None:
        ends = self._patience.ends(refused, self._clock.now(), self._link.welcomes)
        if ends or refused.why != self._why_refused:
            log.warning("the supervisor refuses this agent: %s; %s", refused.why, "leaving" if ends else "training on")
        self._why_refused = refused.why
        if ends:
            self._leave(0.0)

    def _leave(self, grace_s: float) -> None:
        self._drop_next()
        end(self._survivors)
        if self._world is not None:
            self._world.stop(grace_s)
        if self._leaving is None:
            log.info("leaving")
            self._leaving = asyncio.create_task(self._finish(self._clock.now() + grace_s))
        self._go_on()

    async def _finish(self, until: float) -> None:
        while self._world is not None:
            self._world_changed.clear()
            await self._world_changed.wait()
        await self._saver.finish(until)
        for part in (self._spares, self._nursery, self._stores, self._saver):
            if part is not None:
                part.close()  # before the sweep, whose finds nobody expects
        await self._clear_place()
        with_deadline = self._clock.now() + FLUSH_S
        while self._link.up and len(self._outbox) and self._clock.now() < with_deadline:
            await asyncio.sleep(TICK_S)


def _crash(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An error that nothing caught is ours: end at once, and let the supervisor bring the node back."""
    error = context.get("exception")
    log.critical("%s", context.get("message"), exc_info=error)
    if error is not None:
        logging.shutdown()
        os._exit(CRASHED)
    loop.default_exception_handler(context)

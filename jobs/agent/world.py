"""Who holds the ranks of one world on this node? Its workers, from their start until no process of it is left."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from jobs.agent import drills, environment, failures, gpus, looks, rehearsals, sweep
from jobs.agent.births import Births, Hears
from jobs.agent.child import Exit
from jobs.agent.dumps import Dumps
from jobs.agent.nursery import Nursery
from jobs.agent.orders import Inject, StartWorld
from jobs.agent.outbox import Outbox
from jobs.agent.place import Place
from jobs.agent.saver import Saver
from jobs.agent.survivors import LEAVE_WITHIN_S, Survivors
from jobs.agent.worker import Worker
from jobs.spec import Spec
from lastgood import progress
from monitors.clock import Clock
from monitors.sense import flight_recorder, processes
from monitors.sense.progress import RankSense, Where
from monitors.sense.selection import Selection
from monitors.signals import DrillDone, RankExited, RankStarted, WorldStarted, WorldStopped

LEFTOVER_GRACE_S = 5.0
"""for what the workers of a world that ended well left running: a logger that uploads its last lines"""
NOT_STARTED = 127
"""exit status of a rank that could not be started, as of a command that a shell cannot start"""

log = logging.getLogger(__name__)


class World:
    """One world on one node. `over` is called once, when none of its processes is left."""

    def __init__(
        self,
        order: StartWorld,
        *,
        place: Place,
        spec: Spec,
        clock: Clock,
        outbox: Outbox,
        over: Callable[[], None],
        nursery: Nursery | None = None,
        copies: Callable[[int], Sequence[str]] = lambda _: (),
        survivors: Survivors | None = None,
        spare: Callable[[int], Survivors] = lambda _: {},
        saver: Saver | None = None,
        service: str = "",
    ) -> None:
        """`survivors` of the world before may be ranks of this one; who does not come along is ended."""
        self.number = order.world
        self._environment = partial(environment.of_worker, os.environ, spec, place, order, service=service)
        self._place = place
        self._spec = spec
        self._clock = clock
        self._outbox = outbox
        self._over = over
        self._copies = copies
        self._births = Births(spec, nursery, {} if survivors is None else survivors, spare)
        self._workers: dict[int, Worker] = {}
        self._saver = saver
        self._selection = Selection(
            node=place.node, world=order.world, ranks_here=spec.ranks_per_node, ranks=spec.nodes * spec.ranks_per_node
        )
        self._dumps = Dumps(
            recorders=lambda: [worker.recorder for worker in self._workers.values()],
            living=lambda: {worker.rank for worker in self._living()},
            clock=clock,
        )
        self._cpu = processes.CpuUse()
        self._starting = True
        self._hurry = False
        self._culprits: frozenset[int] = frozenset()
        """whose processes must not live on"""
        self._kill_timer: asyncio.TimerHandle | None = None
        self._clearing: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """A worker of it runs."""
        return any(self._living())

    @property
    def survivors(self) -> Survivors:
        """Processes that left it and live."""
        fit = (w for w in self._workers.values() if w.left and w.child.exit is None and w.rank not in self._culprits)
        return {worker.rank: (worker.child, worker.line) for worker in fit if worker.line is not None}

    @property
    def ranks(self) -> tuple[RankStarted, ...]:
        """As they were told when they started."""
        return tuple(worker.started for worker in self._workers.values())

    def start(self) -> None:
        """Start every rank of this node. One that cannot start has exited, and says why."""
        started = [self._start(local) for local in range(self._spec.ranks_per_node)]
        self._starting = False
        self._births.over()
        if all(started):
            self.tell_started()
        self._clear_when_empty()

    def refuse(self, why: str) -> None:
        """Start nothing: every rank of this node has exited before it began."""
        for local in range(self._spec.ranks_per_node):
            self._not_started(self._rank(local), "lastgood.Refused", why)
        self._starting = False
        self._clear_when_empty()

    def tell_started(self) -> None:
        """Say that every rank of this node was started."""
        self._outbox.put(WorldStarted(at=self._clock.now(), node=self._place.node, world=self.number))

    @property
    def goes_on(self) -> bool:
        """At a glance: every rank lives, trains and has just finished a step, and look() would tell of steps alone."""
        now, ranks = self._clock.now(), self._workers.values()
        return bool(ranks) and all(one.child.exit is None and not one.left and one.sense.goes_on(now) for one in ranks)

    def look(self) -> bool:
        """Report what the living ranks tell; returns whether all of them have just moved, and will say so again."""
        now = self._clock.now()
        if self._saver is not None:
            self._saver.tell(self.number, (worker.sense for worker in self._living()))
        mute = [worker.child.pid for worker in self._living() if worker.sense.is_mute]
        busy = self._cpu.busy(now, mute) if mute else frozenset()
        for worker in self._living():
            for seen in worker.sense.look(now, busy=worker.child.pid in busy):
                self._outbox.put(seen)
        for told in self._selection.take():
            self._outbox.put(told)
        return self.alive and all(worker.sense.just_moved(now) for worker in self._living())

    def stop(self, grace_s: float = 0.0) -> None:
        """End it on an order; a later call may shorten the grace, not lengthen it."""
        self._hurry = True
        for worker in self._living():
            worker.child.reap()  # one that ended a moment ago ended by itself
        for worker in self._living():
            worker.ordered = True
        if grace_s <= 0:
            self._kill_when_told(asyncio.get_running_loop().time() + flight_recorder.COMING_S)
            return
        for worker in self._living():
            worker.child.send(signal.SIGTERM)
            worker.child.send_group(signal.SIGCONT)  # a stopped one could not act on it
        loop = asyncio.get_running_loop()
        if self._kill_timer is None or self._kill_timer.when() > loop.time() + grace_s:
            self._cancel_timer()
            self._kill_timer = loop.call_later(grace_s, self._kill)

    def vacate(self, culprits: Sequence[int]) -> None:
        """End it on an order, but let the processes live that leave it in time and are none of the culprits."""
        self._hurry, self._culprits = True, frozenset(culprits)
        for worker in self._living():
            worker.child.reap()
        for worker in self._living():
            worker.ordered = True
        for worker in self._workers.values():
            if worker.rank in culprits or worker.line is None or not worker.line.ready:
                worker.child.kill()
            elif not worker.left:
                worker.line.leave(self.number)
        self._cancel_timer()
        self._kill_timer = asyncio.get_running_loop().call_later(LEAVE_WITHIN_S, self._kill)
        self._clear_when_empty()

    def fail(self, kind: str, why: str) -> None:
        """End it because it cannot go on: not an order, so the way of every failed world is taken."""
        self._hurry = True
        for worker in self._living():
            worker.failure = failures.of_agent(kind, why, self._clock.now())
        self._kill()

    def save_every(self, steps: int) -> None:
        """Tell the ranks how many steps should lie between durable saves."""
        for worker in self._living():
            worker.sense.order_save_every(steps)

    def stop_after(self, step: int) -> None:
        """Ask the ranks to finish `step`, save and end."""
        for worker in self._living():
            worker.sense.order_stop_after(step)

    def inject(self, order: Inject, use_up: Callable[[int], bool], rehearse: Callable[[rehearsals.Fed], None]) -> None:
        """Injure a rank, if it is here and lives; `use_up` says whether the number is still good.

        `rehearse` gives the senses of this node something to see.
        """
        worker = self._workers.get(order.rank)
        if worker is None or worker.child.exit is not None or not use_up(order.number):
            return
        log.warning("drill %d: %s of rank %d", order.number, order.drill, order.rank)
        match order.drill:
            case "kill" | "stop":
                self._tell_drilled(order)
                worker.child.send(signal.SIGKILL if order.drill == "kill" else signal.SIGSTOP)
            case name if name in rehearsals.REHEARSALS:
                self._tell_drilled(order)
                scene = rehearsals.Scene(at=self._clock.now(), node=self._place.node, pid=worker.child.pid)
                rehearse(rehearsals.fed(name, scene))
                if name == "oom":
                    worker.child.send(signal.SIGKILL)
            case _:
                drills.put(worker.folder, order)
                worker.sense.order_drill(order.number)

    def _tell_drilled(self, order: Inject) -> None:
        at, node = self._clock.now(), self._place.node
        self._outbox.put(DrillDone(at=at, node=node, world=self.number, drill=order.drill, rank=order.rank))

    async def look_at(self, ranks: tuple[int, ...]) -> None:
        """Ask the kernel, and the processes themselves, about ranks; about all when none is named."""
        asked = [worker for worker in self._living() if not ranks or worker.rank in ranks]
        await looks.look_at(asked, at=self._clock.now(), env=os.environ | self._spec.env, outbox=self._outbox)

    def _living(self) -> Iterator[Worker]:
        return (worker for worker in self._workers.values() if worker.child.exit is None and not worker.left)

    def _rank(self, local: int) -> int:
        return self._place.node * self._spec.ranks_per_node + local

    def _start(self, local: int) -> bool:
        rank = self._rank(local)
        folder = self._place.rank_folder(self.number, rank)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            memory = self._create_progress(rank, folder)
            env = self._environment(local_rank=local, progress=memory, copies=self._copies(rank))
            hears = Hears(partial(self._ended, rank), partial(self._left, rank))
            child, line = self._births.rank(rank, env, folder, hears)
        except (OSError, ValueError) as error:  # ValueError: an environment that no process can have
            self._not_started(rank, type(error).__qualname__, str(error))
            return False
        now = self._clock.now()
        where = Where(node=self._place.node, world=self.number, rank=rank)
        pattern = self._spec.progress.pattern
        sense = RankSense(
            where,
            progress=memory,
            folder=folder,
            pattern=pattern,
            at=now,
            selection=self._selection,
            noted=None if self._saver is None else partial(self._saver.hear, self.number, rank),
        )
        started = self._started(local, now, child.pid)
        self._workers[rank] = Worker(rank=rank, child=child, sense=sense, folder=folder, started=started, line=line)
        log.info("world %d: rank %d is process %d", self.number, rank, child.pid)
        self._outbox.put(started)
        return True

    def _started(self, local: int, at: float, pid: int) -> RankStarted:
        mine = gpus.given(os.environ | self._spec.env, local)
        return RankStarted(
            at=at,
            node=self._place.node,
            world=self.number,
            rank=self._rank(local),
            pid=pid,
            gpu=mine.gpu,
            gpus=mine.gpus,
            gpu_order=mine.gpu_order,
        )

    def _create_progress(self, rank: int, folder: Path) -> Path:
        memory = self._place.progress_file(self.number, rank)
        try:
            progress.create(str(memory))
        except OSError:  # containers give /dev/shm 64 MiB, which data loaders fill
            memory.unlink(missing_ok=True)
            memory = folder / "progress"
            progress.create(str(memory))
        return memory

    def _not_started(self, rank: int, kind: str, why: str) -> None:
        log.error("world %d: rank %d was not started: %s", self.number, rank, why)
        self._outbox.put(
            RankExited(
                at=self._clock.now(),
                node=self._place.node,
                world=self.number,
                rank=rank,
                code=NOT_STARTED,
                signal=None,
                step=0,
                failure=failures.of_agent(kind, why, self._clock.now()),
            )
        )

    def _left(self, rank: int, failed: bool) -> None:
        """Its process lives on; for this world it has ended, as the others' end does."""
        worker = self._workers[rank]
        self._ended(rank, Exit(code=int(failed), signal=None))
        worker.left = True
        self._clear_when_empty()

    def _ended(self, rank: int, end: Exit) -> None:
        worker = self._workers[rank]
        if worker.left:
            return  # told before
        if worker.line is not None and worker.child.exit is not None:
            worker.line.close()
        now = self._clock.now()
        for seen in worker.sense.look(now, final=True):
            self._outbox.put(seen)
        log.info("world %d: rank %d ended: status %s, signal %s", self.number, rank, end.code, end.signal)
        left = () if worker.ordered or end.code == 0 else self._dumps.untold
        self._outbox.put(
            RankExited(
                at=now,
                node=self._place.node,
                world=self.number,
                rank=rank,
                code=end.code,
                signal=end.signal,
                step=worker.sense.step,
                failure=worker.failure or failures.written(worker.folder),
                ordered=worker.ordered,
                recording=left,
            )
        )
        if left:
            self._dumps.tell(self._outbox)
        self._clear_when_empty()

    def _kill_when_told(self, until: float) -> None:
        """What a rank knows of a hang dies with it: NCCL may finish a dump that it has begun."""
        self._cancel_timer()
        loop = asyncio.get_running_loop()
        if loop.time() < until and flight_recorder.is_coming(worker.recorder for worker in self._living()):
            self._kill_timer = loop.call_later(flight_recorder.KILL_POLL_S, self._kill_when_told, until)
            return
        self._kill()

    def _kill(self) -> None:
        self._cancel_timer()
        living = list(self._living())
        for worker in living:
            worker.child.kill()
        sweep.kill_sessions({worker.child.pid for worker in living})

    def _cancel_timer(self) -> None:
        if self._kill_timer is not None:
            self._kill_timer.cancel()
            self._kill_timer = None

    def _clear_when_empty(self) -> None:
        if not self._starting and not self.alive and self._clearing is None:
            self._cancel_timer()
            self._clearing = asyncio.create_task(self._clear())

    async def _clear(self) -> None:
        """End what the workers left, in whatever session, then say that the world is no more."""
        ends = [worker.child.exit for worker in self._workers.values()]
        well = all(end is not None and end.code == 0 for end in ends)
        grace_until = self._clock.now() + (LEFTOVER_GRACE_S if well else 0.0)
        for worker in self._workers.values():
            if worker.child.exit is not None and worker.child.keeps_device:
                await worker.child.gone.wait()
        marks = sweep.Marks(mark=self._place.mark, node=self._place.node, world=self.number)
        # Twice: a process that is just being executed shows no environment for an instant.
        nothing_seen, wait_s = 0, 0.005
        while nothing_seen < 2:
            nothing_seen += 1
            spared = {child.pid for child, _ in self.survivors.values()}
            if sweep.find(marks, spared):
                nothing_seen = 0
                if self._hurry or self._clock.now() >= grace_until:
                    log.warning("world %d: swept %d processes", self.number, sweep.kill(marks, spared))
                wait_s = min(2 * wait_s, 0.2)
            await asyncio.sleep(wait_s)
        await self._dumps.told()
        for worker in self._workers.values():
            worker.sense.close()
        for local in range(self._spec.ranks_per_node):
            self._place.progress_file(self.number, self._rank(local)).unlink(missing_ok=True)
        self._outbox.put(WorldStopped(at=self._clock.now(), node=self._place.node, world=self.number))
        self._over()

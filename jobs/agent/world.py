"""Who holds the ranks of one world on this node? Its workers, from their start until no process of it is left."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from jobs.agent import drills, environment, failures, gpus, rehearsals, sweep
from jobs.agent.child import Child, Exit
from jobs.agent.dumps import Dumps
from jobs.agent.nursery import Cold, Nursery
from jobs.agent.orders import Inject, StartWorld
from jobs.agent.outbox import Outbox
from jobs.agent.place import Place
from jobs.spec import Spec
from lastgood import progress
from monitors.clock import Clock
from monitors.sense import flight_recorder, processes, ras
from monitors.sense.flight_recorder_dump import Dump
from monitors.sense.progress import RankSense, Where
from monitors.sense.selection import Selection
from monitors.signals import DrillDone, Failure, RankExited, RankStarted, WorldStarted, WorldStopped

LEFTOVER_GRACE_S = 5.0
"""for what the workers of a world that ended well left running: a logger that uploads its last lines"""
MUTE_S = 0.3
"""after which a rank that has not told its own stack is interrupted for it; a healthy one answers within 0.1 s"""
NOT_STARTED = 127
"""exit status of a rank that could not be started, as of a command that a shell cannot start"""

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class _Worker:
    rank: int
    child: Child
    sense: RankSense
    folder: Path
    started: RankStarted
    ordered: bool = False
    """its end was ordered"""
    failure: Failure | None = None
    """why the agent itself ended it"""


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
    ) -> None:
        self.number = order.world
        self._environment = partial(environment.of_worker, os.environ, spec, place, order)
        self._place = place
        self._spec = spec
        self._clock = clock
        self._outbox = outbox
        self._over = over
        self._nursery = nursery
        self._copies = copies
        self._workers: dict[int, _Worker] = {}
        self._selection = Selection(
            node=place.node, world=order.world, ranks_here=spec.ranks_per_node, ranks=spec.nodes * spec.ranks_per_node
        )
        self._dumps = Dumps(
            recorders=lambda: [self._recorder(worker) for worker in self._workers.values()],
            living=lambda: {worker.rank for worker in self._living()},
            clock=clock,
        )
        self._cpu = processes.CpuUse()
        self._starting = True
        self._hurry = False
        self._kill_timer: asyncio.TimerHandle | None = None
        self._clearing: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """A worker of it runs."""
        return any(self._living())

    @property
    def ranks(self) -> tuple[RankStarted, ...]:
        """As they were told when they started."""
        return tuple(worker.started for worker in self._workers.values())

    def start(self) -> None:
        """Start every rank of this node. One that cannot start has exited, and says why."""
        started = [self._start(local) for local in range(self._spec.ranks_per_node)]
        self._starting = False
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

    def look(self) -> None:
        """Report what the living ranks tell."""
        now = self._clock.now()
        blind = [worker.child.pid for worker in self._living() if not worker.sense.uses_sdk]
        busy = self._cpu.busy(now, blind) if blind else frozenset()
        for worker in self._living():
            for seen in worker.sense.look(now, busy=worker.child.pid in busy):
                self._outbox.put(seen)
        for told in self._selection.take():
            self._outbox.put(told)

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

    def fail(self, kind: str, why: str) -> None:
        """End it because it cannot go on: not an order, so the way of every failed world is taken."""
        self._hurry = True
        for worker in self._living():
            worker.failure = failures.of_agent(kind, why, self._clock.now())
        self._kill()

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
        at = self._clock.now()
        asked = [worker for worker in self._living() if not ranks or worker.rank in ranks]
        dumps = await asyncio.gather(*(self._look_at(worker, at) for worker in asked))
        mute = {w.child.pid: w for w, dump in zip(asked, dumps, strict=True) if dump is None and w.child.exit is None}
        known = [dump for dump in dumps if dump is not None]
        if mute and known:
            pids = {pid: worker.rank for pid, worker in mute.items()}
            said = await ras.witness(known, pids, os.environ | self._spec.env)
            for worker in mute.values():
                if worker.rank in said:
                    self._outbox.put(flight_recorder.mute(at, self._recorder(worker), said[worker.rank]))

    async def _look_at(self, worker: _Worker, at: float) -> Dump | None:
        """Tell each answer when it is there: one that is stopped gives none, and holds up nobody's news."""
        recorder = self._recorder(worker)
        recorded = asyncio.create_task(flight_recorder.look(at, recorder))
        pid = worker.child.pid
        seen = processes.look(at, node=self._place.node, world=self.number, rank=worker.rank, pid=pid)
        self._outbox.put(seen)
        await asyncio.wait([recorded], timeout=MUTE_S)
        is_mute = not recorded.done() or recorded.result() is None
        if is_mute and (stack := await processes.stack(pid, worker.folder / "stack.txt")):
            self._outbox.put(replace(seen, stack=stack))
        dump = await recorded
        if dump is not None:
            self._outbox.put(replace(seen, stack=dump.stack))
            self._outbox.put(flight_recorder.looked(at, recorder, dump))
        return dump

    def _recorder(self, worker: _Worker) -> flight_recorder.Where:
        return flight_recorder.Where(node=self._place.node, world=self.number, rank=worker.rank, folder=worker.folder)

    def _living(self) -> Iterator[_Worker]:
        return (worker for worker in self._workers.values() if worker.child.exit is None)

    def _rank(self, local: int) -> int:
        return self._place.node * self._spec.ranks_per_node + local

    def _start(self, local: int) -> bool:
        rank = self._rank(local)
        folder = self._place.rank_folder(self.number, rank)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            memory = self._create_progress(rank, folder)
            child = self._spawn(local, folder, memory)
        except (OSError, ValueError) as error:  # ValueError: an environment that no process can have
            self._not_started(rank, type(error).__qualname__, str(error))
            return False
        now = self._clock.now()
        where = Where(node=self._place.node, world=self.number, rank=rank)
        pattern = self._spec.progress.pattern
        sense = RankSense(where, progress=memory, folder=folder, pattern=pattern, at=now, selection=self._selection)
        started = self._started(local, now, child.pid)
        self._workers[rank] = _Worker(rank=rank, child=child, sense=sense, folder=folder, started=started)
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

    def _spawn(self, local: int, folder: Path, memory: Path) -> Child:
        program = () if self._spec.python else ("--program",)
        rank = self._rank(local)
        env = self._environment(local_rank=local, progress=memory, copies=self._copies(rank))
        ended = partial(self._ended, rank)
        with (folder / "stdout.log").open("ab") as out, (folder / "stderr.log").open("ab") as err:
            if self._nursery is not None:
                try:
                    return self._nursery.fork(("--", *self._spec.argv), ended, env=env, stdout=out, stderr=err)
                except Cold as why:
                    log.info("world %d: a cold start: %s", self.number, why)
            return Child(
                (sys.executable, "-P", "-m", "lastgood.worker", *program, "--", *self._spec.argv),
                ended,
                env=env,
                cwd=Path(self._spec.workdir),
                stdout=out,
                stderr=err,
            )

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

    def _ended(self, rank: int, end: Exit) -> None:
        worker = self._workers[rank]
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
        if loop.time() < until and flight_recorder.is_coming(map(self._recorder, self._living())):
            self._kill_timer = loop.call_later(flight_recorder.KILL_POLL_S, self._kill_when_told, until)
            return
        self._kill()

    def _kill(self) -> None:
        self._cancel_timer()
        living = list(self._living())
        for worker in living:
            worker.child.send_group(signal.SIGKILL)
            worker.child.send(signal.SIGKILL)
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
        marks = sweep.Marks(mark=self._place.mark, node=self._place.node, world=self.number)
        # Twice: a process that is just being executed shows no environment for an instant.
        nothing_seen, wait_s = 0, 0.005
        while nothing_seen < 2:
            nothing_seen += 1
            if sweep.find(marks):
                nothing_seen = 0
                if self._hurry or self._clock.now() >= grace_until:
                    log.warning("world %d: swept %d processes", self.number, sweep.kill(marks))
                wait_s = min(2 * wait_s, 0.2)
            await asyncio.sleep(wait_s)
        await self._dumps.told()
        for worker in self._workers.values():
            worker.sense.close()
        for local in range(self._spec.ranks_per_node):
            self._place.progress_file(self.number, self._rank(local)).unlink(missing_ok=True)
        self._outbox.put(WorldStopped(at=self._clock.now(), node=self._place.node, world=self.number))
        self._over()

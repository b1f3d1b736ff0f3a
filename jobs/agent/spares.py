"""Which processes wait for a rank to fall? One for each rank of the node, as ready as it can be without its world.

Made from the zygote, in the background (`lastgood.background`); one that a world takes is made anew later.
"""

from __future__ import annotations

import asyncio
import logging
import os
from functools import partial

from jobs.agent import environment
from jobs.agent.child import Exit
from jobs.agent.nursery import Cold, Nursery
from jobs.agent.place import Place
from jobs.agent.survivors import Line, Survivors, end
from jobs.spec import Spec

AFTER_S = 1.0
"""a world that begins has the machine for itself: also what is done in the background takes memory's bandwidth"""
LOST_MAX = 3
"""spares that end by themselves, one after the other, before no more are made: a GPU may admit one process only"""

log = logging.getLogger(__name__)


class Spares:
    """Those of one node, by rank."""

    def __init__(self, place: Place, spec: Spec, nursery: Nursery) -> None:
        self._place, self._spec = place, spec
        self._first, self._count = place.node * spec.ranks_per_node, spec.ranks_per_node
        self._nursery = nursery
        self._log_file = place.folder / "zygote.log"
        self._waiting: Survivors = {}
        self._timer: asyncio.TimerHandle | None = None
        self._lost = 0

    def fill_later(self) -> None:
        """Make those that are missing, when the world that begins now has begun."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(AFTER_S, self._fill)

    def take(self, rank: int) -> Survivors:
        """That of a rank, if it is there and ready, which then is the caller's."""
        found = self._waiting.get(rank)
        if found is None or not found[1].ready or found[0].exit is not None:
            return {}
        self._lost = 0
        return {rank: self._waiting.pop(rank)}

    def close(self) -> None:
        """End them."""
        if self._timer is not None:
            self._timer.cancel()
        end(self._waiting)

    def _fill(self) -> None:
        for local, rank in enumerate(range(self._first, self._first + self._count)):
            if rank not in self._waiting and self._lost < LOST_MAX:
                self._add(local, rank)

    def _add(self, local: int, rank: int) -> None:
        line = Line(_nobody_left)
        try:
            with self._log_file.open("ab") as file:
                child = self._nursery.fork(
                    ("--", *self._spec.argv),
                    partial(self._ended, rank),
                    env=environment.of_spare(os.environ, self._spec, self._place, local),
                    stdout=file,
                    stderr=file,
                    control=line.theirs,
                    spare={"device": local if self._spec.recovery.spare_contexts else None},
                )
        except (Cold, OSError) as why:
            line.close()
            log.info("no spare for rank %d: %s", rank, why)
            return
        finally:
            line.connected()
        self._waiting[rank] = child, line

    def _ended(self, rank: int, how: Exit) -> None:
        if rank not in self._waiting:
            return  # ended by us
        self._waiting.pop(rank)[1].close()
        self._lost += 1
        log.warning("the spare of rank %d ended: status %s, signal %s", rank, how.code, how.signal)
        self.fill_later()


def _nobody_left(_: bool) -> None:
    """A process that waits is in no world."""

"""What did the flight recorders of this node leave when a rank failed? Told once each, as soon as it is whole.

NCCL ends a rank whose collective timed out, and has all ranks write down before where they stand. Nobody asks for these
files: they are there when a rank fails of a time-out, and at no other time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from jobs.agent.outbox import Outbox
from monitors.clock import Clock
from monitors.sense import flight_recorder
from monitors.sense.flight_recorder import Where

POLL_S = 0.05
"""between looks at a dump that is being written"""


class Dumps:
    """Those of one world's ranks on this node."""

    def __init__(
        self, *, recorders: Callable[[], Collection[Where]], living: Callable[[], Collection[int]], clock: Clock
    ) -> None:
        """`recorders` of all ranks; `living`: those that may go on writing."""
        self._recorders = recorders
        self._living = living
        self._clock = clock
        self._told: set[int] = set()
        self._telling: asyncio.Task[None] | None = None

    @property
    def untold(self) -> tuple[int, ...]:
        """Ranks of which something was left, or begun, that was not told yet."""
        return tuple(where.rank for where in self._left())

    def tell(self, outbox: Outbox) -> None:
        """Read them and tell; one that was begun is waited for as long as its rank lives, and not for ever."""
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell(outbox))

    async def told(self) -> None:
        """When there is nothing more to tell."""
        if self._telling is not None:
            await self._telling

    def _left(self) -> list[Where]:
        return [one for one in self._recorders() if one.rank not in self._told and flight_recorder.is_left(one)]

    async def _tell(self, outbox: Outbox) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + flight_recorder.COMING_S
        while left := self._left():
            for where in left:
                # Asked before it is read: what is whole by then was whole, or its rank is dead and nothing comes.
                comes = where.rank in self._living() and flight_recorder.is_coming([where]) and loop.time() < until
                dump = await asyncio.to_thread(flight_recorder.left, where)
                at = self._clock.now()
                if dump is not None:
                    outbox.put(flight_recorder.looked(at, where, dump))
                elif not comes:
                    said = (f"what the flight recorder of rank {where.rank} wrote down cannot be read",)
                    outbox.put(flight_recorder.mute(at, where, said))
                if dump is not None or not comes:
                    self._told.add(where.rank)
            await asyncio.sleep(POLL_S if self._left() else 0)

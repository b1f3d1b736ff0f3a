"""Who sets the power limits of this node's GPUs, and puts them back? A child that outlives this agent by a moment."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from contextlib import suppress
from typing import Any

from jobs.agent.gpus import given
from jobs.agent.orders import CapPower
from jobs.agent.outbox import Outbox
from jobs.agent.place import Place
from jobs.agent.senses import WITHHELD
from jobs.spec import Spec
from monitors.clock import Clock
from monitors.hardware import PowerCapped

ANSWER_S = 20.0
"""a driver takes milliseconds for each GPU; one that does not answer is not waited for"""
RECORD = "power.json"
"""what the limits were, in the folder of the run, by host: whoever comes next puts back what a killed child left"""

log = logging.getLogger(__name__)


class Caps:
    """Obeys the newest order."""

    def __init__(self, place: Place, spec: Spec, clock: Clock, outbox: Outbox) -> None:
        self._place = place
        self._spec = spec
        self._clock = clock
        self._outbox = outbox
        self._orders: asyncio.Queue[CapPower] = asyncio.Queue()
        self._child: asyncio.subprocess.Process | None = None
        self._record = place.folder.parent.parent / f"{os.uname().nodename}.{RECORD}"

    def obey(self, order: CapPower) -> None:
        """Soon; what was ordered before it is not done any more."""
        self._orders.put_nowait(order)

    async def run(self) -> None:
        """Work for ever; what an agent before us left limited is put back first."""
        if self._record.exists():
            await self._capped(CapPower(watts=None))
        while True:
            order = await self._orders.get()
            while not self._orders.empty():
                order = self._orders.get_nowait()
            self._outbox.put(await self._capped(order))

    def close(self) -> None:
        """The child puts the limits back when its input ends."""
        if self._child is not None and self._child.stdin is not None:
            self._child.stdin.close()
            self._child = None

    async def _capped(self, order: CapPower) -> PowerCapped:
        said: dict[str, Any] = {}
        if self._spec.senses.nvml == "off":
            why = "senses.nvml is off: the power of GPUs is none of our business"
        elif order.watts is None and self._child is None and not self._record.exists():
            why = ""  # nothing was ever limited
        else:
            said, why = await self._asked(order)
        return PowerCapped(
            at=self._clock.now(),
            node=self._place.node,
            watts=order.watts,
            may_draw_w=said.get("may_draw_w"),
            least_w=said.get("least_w"),
            why=why,
        )

    async def _asked(self, order: CapPower) -> tuple[dict[str, Any], str]:
        line = json.dumps({"watts": order.watts, "gpus": self._gpus()}).encode() + b"\n"
        try:
            child = self._child = self._child or await self._started()
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(line)
            said = json.loads(await asyncio.wait_for(child.stdout.readline(), ANSWER_S))
        except (OSError, ValueError, TimeoutError) as error:
            log.error("the power limits: %s", error or "no answer")
            self.close()  # if it ever comes back from the driver, it puts back what it set
            return {}, f"the driver did not do it in {ANSWER_S:.0f} s, or died of it: see agent.log"
        return said, str(said["why"])

    async def _started(self) -> asyncio.subprocess.Process:
        env = {name: value for name, value in os.environ.items() if name not in WITHHELD}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "monitors.sense.nvml_cap", "--record", str(self._record)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=env,
            start_new_session=True,
        )

    def _gpus(self) -> list[str]:
        """Those of this node's ranks."""
        env = {**os.environ, **self._spec.env}
        found = (given(env, rank).gpu for rank in range(self._spec.ranks_per_node))
        return list(dict.fromkeys(gpu for gpu in found if gpu))

    async def leave(self) -> None:
        """Put the limits back, and wait for it a little."""
        child, self._child = self._child, None
        if child is None or child.stdin is None:
            return
        child.stdin.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), ANSWER_S)

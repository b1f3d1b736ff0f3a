"""How does each rank stand now? Only the supervisor knows; it is asked once for all who look."""

from __future__ import annotations

import asyncio
from typing import Any

from monitors.clock import Clock
from orchestrator import client
from orchestrator.home import Home, HomeError

SHARED_S = 0.9
"""an answer so young is everybody's: a thousand ranks cost the supervisor some milliseconds"""
LARGE_RANKS, EVERY_S, LARGE_EVERY_S = 256, 1.0, 2.0


class Unknown(Exception):
    """Nobody can say; `code` is that of the supervisor, or `no_supervisor`."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Ranks:
    """What the supervisor said last, by run."""

    def __init__(self, home: Home, clock: Clock) -> None:
        self._home = home
        self._clock = clock
        self._said: dict[str, tuple[float, asyncio.Task[dict[str, Any]]]] = {}

    async def table(self, run: str) -> dict[str, Any]:
        """The body of `/api/runs/RUN/ranks`. Raises Unknown."""
        now = self._clock.now()
        known = self._said.get(run)
        if known is None or (known[1].done() and now - known[0] >= SHARED_S):
            known = (now, asyncio.create_task(asyncio.to_thread(self._ask, run)))
            known[1].add_done_callback(lambda task: task.cancelled() or task.exception())
            self._said = {run: known, **{r: said for r, said in self._said.items() if r != run and now - said[0] < 60}}
        return await asyncio.shield(known[1])

    def _ask(self, run: str) -> dict[str, Any]:
        answer = asked(self._home, {"ask": "ranks", "run": run})
        return {name: part for name, part in answer.items() if name != "ok"}


def asked(home: Home, request: dict[str, Any]) -> dict[str, Any]:
    """The supervisor's answer to a request that it did not refuse; none is started. Raises Unknown."""
    try:
        answer = client.ask(home.root, request, start=False)
    except (client.NoSupervisor, HomeError) as error:
        raise Unknown("no_supervisor", str(error)) from None
    if not answer["ok"]:
        raise Unknown(str(answer.get("code", "failed")), str(answer["error"]))
    return answer


def pause_s(table: dict[str, Any]) -> float:
    """Until it is worth asking again."""
    return LARGE_EVERY_S if len(table["ranks"]["rank"]) >= LARGE_RANKS else EVERY_S

"""How does an attempt come and go? The `Scheduler` port: TorchX in a child process, the end by the registry.

TorchX never runs inside the supervisor: importing it costs a second, constructing its local scheduler replaces signal
handlers, and its destructor kills what it started.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from jobs import registry
from jobs.keeper import door
from monitors.clock import Clock
from orchestrator.core import actions
from orchestrator.core.events import AttemptEnded, Launched, LaunchFailed
from orchestrator.home import Home
from orchestrator.ports import Answer

log = logging.getLogger(__name__)

LAUNCH_S = 300.0
"""a scheduler that does not answer a submission for this long has refused it"""
LEAVE_S = 1.0
"""for agents to end by themselves before the registry ends them"""


Spawn = Callable[[Coroutine[Any, Any, None]], object]


class Leave(Protocol):
    """Tells connected agents to go; `relaunch`: another attempt follows, and copies in memory stay."""

    def __call__(self, grace_s: float, *, relaunch: bool) -> None: ...


class TorchXScheduler:
    """Attempts of one run."""

    def __init__(self, home: Home, run: str, clock: Clock, spawn: Spawn, leave: Leave) -> None:
        """`spawn` runs a coroutine in the background; `leave` tells connected agents to go."""
        self._home = home
        self._run = run
        self._clock = clock
        self._spawn = spawn
        self._leave = leave

    def launch(self, order: actions.Launch, answer: Answer) -> None:
        """Submit; answers Launched or LaunchFailed."""
        self._spawn(self._launch(order, answer))

    def end_attempt(self, order: actions.EndAttempt, answer: Answer) -> None:
        """End every process; answers AttemptEnded once none is left."""
        self._leave(order.grace_s, relaunch=order.relaunch)
        self._spawn(self._end(order, answer))

    async def _launch(self, order: actions.Launch, answer: Answer) -> None:
        ok, text = await self._submit(order)
        now, attempt = self._clock.now(), order.attempt
        if ok:
            answer(Launched(at=now, attempt=attempt, handle=text))
        else:
            answer(LaunchFailed(at=now, attempt=attempt, why=text))

    async def _submit(self, order: actions.Launch) -> tuple[bool, str]:
        try:
            command = registry.request(self._home.root, self._run, order.attempt, order.exclude)
            child = await asyncio.create_subprocess_exec(
                *command,
                # It would begin anew to wear the mark by itself.
                env={**os.environ, registry.MARK: registry.mark(self._run, order.attempt)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                # Ctrl-C on a supervisor is not meant for what it launches: TorchX would end the agents.
                start_new_session=True,
            )
        except OSError as error:  # a full disk, a folder that is none, no process to be had
            return False, f"the submission could not be prepared: {error}"
        try:
            out, err = await asyncio.wait_for(child.communicate(), LAUNCH_S)
        except TimeoutError:
            child.kill()
            return False, f"the scheduler did not answer within {LAUNCH_S:.0f} s"
        return _verdict(out, err)

    async def _end(self, order: actions.EndAttempt, answer: Answer) -> None:
        await asyncio.sleep(0)
        until = self._clock.now() + order.grace_s + LEAVE_S
        while self._clock.now() < until and registry.agents(self._run, order.attempt):
            await asyncio.sleep(0.02)
        if not order.relaunch:  # an agent that has died could not tell its keeper
            await asyncio.to_thread(door.dismiss, self._home.root, self._run)
        try:
            left = await asyncio.to_thread(registry.end, self._home.root, self._run, order.attempt)
        except OSError as error:
            log.error("%s: attempt %d cannot be marked as ended: %s", self._run, order.attempt, error)
            return
        if left:
            log.error("%s: attempt %d still has processes %s", self._run, order.attempt, left)
            return  # the deadline of the phase tries again and tells a person
        answer(AttemptEnded(at=self._clock.now(), attempt=order.attempt, why=order.why))


def _verdict(out: bytes, err: bytes) -> tuple[bool, str]:
    try:
        answer = json.loads(out.splitlines()[-1])
        return (True, str(answer["handle"])) if answer["ok"] else (False, str(answer["why"]))
    except (IndexError, KeyError, ValueError):
        tail = " | ".join(err.decode(errors="replace").strip().splitlines()[-3:])
        return False, tail or "the launcher ended without a word"

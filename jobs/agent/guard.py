"""Who looks after the supervisor? Each agent on its host: when it is gone, they start it anew.

Several may try at once, the lock on the state folder lets one through. `jobs` knows the supervisor only as a command.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from jobs.agent import address
from jobs.agent.child import Child, Exit
from monitors.clock import Clock

LOOK_EVERY_S = 0.1
GONE_S = 0.3
"""a supervisor that is being replaced by a newer one is gone for less"""
AGAIN_S = 2.0
AGAIN_MAX_S = 30.0
"""one that cannot start is tried ever less often, but for ever: the run needs it"""

log = logging.getLogger(__name__)


def command(home: Path) -> tuple[str, ...]:
    """What starts the supervisor of a state folder."""
    return (sys.executable, "-P", "-m", "orchestrator.serve", "--home", str(home))


class Guard:
    """Starts the supervisor anew, unless a person ended it."""

    def __init__(self, home: Path, clock: Clock, *, is_linked: Callable[[], bool], argv: Sequence[str]) -> None:
        self._home = home
        self._clock = clock
        self._is_linked = is_linked
        self._argv = argv
        self._gone_since: float | None = None
        self._again_s = AGAIN_S
        self._not_before = float("-inf")

    async def run(self) -> None:
        """Look for ever."""
        while True:
            self.look(self._clock.now())
            await asyncio.sleep(LOOK_EVERY_S)

    def look(self, now: float) -> bool:
        """One look; True when it made us start a supervisor."""
        if self._is_linked():
            self._again_s = AGAIN_S
        if self._is_linked() or not self._is_gone():
            self._gone_since = None
            return False
        if self._gone_since is None:
            self._gone_since = now
        # The lock is tried last: one that is just starting must not find it taken by us.
        if now - self._gone_since < GONE_S or now < self._not_before or address.is_locked(self._home):
            return False
        self._start()
        self._not_before = now + self._again_s
        self._again_s = min(2 * self._again_s, AGAIN_MAX_S)
        return True

    def _is_gone(self) -> bool:
        where = address.read(self._home)
        if where is None or (self._home / "supervisor.off").exists():
            return False
        return where.is_here and not where.is_alive

    def _start(self) -> None:
        log.warning("the supervisor is gone: starting it anew")
        try:
            with (self._home / "supervisor.log").open("ab") as output:
                Child(self._argv, _ended, env=_own_environment(), stdout=output, stderr=subprocess.STDOUT)
        except OSError as error:
            log.error("the supervisor cannot be started: %s", error)


def _ended(end: Exit) -> None:
    log.warning("the supervisor that was started here ended: status %s, signal %s", end.code, end.signal)


def _own_environment() -> dict[str, str]:
    """Ours without the marks of this attempt: whoever sweeps the attempt must not take the supervisor along."""
    return {
        name: value
        for name, value in os.environ.items()
        if name == "LASTGOOD_HOME" or not name.startswith(("LASTGOOD_", "TORCHX_"))
    }

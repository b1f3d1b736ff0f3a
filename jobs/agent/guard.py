"""Who looks after the supervisor? Each agent on its host: when it is gone or hangs, they start it anew.

Several may try at once, the lock on the state folder lets one through. `jobs` knows the supervisor only as a command.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from jobs import registry
from jobs.agent import address, environment
from jobs.agent.child import Child, Exit
from monitors.clock import Clock, until_shared

LOOK_EVERY_S = 0.1
LINKED_EVERY_S = 0.5
"""that a connection broke is seen within that; each time the agent wakes a core that training may want"""
LOOK_LINKED_S = 10.0
"""while it answers, which says more than the process table does: a look reads a file, binds a socket and reads /proc"""
GONE_S = 0.3
"""a supervisor that is being replaced by a newer one is gone for less"""
AGAIN_S = 2.0
AGAIN_MAX_S = 30.0
"""one that cannot start is tried ever less often, but for ever: the run needs it"""
SILENT_S = 120.0
"""it acknowledges what it hears; a dying disk may hold it up for many seconds, but not for minutes"""
LAST_WORDS_S = 5.0
"""for one that hangs to write down where, before it is killed"""
LOOKED_S = 1.0
"""silence counts for at most as long after each look: a host that stood still has heard nobody"""

log = logging.getLogger(__name__)


def command(home: Path) -> tuple[str, ...]:
    """What starts the supervisor of a state folder."""
    return (sys.executable, "-P", "-m", "orchestrator.serve", "--home", str(home))


class Guard:
    """Starts the supervisor anew, unless a person ended it."""

    def __init__(
        self,
        home: Path,
        clock: Clock,
        *,
        is_linked: Callable[[], bool],
        is_silent: Callable[[], bool],
        welcomes: Callable[[], int] = lambda: 0,
        argv: Sequence[str],
    ) -> None:
        """`is_silent`: it took too long to answer us, and has said nothing since; `welcomes`: how often one took us."""
        self._home = home
        self._clock = clock
        self._is_linked = is_linked
        self._is_silent = is_silent
        self._welcomes = welcomes
        self._known_by = 0
        self._argv = argv
        self._gone_since: float | None = None
        self._again_s = AGAIN_S
        self._not_before = float("-inf")
        self._looked_at: float | None = None
        self._living: address.Address | None = None
        self._environment: dict[str, str] = {}
        """of the supervisor that lived last"""
        self._silent_s = 0.0

    async def run(self) -> None:
        """Look for ever."""
        while True:
            now, linked = self._clock.now(), self._is_linked()
            if linked:
                self._again_s = AGAIN_S  # it could start, however soon it is gone again
                self._gone_since = None
            before, self._known_by = self._known_by, self._welcomes()
            answers = linked and not self._is_silent() and self._known_by == before
            if not answers or self._looked_at is None or now - self._looked_at >= LOOK_LINKED_S:
                self.look(now)
            await asyncio.sleep(until_shared(LINKED_EVERY_S if linked else LOOK_EVERY_S))

    def look(self, now: float) -> bool:
        """One look; True when it made us start a supervisor."""
        where = self._ours()
        lives = where is not None and where.is_alive
        self._listen(where if lives else None, now)
        if self._is_linked() or where is None or lives:
            self._gone_since = None
            return False
        return self._replace(now)

    def _ours(self) -> address.Address | None:
        """Where it said that it is; None when it is not for us to start."""
        where = address.read(self._home)
        if where is None or (self._home / "supervisor.off").exists() or not where.is_here:
            return None
        return where

    def _replace(self, now: float) -> bool:
        if self._gone_since is None:
            self._gone_since = now
        # The lock is tried last: one that is just starting must not find it taken by us.
        if now - self._gone_since < GONE_S or now < self._not_before or address.is_locked(self._home):
            return False
        self._start()
        self._not_before = now + self._again_s
        self._again_s = min(2 * self._again_s, AGAIN_MAX_S)
        return True

    def _listen(self, living: address.Address | None, now: float) -> None:
        """Count for how long one that lives has not answered, and end it when that is too long."""
        passed_s = 0.0 if self._looked_at is None else min(now - self._looked_at, LOOKED_S)
        self._looked_at = now
        if living is not None and living != self._living:
            self._environment = registry.environment(living.pid)
        same, self._living = living == self._living, living
        if living is None or not same or not self._is_silent():
            self._silent_s = 0.0
            return
        before_s, self._silent_s = self._silent_s, self._silent_s + passed_s
        if before_s < SILENT_S <= self._silent_s:
            self._end(living, signal.SIGABRT)
        elif self._silent_s >= SILENT_S + LAST_WORDS_S:
            self._end(living, signal.SIGKILL)
            self._silent_s = 0.0

    def _end(self, hung: address.Address, number: signal.Signals) -> None:
        with suppress(OSError):
            handle = os.pidfd_open(hung.pid)
            try:
                # Looked at again now that the number cannot go to a stranger, who would not hold the lock either.
                if address.read(self._home) == hung and hung.is_alive and address.is_locked(self._home):
                    log.error("the supervisor does not answer for %.0f s: %s", self._silent_s, number.name)
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)

    def _start(self) -> None:
        log.warning("the supervisor is gone: starting it anew")
        try:
            with (self._home / "supervisor.log").open("ab") as output:
                env = self._environment or environment.of_no_attempt(os.environ)
                Child(self._argv, _ended, env=env, stdout=output, stderr=subprocess.STDOUT)
        except OSError as error:
            log.error("the supervisor cannot be started: %s", error)


def _ended(end: Exit) -> None:
    log.warning("the supervisor that was started here ended: status %s, signal %s", end.code, end.signal)

"""How do messages get to their channels? Each channel for itself, in order, again and again until it arrives.

A service that hangs holds up its own channel alone, and that until a deadline.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from monitors.clock import Clock
from orchestrator.alerts.aside import aside
from orchestrator.alerts.message import Act, Message
from orchestrator.alerts.outbox import Kept, Outbox
from orchestrator.alerts.sinks import Refused, SendFailed, Sink, scrubbed

log = logging.getLogger(__name__)

DEADLINE_S = 30.0
FIRST_S, MOST_S = 1.0, 300.0
"""waits between tries: doubled from the first to the longest, half of it by chance, so that not all come at once"""
AFTER_MOST_S = 3600.0
REFUSED_MOST = 3
"""tries of a message that the service will not have; the next ones must not wait behind it for ever"""
IDLE_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """How long a delivery takes at most, and what follows when it fails."""

    deadline_s: float = DEADLINE_S
    first_s: float = FIRST_S
    most_s: float = MOST_S


USUAL = Waits()


def backoff_s(tries: int, waits: Waits, chance: float) -> float:
    """Until the next try, after so many that failed; `chance` is from 0 to 1."""
    whole = min(waits.most_s, waits.first_s * 2.0 ** min(tries - 1, 30))
    return whole * (0.5 + 0.5 * chance)


class Courier:
    """Delivers what the outbox has for one channel."""

    def __init__(
        self,
        channel: str,
        sink: Sink,
        outbox: Outbox,
        clock: Clock,
        *,
        standing: Callable[[], Sequence[str]] = tuple,
        secrets: Sequence[str] = (),
        waits: Waits = USUAL,
    ) -> None:
        self.channel = channel
        self._sink = sink
        self._outbox = outbox
        self._clock = clock
        self._standing = standing
        self._secrets = secrets
        self._waits = waits
        self._dice = Random(channel)
        self._failures = 0
        self._not_before = 0.0
        self._refreshed_at = clock.now()

    async def work(self) -> None:
        """For ever."""
        while True:
            kept = self._outbox.next(self.channel) if self._clock.now() >= self._not_before else None
            if kept is None:
                await self._refresh()
                await asyncio.sleep(IDLE_S)
            elif kept.message.act is Act.UPDATED and self._outbox.is_overtaken(kept):
                self._outbox.done(kept, self._clock.now(), "overtaken")
            else:
                await self._deliver(kept)

    async def _deliver(self, kept: Kept) -> None:
        message = kept.message
        ref = self._outbox.ref(self.channel, message.thread)
        try:
            ref = await sent(self._sink, message, ref, self._waits.deadline_s)
        except SendFailed as error:
            self._missed(kept, error)
            return
        self._outbox.done(kept, self._clock.now(), "delivered", ref=ref)
        log.info("%s: %s %s", self.channel, message.act, message.key)
        self._failures, self._not_before = 0, 0.0

    def _missed(self, kept: Kept, error: SendFailed) -> None:
        now, why = self._clock.now(), scrubbed(str(error), self._secrets)
        log.warning("%s: %s was not delivered: %s", self.channel, kept.message.key, why)
        if isinstance(error, Refused) and kept.tries + 1 >= REFUSED_MOST:
            self._outbox.failed(kept, now, why)
            self._outbox.done(kept, now, "refused", error=why)
            return
        self._outbox.failed(kept, now, why)
        self._failures += 1
        wait_s = backoff_s(self._failures, self._waits, self._dice.random())
        self._not_before = now + max(wait_s, min(error.after_s or 0.0, AFTER_MOST_S))

    async def _refresh(self) -> None:
        """A service that forgets is told again what still stands."""
        every_s, now = self._sink.refreshes_s, self._clock.now()
        if every_s is None or now - self._refreshed_at < every_s:
            return
        self._refreshed_at = now
        for thread in self._standing():
            last = self._outbox.last(self.channel, thread)
            if last is None or last.act in (Act.RESOLVED, Act.NOTE):
                continue
            try:
                again = replace(last, at=now)
                await sent(self._sink, again, self._outbox.ref(self.channel, thread), self._waits.deadline_s)
            except SendFailed as error:
                log.warning("%s: not refreshed: %s", self.channel, scrubbed(str(error), self._secrets))
                return


async def sent(sink: Sink, message: Message, ref: str, deadline_s: float) -> str:
    """Send it, and wait at most so long. Raises SendFailed."""
    return await aside(lambda: sink.send(message, ref), deadline_s)

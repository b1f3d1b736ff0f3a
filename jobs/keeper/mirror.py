"""How does each copy of a rank come to another node? One thread a rank sends the newest, and tells how long it takes.

It looks at the head of the files, which costs a microsecond, a few times between two copies. A copy that is overwritten
while it is sent is given up; what is told is whether most of them arrive.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from jobs.keeper import wire
from jobs.keeper.shelf import Held, Shelf
from lastgood import header
from monitors.clock import Clock

LOOK_S = 0.01
LOOK_MAX_S = 0.1
LOOKS = 10
"""between two copies"""
AGAIN_S = 1.0
"""before a partner that could not be reached is tried again"""
UNREACHED_S = 10.0
"""one that is just being started is not there for some seconds"""
JUDGED = 10
"""copies"""
MISSED = 3
"""of them, that did not arrive before the next was made: a network that is too slow"""
SETTLING = 10
"""copies of a new world that are not judged: the ranks make them after each step, to find out how often they may"""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Partner:
    """The keeper that copies are sent to."""

    host: str
    port: int


class Arrivals:
    """Do copies arrive before the next ones are made?"""

    def __init__(self) -> None:
        self._world = 0
        self._seen = 0
        self._arrived: deque[bool] = deque(maxlen=JUDGED)
        self.too_slow = False

    def see(self, world: int, *, arrived: bool) -> None:
        """Of one copy. What was said before stays until the opposite is sure."""
        if world != self._world:
            self._world, self._seen = world, 0
            self._arrived.clear()
        self._seen += 1
        if self._seen <= SETTLING:
            return
        self._arrived.append(arrived)
        if len(self._arrived) == JUDGED:
            missed = JUDGED - sum(self._arrived)
            self.too_slow = missed >= MISSED or (self.too_slow and missed > 0)


class Mirror:
    """Sends the copies of one rank, in a thread of its own, for as long as its process lives."""

    def __init__(self, rank: int, shelf: Shelf, *, key: Callable[[], bytes], clock: Clock) -> None:
        self._rank = rank
        self._shelf = shelf
        self._key = key
        self._clock = clock
        self._partner: Partner | None = None
        self._changed = threading.Event()
        self._connection: socket.socket | None = None
        self._handled: tuple[int, int] | None = None
        """world and step of the newest copy that was sent, or given up"""
        self._handled_at = 0.0
        self._look_s = LOOK_S
        self._arrivals = Arrivals()
        self._failing_since: float | None = None
        self._failure = ""
        self.send_s = 0.0
        """what sending a copy takes"""

    def start(self) -> None:
        """Send from now on, once there is a partner."""
        threading.Thread(target=self._run, name=f"mirror-{self._rank}", daemon=True).start()

    def send_to(self, partner: Partner | None) -> None:
        """To whom; None: to nobody."""
        if partner != self._partner:
            self._partner = partner
            self._changed.set()

    @property
    def why(self) -> str:
        """Why no copies arrive; empty: they do, or nobody is there to send them to."""
        since = self._failing_since
        if self._partner is None:
            return ""
        if since is not None and self._clock.now() - since >= UNREACHED_S:
            return self._failure
        if self._arrivals.too_slow:
            return f"copies of rank {self._rank} are made faster than they can be sent: one takes {self.send_s:.2f} s"
        return ""

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _run(self) -> None:
        while True:
            if self._changed.wait(self._look_s):
                self._changed.clear()
                self._hang_up()
                self._handled = None
            partner = self._partner
            there = [] if partner is None else self._unsent()
            if partner is not None and there:
                self._send(there, partner)

    def _unsent(self) -> list[Held]:
        """Newest first."""
        return [one for one in self._shelf.own(self._rank) if self._handled is None or one.key > self._handled]

    def _send(self, there: list[Held], partner: Partner) -> None:
        newest, now = there[0], self._clock.now()
        if self._handled is not None:
            self._look_s = min(max((now - self._handled_at) / LOOKS, LOOK_S), LOOK_MAX_S)
        self._handled_at = now
        try:
            arrived = self._sent(newest, partner)
        except (OSError, wire.Stranger, wire.Broken) as error:
            self._hang_up()
            self._failed(f"{partner.host}:{partner.port}: {error}")
            self._changed.wait(AGAIN_S)
            return
        if arrived is not None:
            for one in there[1:] if self._handled is not None else ():
                self._arrivals.see(one.facts.world, arrived=False)  # it will be overwritten next
            self._failing_since = None
            self._handled = newest.key
            self._arrivals.see(newest.facts.world, arrived=arrived)

    def _failed(self, why: str) -> None:
        if why != self._failure:
            log.warning("rank %d: no copy arrives: %s", self._rank, why)
        self._failure = why  # first: another thread asks for it as soon as it has failed for long
        if self._failing_since is None:
            self._failing_since = self._clock.now()

    def _sent(self, newest: Held, partner: Partner) -> bool | None:
        """Whether the copy arrived before it was overwritten; None: it was not wanted, and is offered again."""
        if self._connection is None:
            self._connection = wire.dial(partner.host, partner.port, self._key())
        facts, head = newest.facts, newest.head
        began = self._clock.now()
        wire.say(
            self._connection,
            {"ask": "take", "rank": facts.rank, "world": facts.world, "step": facts.step}
            | {"body": head.body, "tail": head.tail, "digest": head.digest.hex()},
        )
        answer = wire.hear(self._connection)
        if "refused" in answer:
            self._failed(str(answer["refused"]))
            self._changed.wait(self._look_s if answer.get("soon") else AGAIN_S)
            return None
        gone = 0

        def sent(count: int) -> None:
            nonlocal gone
            gone = count

        whole = wire.send(self._connection, newest.fd, head, sent)
        arrived = wire.hear(self._connection).get("whole") is True
        took_s = self._clock.now() - began
        # Of one that was given up, as much was sent as tells how long all of it takes.
        self.send_s = took_s if arrived else took_s * head.size / max(gone, head.size // 100, 1)
        header.note_sent(newest.fd, head.mark if arrived else 0, self.send_s)
        return whole and arrived

"""What do the senses of this node see? A station in a process of its own says it, and the outbox takes it.

Whatever happens to the station (it hangs, dies, floods, prints garbage), the agent pays a few milliseconds at a time:
it reads little at once, ends a station that misbehaves, says of each sense that it is blind, and starts another one,
later each time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

from jobs.agent.child import Child, Exit
from jobs.agent.outbox import Outbox
from jobs.agent.place import Place
from jobs.spec import Spec
from monitors import wire
from monitors.clock import Clock
from monitors.sense.station import SENSED
from monitors.signals import Blind, Signal

READ_EVERY_S = 0.02
READ_BYTES = 1 << 16
LINES_MAX = 100
"""decoded at once: about 2 ms"""
LINE_BYTES_MAX = 1 << 18
LINES_A_SECOND = 200.0
LINES_BURST = 4000.0
"""16 GPUs and a host say 4 lines a second; a storm of kernel lines is thinned out by its sense"""
GARBAGE_MAX = 16
"""lines that mean nothing, before the station is ended: a library may print one"""
SILENCE_S = 60.0
"""a station says every 5 s that it lives; a host without memory may make it wait"""
BACKOFF_S = (1.0, 60.0)
"""before the next station: doubled each time, from one to the other"""
STEADY_S = 120.0
"""a station that lived so long did not die of its start"""
PENDING_BYTES = 1 << 20
LOG_BYTES = 1 << 24
"""the most that a station may write into its log: the kernel refuses more"""
LOG_KEPT_BYTES = 1 << 20
"""of the stations before"""
WITHHELD = ("LASTGOOD_MARK",)
"""A station that hangs in the driver cannot be killed: nobody who ends an attempt must wait for it."""

log = logging.getLogger(__name__)


def command(spec: Spec, place: Place) -> tuple[str, ...]:
    """What the station of a node is started with."""
    paths = (str(place.checkpoints(spec.checkpoint.folder)), str(place.home), *spec.senses.paths)
    return (
        *(sys.executable, "-P", "-m", "monitors.sense", "--json", "--orders"),
        *("--node", str(place.node), "--parent", str(os.getpid())),
        *("--nvml", spec.senses.nvml, "--kernel", spec.senses.kernel, "--host", spec.senses.host),
        *(("--overrides", spec.senses.overrides) if spec.senses.overrides is not None else ()),
        *(word for path in paths for word in ("--path", path)),
    )


class Senses:
    """Keeps one station running."""

    def __init__(
        self, argv: Sequence[str], *, names: Sequence[str], node: int, log_file: Path, clock: Clock, outbox: Outbox
    ) -> None:
        """`names` are the senses that the station has: with none, there is no station."""
        self._argv = tuple(argv)
        self._node = node
        self._log_file = log_file
        self._clock = clock
        self._outbox = outbox
        self._said: dict[str, str | None] = dict.fromkeys(names)
        """why each sense is blind, empty when it sees, None before anything was said"""
        self._station: _Station | None = None
        self._backoff_s = BACKOFF_S[0]
        self._pending = bytearray()
        self._again: asyncio.TimerHandle | None = None
        self._closed = False

    def start(self) -> None:
        """Start a station, now and whenever one has ended."""
        self._again = None
        if self._closed or not self._said:
            return
        try:
            self._station = _Station(self._argv, self, self._log_file, self._clock)
        except OSError as error:
            self.lost(f"no station could be started: {error}", 0.0)
            return
        self._station.put(self._pending)

    def inject(self, orders: Iterable[Mapping[str, Any]]) -> None:
        """For drills: `{"kernel": LINE}` or `{"signal": {...}}`, as `monitors.sense.station.Station.obey` takes them.

        They wait for a station when there is none; a hung one takes no more than PENDING_BYTES.
        """
        for order in orders:
            line = json.dumps(dict(order)).encode() + b"\n"
            if len(self._pending) + len(line) > PENDING_BYTES:
                log.warning("an order to the senses is lost: %.200r", line)
                return
            self._pending += line
        if self._station is not None:
            self._station.put(self._pending)

    def close(self) -> None:
        """End the station for good."""
        self._closed = True
        if self._again is not None:
            self._again.cancel()
        if self._station is not None:
            self._station.end("the agent leaves")

    def take(self, signal: Signal) -> None:
        """Something was seen."""
        if isinstance(signal, Blind):
            if self._said.get(signal.sense) == signal.why:
                return
            self._said[signal.sense] = signal.why
        self._outbox.put(signal)

    def blind(self, why: str) -> None:
        """Nothing is seen until a station says otherwise."""
        for name in () if self._closed else self._said:
            self.take(Blind(at=self._clock.now(), node=self._node, sense=name, why=why))

    def lost(self, why: str, lived_s: float) -> None:
        """There is no station, and soon another one."""
        self._station = None
        if self._closed:
            return
        log.warning("%s; again in %.0f s", why, self._backoff_s)
        self.blind(why)
        if lived_s >= STEADY_S:
            self._backoff_s = BACKOFF_S[0]
        self._again = asyncio.get_running_loop().call_later(self._backoff_s, self.start)
        self._backoff_s = min(2 * self._backoff_s, BACKOFF_S[1])

    @property
    def running(self) -> bool:
        """There is a station's process, perhaps one that was told to end."""
        return self._station is not None

    @property
    def node(self) -> int:
        """Whose senses."""
        return self._node


class _Station:
    """One life of a station."""

    def __init__(self, argv: Sequence[str], owner: Senses, log_file: Path, clock: Clock) -> None:
        """Raises OSError when it cannot be started."""
        self._owner = owner
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._began_at = self._heard_at = self._filled_at = clock.now()
        self._allowed = LINES_BURST
        self._garbage = 0
        self._rest = b""
        self._why = ""
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._writing = False
        self._open(argv, log_file)
        self._listen()
        self._watch_silence()

    def put(self, orders: bytearray) -> None:
        """Write what fits into the pipe, and the rest when it is read."""
        if self._why or self._orders < 0:
            return
        with suppress(BlockingIOError, BrokenPipeError):
            while orders:
                del orders[: os.write(self._orders, orders)]
        if orders and not self._writing:
            self._writing = True
            self._loop.add_writer(self._orders, self.put, orders)
        elif not orders and self._writing:
            self._writing = False
            self._loop.remove_writer(self._orders)

    def end(self, why: str) -> None:
        """Kill it and its children; its end is told when it has come, which a process in state D may put off."""
        if self._why:
            return
        self._why = why
        self._stop_listening()
        self._child.send_group(9)
        self._owner.blind(why)

    def _open(self, argv: Sequence[str], log_file: Path) -> None:
        theirs_in, self._orders = os.pipe()
        self._said, theirs_out = os.pipe()
        env = {name: value for name, value in os.environ.items() if name not in WITHHELD}
        try:
            with log_file.open("ab") as file:
                if file.tell() > LOG_KEPT_BYTES:
                    file.truncate(0)
                # Limited by the shell that it is, for an instant: afterwards would be too late for one that floods.
                bounded = ("/bin/sh", "-c", f'ulimit -f {LOG_BYTES // 512}; exec "$@"', "sh", *argv)
                self._child = Child(bounded, self._ended, env=env, stdin=theirs_in, stdout=theirs_out, stderr=file)
        except OSError:
            os.close(self._orders)
            os.close(self._said)
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        os.set_blocking(self._orders, False)
        os.set_blocking(self._said, False)

    def _ended(self, end: Exit) -> None:
        how = f"signal {end.signal}" if end.code is None else f"status {end.code}"
        why = self._why or f"the senses' process ended with {how}, see senses.log"
        self._stop_listening()
        self._why = why
        os.close(self._orders)
        os.close(self._said)
        self._orders = -1
        self._owner.lost(why, self._clock.now() - self._began_at)

    def _stop_listening(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        if self._orders >= 0:
            self._loop.remove_writer(self._orders)
            self._loop.remove_reader(self._said)

    def _later(self, what: str, delay_s: float) -> None:
        self._timers[what] = self._loop.call_later(delay_s, getattr(self, what))

    def _listen(self) -> None:
        self._loop.add_reader(self._said, self._turn)

    def _turn(self) -> None:
        """A little of what it said, and then a pause: whoever floods fills its own pipe."""
        self._loop.remove_reader(self._said)
        self._heard_at = self._clock.now()
        if b"\n" not in self._rest:
            with suppress(BlockingIOError):
                chunk = os.read(self._said, READ_BYTES)
                if not chunk:
                    return  # its end is near, and told by its pidfd
                self._rest += chunk
        *lines, self._rest = self._rest.split(b"\n", LINES_MAX)
        self._take(lines)
        if not self._why:
            self._later("_turn" if b"\n" in self._rest else "_listen", READ_EVERY_S)

    def _take(self, lines: list[bytes]) -> None:
        for line in filter(None, lines):
            try:
                self._owner.take(_read(line, self._owner.node))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                self._garbage += 1
                log.warning("the senses said %.200r: %.200s", line, error)
        self._fill()
        self._allowed -= len(lines)
        if self._garbage > GARBAGE_MAX or len(self._rest) > LINE_BYTES_MAX:
            self.end("the senses' process wrote what is no signal")
        elif self._allowed < 0:
            self.end(f"the senses' process said more than {LINES_A_SECOND:.0f} lines a second")

    def _fill(self) -> None:
        now = self._clock.now()
        self._allowed = min(LINES_BURST, self._allowed + LINES_A_SECOND * (now - self._filled_at))
        self._filled_at = now

    def _watch_silence(self) -> None:
        silent_s = self._clock.now() - self._heard_at
        if silent_s >= SILENCE_S:
            self.end(f"the senses' process was silent for {SILENCE_S:.0f} s")
        else:
            self._later("_watch_silence", SILENCE_S - silent_s)


def _read(line: bytes, node: int) -> Signal:
    signal: Signal = wire.loads(line, SENSED)
    if signal.node != node or not isfinite(signal.at):
        raise ValueError("another node, or no time")
    return signal

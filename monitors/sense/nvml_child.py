"""What do this host's GPUs say? Asked in a process of its own, because any call may never return.

One JSON object a line goes to the parent (`gpus.py`): the signals GpuLooked, GpuFailed and GpuEvent in the form of
`monitors/wire.py` (which is not imported: this process has to start fast), and
  {"ask": N}       the calls about GPU N begin; -1: the library's start; null: nothing is asked now
  {"gpus": [[index, uuid, pci], ...]}   those that answer, once they were all opened
  {"alive": true}  nothing happened, and the event queue answers
  {"blind": why}   nothing can be seen, and the process ends
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Any

from monitors.clock import Clock, SystemClock
from monitors.hardware import GpuEvent, GpuFailed, GpuLooked
from monitors.sense.lifeline import end_with
from monitors.sense.nvml import Device, Events, NvmlError, driver
from monitors.sense.nvml_reading import Reading

WAIT_S = 0.5
"""for events at a time: the heartbeat of the listener"""
_LIBRARY = -1
_NAMES = {cls: tuple(field.name for field in fields(cls)) for cls in (GpuEvent, GpuFailed, GpuLooked)}

Say = Callable[..., None]


class Mouth:
    """Lines to the parent; each is there when the call returns."""

    def __init__(self) -> None:
        # The driver's library may print: what it says must not stand between our lines.
        self._out = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)

    def say(self, *lines: Any) -> None:
        """Write them at once."""
        self._out.write(b"".join(_line(line) for line in lines))
        self._out.flush()


def _line(line: Any) -> bytes:
    names = _NAMES.get(type(line))
    body = line if names is None else {"is": type(line).__name__, **{name: getattr(line, name) for name in names}}
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


class Polls:
    """Asks some GPUs, one after another, again and again."""

    def __init__(self, say: Say, clock: Clock, *, node: int, asked: Sequence[int]) -> None:
        self._say = say
        self._clock = clock
        self._node = node
        self._readings: dict[int, Reading | None] = dict.fromkeys(asked)

    def open(self) -> None:
        """Find out who they are."""
        found = []
        for index in self._readings:
            self._say({"ask": index})
            reading = self._opened(index)
            if reading is not None:
                found.append([index, reading.identity.uuid, reading.identity.pci])
        self._say({"gpus": found})

    def poll(self) -> None:
        """All of them, once. Raises NvmlError when it is the library that fails."""
        indices = [*self._readings, None]
        self._say({"ask": indices[0]})
        for index, following in pairwise(indices):
            assert index is not None
            # The next GPU is named before its first call: if nothing comes after that line, the fault is its own.
            self._say(self._looked(index), {"ask": following})

    def _opened(self, index: int) -> Reading | None:
        try:
            self._readings[index] = Reading(index, node=self._node)
        except NvmlError as error:
            self._say(self._failed(index, error))
        return self._readings[index]

    def _looked(self, index: int) -> GpuLooked | GpuFailed:
        try:
            reading = self._readings[index] = self._readings[index] or Reading(index, node=self._node)
            return reading.look(self._clock.now())
        except NvmlError as error:
            return self._failed(index, error)

    def _failed(self, index: int, error: NvmlError) -> GpuFailed:
        if error.is_of_library:
            raise error
        reading = self._readings[index]
        return GpuFailed(
            at=self._clock.now(),
            node=self._node,
            device=reading.identity.uuid if reading else None,
            index=index,
            error=error.error,
            pci=reading.identity.pci if reading else None,
        )


class Listener:
    """Hears the events of all GPUs."""

    def __init__(self, say: Say, clock: Clock, *, node: int, heard: Sequence[int]) -> None:
        self._say = say
        self._clock = clock
        self._node = node
        self._heard = heard

    def listen(self) -> None:
        """For ever. Raises NvmlError when no GPU tells anything, or when the queue fails: a lost GPU does that."""
        events = Events()
        try:
            known = dict(self._register(events))
            if not known:
                raise NvmlError.told("this driver tells no events: Xids come from the kernel's log alone")
            self._say({"gpus": [[index, *identity] for index, identity in known.items()]}, {"ask": None})
            while True:
                self._wait(events, known)
        finally:
            events.close()

    def _register(self, events: Events) -> Iterator[tuple[int, tuple[str, str | None]]]:
        for index in self._heard:
            self._say({"ask": index})
            try:
                device = Device(index)
                identity = device.identity()
                registered = events.register(device)
            except NvmlError as error:
                if error.is_of_library:
                    raise
                continue  # whoever asks for values tells of it
            if registered:
                yield index, (identity.uuid, identity.pci)

    def _wait(self, events: Events, known: dict[int, tuple[str, str | None]]) -> None:
        happening = events.wait(WAIT_S)
        if happening is None or happening.index not in known:
            self._say({"alive": True})
            return
        device, pci = known[happening.index]
        self._say(
            GpuEvent(
                at=self._clock.now(),
                node=self._node,
                device=device,
                event=happening.event,
                data=happening.data,
                pci=pci,
            )
        )


def _poll_for_ever(polls: Polls, clock: Clock, every_s: float) -> None:
    polls.open()
    while True:
        began = clock.now()
        polls.poll()
        time.sleep(max(0.0, every_s - (clock.now() - began)))


def _listen_for_ever(listener: Listener) -> None:
    while True:
        try:
            listener.listen()
        except NvmlError as error:
            if error.is_of_library:
                raise
            time.sleep(WAIT_S)  # the next set leaves out the GPU that failed this one


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nvml_child")
    parser.add_argument("what", choices=("polls", "events"))
    parser.add_argument("--node", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--every", type=float, default=1.0)
    parser.add_argument("--without", type=int, action="append", default=[])
    parser.add_argument("--only", type=int)
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Ask, or listen, until the parent ends or nothing can be seen."""
    given = _arguments(argv)
    if not end_with(given.parent):
        return 1
    mouth, clock = Mouth(), SystemClock()
    mouth.say({"ask": _LIBRARY})
    try:
        with driver() as count:
            if count == 0:
                raise NvmlError.told("the driver sees no GPU: `nvidia-smi -L`, `lspci -d 10de:`")
            asked = [n for n in range(count) if n not in given.without and given.only in (None, n)]
            if given.what == "polls":
                _poll_for_ever(Polls(mouth.say, clock, node=given.node, asked=asked), clock, given.every)
            else:
                _listen_for_ever(Listener(mouth.say, clock, node=given.node, heard=asked))
    except NvmlError as error:
        mouth.say({"blind": error.why})
    except BrokenPipeError:
        pass  # the parent closed its end: it wants nothing more
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Who asks each sense of a node in its own time, and passes on what it saw?

A sense is an object that looks without blocking. One that fails with a bug is blind and says so; the others go on.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from monitors import wire
from monitors.clock import Clock
from monitors.hardware import GpuEvent, GpuFailed, GpuLooked, HostLooked, KernelSaw
from monitors.signals import Blind, Signal

SURE_S = 5.0
"""without a word of its blindness a sense sees: one that asks a child knows only when that has answered"""
RETRY_S = 60.0
"""before a sense that failed is asked again: its bug may be about what it saw, not about everything"""
SENSED: dict[str, type] = wire.by_name(KernelSaw, GpuEvent, GpuFailed, GpuLooked, HostLooked, Blind)
"""what a station may say"""

log = logging.getLogger(__name__)


class Sense(Protocol):
    """One source. It is made for a node, and tells `Blind` once when it cannot see, and once when it sees again."""

    every_s: float

    def look(self, now: float) -> list[Signal]:
        """What there is to see; never blocks, and never raises for what the world does."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


@runtime_checkable
class Listening(Protocol):
    """A sense to which lines can be fed as though its source had written them."""

    def feed(self, line: str, now: float) -> list[Signal]:
        """What the line says."""
        ...


@dataclass(slots=True, kw_only=True)
class _Post:
    name: str
    sense: Sense
    due: float = float("-inf")
    first_at: float | None = None
    known: bool = False
    """it was said whether it sees"""
    failed: bool = False
    """with a bug, at the last look"""


class Station:
    """Senses by name, for one node."""

    def __init__(self, senses: Mapping[str, Sense], *, node: int, clock: Clock, tell: Callable[[Signal], None]) -> None:
        self._posts = [_Post(name=name, sense=sense) for name, sense in senses.items()]
        self._node = node
        self._clock = clock
        self._tell = tell
        self._devices: dict[str, str] = {}

    def turn(self) -> float:
        """Look with every sense whose time has come; seconds until the next one's."""
        for post in self._posts:
            if self._clock.now() >= post.due:
                self._look(post)
        return max(0.0, min((post.due for post in self._posts), default=RETRY_S) - self._clock.now())

    def obey(self, order: str | bytes) -> None:
        """`{"kernel": LINE}`: as though the kernel had written it. `{"signal": {...}}`: as though it had been seen.

        Anything else is noted, and nothing happens: orders are for drills.
        """
        try:
            body = json.loads(order)
            if "kernel" in body:
                self._feed("kernel", str(body["kernel"]))
            else:
                self._pass_on([wire.decode(body["signal"], SENSED)])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning("no order: %.200r: %s", order, error)

    def close(self) -> None:
        """Close every sense, whatever the others do."""
        for post in self._posts:
            try:
                post.sense.close()
            except Exception:
                log.exception("%s could not be closed", post.name)

    def _look(self, post: _Post) -> None:
        now = self._clock.now()
        seen = self._ask(post, post.sense.look, now)
        if seen is not None:
            every_s = post.sense.every_s
            # On a grid, so that senses wake the processor up together.
            post.due, post.failed = (now // every_s + 1) * every_s, False
            self._note(post, seen, now)
            self._pass_on(seen)

    def _ask(self, post: _Post, question: Callable[[float], list[Signal]], now: float) -> list[Signal] | None:
        try:
            return question(now)
        except Exception as error:
            self._fail(post, error, now)
            return None

    def _fail(self, post: _Post, error: Exception, now: float) -> None:
        log.exception("%s failed", post.name)
        post.due = now + RETRY_S
        if not post.failed:
            why = str(error) if isinstance(error, OSError | ValueError) else f"a bug: {type(error).__name__}: {error}"
            self._tell(Blind(at=now, node=self._node, sense=post.name, why=why))
        post.failed, post.known, post.first_at = True, False, None

    def _note(self, post: _Post, seen: list[Signal], now: float) -> None:
        """Say of each sense once that it sees: one that sees nothing wrong must not look like one that is not there."""
        post.first_at = now if post.first_at is None else post.first_at
        if any(isinstance(signal, Blind) and signal.sense == post.name for signal in seen):
            post.known = True
        elif not post.known and (seen or now - post.first_at >= SURE_S):
            self._tell(Blind(at=now, node=self._node, sense=post.name, why=""))
            post.known = True

    def _feed(self, name: str, line: str) -> None:
        for post in self._posts:
            if post.name == name and isinstance(post.sense, Listening):
                self._pass_on(self._ask(post, partial(post.sense.feed, line), self._clock.now()) or [])
                return
        log.warning("nobody listens to the %s: %.200s", name, line)

    def _pass_on(self, signals: list[Signal]) -> None:
        for signal in signals:
            if isinstance(signal, GpuLooked) and signal.pci is not None:
                self._devices[kernel_form(signal.pci)] = signal.device
            self._tell(self._named(signal))

    def _named(self, signal: Signal) -> Signal:
        """A line of the kernel names a GPU by its PCI address, everybody else by its UUID."""
        if isinstance(signal, KernelSaw) and signal.device is None and signal.pci is not None:
            return replace(signal, device=self._devices.get(kernel_form(signal.pci)))
        return signal


def kernel_form(pci: str) -> str:
    """NVML's `00000000:3B:00.0`, and any other form, as most kernel lines have it: `0000:3b:00`."""
    parts = pci.lower().partition(".")[0].split(":")
    if len(parts) == 2:
        parts.insert(0, "0")
    try:
        return ":".join((f"{int(parts[0], 16):04x}", *parts[1:]))
    except ValueError:
        return pci


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which senses a station has."""

    node: int = 0
    nvml: bool = True
    kernel: str = "auto"
    """auto, off, or the path of a file"""
    overrides: str | None = None
    """file in which a site changes the catalogue of the kernel's lines and of Xids"""
    host: bool = True
    paths: tuple[str, ...] = ()
    """folders whose disks matter, beside the usual ones"""


def senses(choice: Choice) -> dict[str, Sense]:
    """The senses that are chosen. Each is made when it is first looked at: one that cannot be made is blind."""
    makers: dict[str, Callable[[], Any]] = {}
    if choice.nvml:
        makers["nvml"] = lambda: _gpus(choice)
    if choice.kernel != "off":
        makers["kernel"] = lambda: _kernel(choice)
    if choice.host:
        makers["host"] = lambda: _host(choice)
    return {name: Late(make) for name, make in makers.items()}


class Late:
    """A sense that is made at its first look, so that a failure to make it is a failure of it alone."""

    def __init__(self, make: Callable[[], Sense]) -> None:
        self._make = make
        self._sense: Sense | None = None
        self.every_s = RETRY_S

    def look(self, now: float) -> list[Signal]:
        """Look, with a sense that is made if there is none."""
        sense = self._made()
        seen = sense.look(now)
        self.every_s = sense.every_s
        return seen

    def feed(self, line: str, now: float) -> list[Signal]:
        """Feed a line to a sense that listens; nothing happens with another."""
        sense = self._made()
        return sense.feed(line, now) if isinstance(sense, Listening) else []

    def close(self) -> None:
        """Close it if there is one."""
        if self._sense is not None:
            self._sense.close()

    def _made(self) -> Sense:
        if self._sense is None:
            self._sense = self._make()
        return self._sense


def _host(choice: Choice) -> Sense:
    from monitors.sense.host import Host

    return Host(node=choice.node, paths=choice.paths)


def _gpus(choice: Choice) -> Sense:
    from monitors.sense.gpus import Gpus

    return Gpus(node=choice.node, overrides=None if choice.overrides is None else Path(choice.overrides))


def _kernel(choice: Choice) -> Sense:
    from monitors.sense.kernel import Kernel

    return Kernel(
        node=choice.node,
        source=None if choice.kernel == "auto" else Path(choice.kernel),
        overrides=None if choice.overrides is None else Path(choice.overrides),
    )

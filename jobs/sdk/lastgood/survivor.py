"""How does a process outlive its world? It leaves, says so to its agent, and enters the next one with another rank's
world number and the same imports, device and compiled code.

Over one socket of whole messages between agent and rank:

    rank  -> {"ready": true}                           it can
    rank  -> {"left": WORLD, "failed": true|false}     nothing of that world runs here any more
    agent -> {"leave": WORLD}                          the world is over; whoever does not leave soon is killed
    agent -> {"enter": {environment}}                  with the files for stdout and stderr: be a rank of that world

A rank that raised says why before it leaves, as one that ends does. The main thread is taken out of the training
function by an exception of its own; what it waits for in a collective is woken first (`parting.py`).
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, NoReturn

from lastgood import last_words, parting, recorder, shown, stacks

CONTROL = "LASTGOOD_CONTROL"
"""descriptor of the socket to the agent; without it a rank ends with its world"""
MESSAGE_BYTES = 1 << 18
AGAIN_S = 0.05
"""an exception in the main thread may be swallowed by code that catches everything: it is raised again"""
DRAIN_S = 1.0
_ENDS = (SystemExit, KeyboardInterrupt)
"""the process was meant to end"""


class WorldOver(BaseException):
    """The agent ended this world. Not an Exception: training code that catches those is not meant."""


class Survivor:
    """This process, as long as its agent may want it for another world."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._main = threading.get_ident()
        self._lock = threading.Lock()
        self._inside = False
        self._outside = threading.Event()
        self._ordered = False
        """the agent wants this rank out of its world"""
        self._entries: SimpleQueue[tuple[dict[str, str], list[int]]] = SimpleQueue()
        threading.Thread(target=self._listen, name="lastgood-survivor", daemon=True).start()

    def attempt(self, work: Callable[[], None]) -> BaseException | None:
        """Work, until it is done or an order of the agent takes the main thread out; what ended it, if it was ended."""
        ended: BaseException | None = None
        try:
            try:
                self._go_in()
                work()
            except BaseException as error:  # whatever it is, this process goes on or ends with it
                ended = error
        except WorldOver as error:  # it struck while another exception was being taken
            ended = error
        self._come_out()
        return ended

    def outlives(self, error: BaseException) -> bool:
        """Leave the world that `error` ended for this process, or that the agent ended; the groups of it are gone then.

        False: this process is not fit for another one.
        """
        if isinstance(error, _ENDS):
            return False
        if not self._ordered:
            last_words.leave(error, os.environ.get("LASTGOOD_RANK_DIR"))
        parting.wake()
        _clear(error)
        _drain()
        parting.forget()
        return _device_is_sound()

    def leave(self, world: int) -> None:
        """Tell the agent that nothing of this world runs here any more."""
        say(self._control, {"left": world, "failed": not self._ordered})

    def enter(self) -> None:
        """Wait for the next world, and become a rank of it."""
        gc.collect()  # the model of the old one, with its memory on the device
        env, files = self._entries.get()
        old = os.environ.get("LASTGOOD_RANK_DIR")
        settle(self._control, env, files)
        if old is not None:
            recorder.stop_answering_in(old)
        stacks.show_on_order(env.get("LASTGOOD_RANK_DIR"))

    # --- the thread that listens to the agent

    def _listen(self) -> NoReturn:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            message, files = received(self._control)
            if "enter" in message:
                self._entries.put((message["enter"], files))
            elif "leave" in message:
                self._expel()

    def _expel(self) -> None:
        with self._lock:
            if not self._inside:
                return
            self._ordered = True
            _raise_in(self._main, WorldOver)
        parting.wake()
        while not self._outside.wait(AGAIN_S):
            with self._lock:
                if self._inside:
                    _raise_in(self._main, WorldOver)
                    parting.disconnect()  # it may have been on its way to wait for a peer

    def _go_in(self) -> None:
        self._outside.clear()
        self._ordered, self._inside = False, True

    def _come_out(self) -> None:
        """Until this has returned the exception may strike, and after it no more."""
        while True:
            try:
                with self._lock:
                    self._inside = False
                    _raise_in(self._main, None)
                self._outside.set()
                return
            except WorldOver:
                continue


def of(env: Mapping[str, str]) -> Survivor | None:
    """This process as one that may outlive its world; None when its agent did not ask for that."""
    descriptor = env.get(CONTROL)
    if descriptor is None:
        return None
    control = socket.socket(fileno=int(descriptor))
    control.setblocking(True)
    survivor = Survivor(control)
    say(control, {"ready": True})
    return survivor


def received(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What the agent says next, and the files that come with it."""
    with suppress(OSError, ValueError):
        body, files, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 2)
        if body:
            return dict(json.loads(body)), files
    os._exit(1)  # the agent is gone, and this process would die with it anyway


def say(control: socket.socket, message: Mapping[str, Any]) -> None:
    """Tell the agent; when it is gone, nobody."""
    with suppress(OSError):
        control.send(json.dumps(message).encode())


def settle(control: socket.socket, env: Mapping[str, str], files: Sequence[int]) -> None:
    """Make this process what one started for that rank would be: its files and its environment."""
    for number, file in enumerate(files, start=1):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(env)
    if CONTROL in env:
        os.environ[CONTROL] = str(control.fileno())
    if not shown.show_world(env["LASTGOOD_WORLD"].encode()):
        os._exit(1)  # nobody could find what it leaves behind


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    given = None if kind is None else ctypes.py_object(kind)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), given)


def _clear(error: BaseException) -> None:
    """The frames of the training function hold the model."""
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        following, seen.__traceback__ = seen.__cause__ or seen.__context__, None
        seen = following


def _drain() -> None:
    """Threads of ours that were at work on a copy or a save: both may be of use to the next world."""
    for thread in threading.enumerate():
        if thread.name in ("lastgood-copy", "lastgood-save"):
            thread.join(DRAIN_S)


def _device_is_sound() -> bool:
    """A fault inside a kernel spoils the context of its process for good."""
    if "torch" not in sys.modules:
        return True
    import torch

    if not torch.cuda.is_initialized():
        return True
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True

"""When does a rank begin to end? The agent's side of `lastgood.tether`: a thread for each process sleeps until its lock
is marked."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable
from contextlib import suppress

from lastgood import tether


class Tether:
    """To one process, which is given `theirs`."""

    def __init__(self) -> None:
        """Raises OSError when the kernel refuses."""
        self.theirs = os.memfd_create("lastgood-tether")
        os.ftruncate(self.theirs, mmap.PAGESIZE)
        self._memory = mmap.mmap(self.theirs, mmap.PAGESIZE)

    def connected(self) -> None:
        """The process has its end."""
        os.close(self.theirs)

    def watch(self, torn: Callable[[], object]) -> None:
        """`torn` is called once, by another thread: when the process may have begun to end, or after `cut`."""
        threading.Thread(target=_wait, args=(self._memory, torn), name="lastgood-tether", daemon=True).start()

    def cut(self) -> None:
        """Nobody need watch any longer."""
        word = tether.word_of(self._memory)
        word.value = tether.OWNER_DIED
        tether.wake(word)


def _wait(memory: mmap.mmap, torn: Callable[[], object]) -> None:
    word = tether.word_of(memory)
    while not (seen := word.value) & tether.OWNER_DIED:
        if not tether.wait_while(word, seen):
            return  # the pidfd will tell
    with suppress(RuntimeError):  # the agent's loop is closed: it ends itself
        torn()

"""What do processes that wait learn meanwhile? How the tensors of the world that trains are sharded (`shardings.py`).

The zygote learns it once, so that every rank forked from it later knows; a spare that was forked before learns it
itself. Question by question, so that whoever is called comes at once.
"""

from __future__ import annotations

import gc
import os
import select
import socket
from collections.abc import Iterator, Mapping

from lastgood import shardings

EVERY_S = 0.25
TRIES = 2400
"""until the third step of a world, before which nobody knows its questions: it may compile for minutes"""


class Lessons:
    """Of one process."""

    def __init__(self, *, on_device: bool) -> None:
        """`on_device`: it has a device of its own, and is never forked."""
        self._on_device = on_device
        self._path: str | None = None
        self._rank = 0
        self._tries = 0
        self._lesson: Iterator[None] | None = None

    def begin(self, env: Mapping[str, str]) -> None:
        """A world begins, or this process: `env` is that of a rank that writes its questions down, or of a spare."""
        if shardings.FILE in env:
            self._path, self._rank, self._tries = env[shardings.FILE], int(env["RANK"]), TRIES

    def until_called(self, by: socket.socket) -> None:
        """Learn what there is to learn, or until there is something to read."""
        while self._tries and not select.select([by], [], [], EVERY_S if self._lesson is None else 0.0)[0]:
            self._learn()

    def _learn(self) -> None:
        if self._lesson is None:
            self._tries -= 1
            if self._path is not None and os.path.exists(self._path):
                self._lesson = shardings.lesson(self._path, self._rank, on_device=self._on_device)
        elif next(self._lesson, self) is self:
            self._lesson, self._tries = None, 0
            gc.freeze()  # shared with the ranks to come, or owned for good: never looked through again

"""Which way does a save that is due take to durable storage, and when is it there?

From a copy in memory, which the node's saver writes while training goes on, and which a rank that dies does not take
along; where that cannot be done, the rank saves by itself. All ranks of a world take the same way, at every save anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lastgood.audience import Audience
from lastgood.interval import Interval
from lastgood.meeting import poll
from lastgood.notes import Note
from lastgood.peers import ROUND_TIMEOUT
from lastgood.place import Place
from lastgood.saving import Saver
from lastgood.snapshot import State

if TYPE_CHECKING:
    from lastgood.memory import Memory

WITHIN_S = 2 * ROUND_TIMEOUT.total_seconds()
"""for the agent to tell what became of the last save: its saver has as long for each of the two rounds"""


class Durable:
    """The saves of one rank. Making it is a collective."""

    def __init__(self, here: Place, memory: Memory | None, *, audience: Audience, note: Note) -> None:
        self._memory = memory
        self._audience = audience
        self._note = note
        self._staged = -1
        """newest step that the node's saver is to write"""
        self._failed: dict[str, Any] | None = None
        """note of the newest failure of this rank's own"""
        self._own = Saver(
            here.checkpoints,
            run=here.run,
            attempt=here.attempt,
            world=here.world,
            rank=here.rank,
            world_size=here.world_size,
            note=self._hear,
        )

    def save(self, step: int, state: State, data_index: int) -> bool:
        """Every rank calls it with the same `step` and `data_index`; whether the save is made of a copy in memory."""
        if self._memory is not None and self._memory.stage(step, state, data_index):
            self._staged = step
            return True
        self._own.save(step, state, data_index)
        return False

    def agree(self, step: int, interval: Interval) -> None:
        """Let all ranks hear how often saves are due from now on: a collective, at a step where one is."""
        self._own.wait()  # its thread talks to the same peers
        interval.agree(step, self._audience.save_every(), self._own.peers)

    def close(self) -> None:
        """Until every save is there, or known to have failed. Raises RuntimeError when nobody tells."""
        self._own.close()
        if self._memory is not None:
            self._memory.settle()  # what is not sealed was not heard of
        poll(self._is_told, WITHIN_S, f"the agent told nothing of the save of step {self._staged}", most_s=0.05)

    def failed(self, step: int) -> str:
        """Why the save of this step failed; empty when it did not."""
        saved = self._audience.saved()
        if step == self._staged == saved.failed_step:
            return saved.why or "the node's saver does not say why"
        return str(self._failed["why"]) if self._failed is not None and self._failed["step"] == step else ""

    def _is_told(self) -> bool:
        saved = self._audience.saved()
        return self._staged <= max(saved.step, saved.failed_step)

    def _hear(self, note: dict[str, Any]) -> None:
        if note["note"] == "save_failed":
            self._failed = note
        self._note(note)

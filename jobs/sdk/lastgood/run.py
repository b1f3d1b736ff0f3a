"""What does training code hold on to? `main` gives it a `Run`, and the run gives it the steps still to be done.

One step is: the loop body, a row in the progress file, a save when one is due, and then the orders that came
meanwhile (a drill, the wish to stop).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal, SupportsFloat

from lastgood import group, local, place, recorder, shardings, survivor
from lastgood.audience import Audience, listening
from lastgood.faults import Faults
from lastgood.interval import Interval
from lastgood.manifest import CheckpointUnreadable
from lastgood.notes import Note, Spoken, Written, made
from lastgood.place import Place
from lastgood.progress import Writer
from lastgood.skips import Skips

if TYPE_CHECKING:
    import torch

    from lastgood.durable import Durable
    from lastgood.memory import Memory
    from lastgood.restoring import Restored


def main(train: Callable[[Run], object]) -> None:
    """Train: join the other ranks, call `train(run)`, part.

    The place comes from the environment: a supervised run, torchrun (RANK, WORLD_SIZE, ...), or plain `python`, which
    is one rank. A process group is made (NCCL where there are GPUs, else gloo) unless one is up already. What `train`
    raises is raised.
    """
    process = survivor.of(os.environ)
    while not _trained(train, process):
        assert process is not None
        process.enter()


def _trained(train: Callable[[Run], object], process: survivor.Survivor | None) -> bool:
    """In one world; False when this process is to enter another one."""
    here = place.from_environment(os.environ)
    if process is None:
        _train_in(here, train)
        return True
    ended = process.attempt(lambda: _train_in(here, train))
    if ended is None:
        return True
    if not process.outlives(ended):
        raise ended
    process.leave(here.world)
    return False


def _train_in(here: Place, train: Callable[[Run], object]) -> None:
    audience = listening(here)  # first of all: joining the others may take for ever, and somebody should know of what
    with group.joined(here) as joined:
        run = open_run(joined, audience)
        train(run)
        run.close()


def open_run(here: Place, audience: Audience | None = None) -> Run:
    """The run as seen from this place; `audience` is who listens there, if that is known already."""
    audience = audience or listening(here)
    note: Note = Spoken(here.rank)
    if isinstance(audience, Writer):
        assert here.rank_dir is not None, "LASTGOOD_PROGRESS is set, LASTGOOD_RANK_DIR is not"
        note = Written(here.rank_dir, audience)
        with suppress(OSError):  # as in the worker, which is not there when a shell script started Python
            recorder.answer_in(here.rank_dir)
    elif here.rank == 0:
        note = local.Retention(here.checkpoints, note)
    shardings.attach()
    return Run(here, audience, note)


class Run:
    """One rank's view of the run. `lastgood.main` makes it."""

    def __init__(self, here: Place, audience: Audience, note: Note) -> None:
        self._here = here
        self._audience = audience
        self._note = note
        self._faults = Faults(here.rank_dir or "", audience, note)
        self._skips = Skips(here.skips)
        self._interval = Interval(here.save_every)
        self._saves: Durable | None = None
        self._memory: Memory | None = None
        self._phase = "starting"
        self._stopped = False
        self._saved_step = 0
        """of the newest checkpoint that may be restored"""
        self._loss: float | None = None
        self._grad_norm: float | None = None
        self._lr: float | None = None
        self._tokens: float | None = None
        self._local_loss: float | None = None
        self._local_grad_norm: float | None = None
        self._loss_scale: float | None = None
        self._waited_s = 0.0

    @property
    def rank(self) -> int:
        """Position of this process in the world, from 0."""
        return self._here.rank

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self._here.world_size

    @property
    def local_rank(self) -> int:
        """Position of this process on its node, from 0."""
        return self._here.local_rank

    @property
    def device(self) -> torch.device:
        """This rank's GPU, or the CPU where there is none."""
        return group.device(self._here)

    @property
    def supervised(self) -> bool:
        """lastgood watches this run; False under plain `python` and `torchrun`."""
        return self._here.supervised

    @property
    def stopped(self) -> bool:
        """A person ended `steps` before its last one: the state is saved, the run is not complete."""
        return self._stopped

    def data_index(self, step: int) -> int:
        """0-based index of the batch that `step` is to be fed; skipped windows of data are never returned.

        Raises ValueError for a step below 1.
        """
        return self._skips.data_index(step)

    def report(
        self,
        *,
        loss: SupportsFloat | None = None,
        grad_norm: SupportsFloat | None = None,
        lr: SupportsFloat | None = None,
        tokens: SupportsFloat | None = None,
        local_loss: SupportsFloat | None = None,
        local_grad_norm: SupportsFloat | None = None,
        loss_scale: SupportsFloat | None = None,
    ) -> None:
        """Say how the present step goes; may be called more than once in a step, and need not be called at all.

        `loss` and `grad_norm` are the run's: averaged over the ranks, where you do that. `local_loss` and
        `local_grad_norm` are this rank's own, before anything is averaged: a rank that computes wrong numbers, or is
        fed wrong data, shows there and nowhere else, and is named. Any gradient that this rank computed alone will do,
        for a rank is only held against itself and the others: that which comes back to the first layer costs next to
        nothing (see `jobs/recipes/gpt.py`). Ranks whose `loss` is not averaged need not say it twice.

        `loss_scale` is that of half-precision training (`scaler.get_scale()`): it collapses before the loss does.

        Numbers, or tensors of one element. A tensor is read with `.item()`, which for a GPU waits until the step's
        kernels are done, so report at the end of the step. That wait does not count as the rank's own time: where
        `report` is the first to read a tensor, a rank whose processor is late can be told from those that wait for it.
        The values are published when the step ends.
        """
        if loss is not None:
            self._loss = self._number(loss)
        if grad_norm is not None:
            self._grad_norm = self._number(grad_norm)
        if lr is not None:
            self._lr = self._number(lr)
        if tokens is not None:
            self._tokens = self._number(tokens)
        if local_loss is not None:
            self._local_loss = self._number(local_loss)
        if local_grad_norm is not None:
            self._local_grad_norm = self._number(local_grad_norm)
        if loss_scale is not None:
            self._loss_scale = self._number(loss_scale)

    @contextmanager
    def phase(self, phase: Literal["eval", "data"]) -> Iterator[None]:
        """Mark the enclosed time as an evaluation, or as waiting for data, so that it is judged by its own measure.

        Raises ValueError for another phase: the rest are entered by `steps` itself.
        """
        if phase not in ("eval", "data"):
            raise ValueError(f"no phase is called {phase!r}: 'eval' and 'data' can be marked")
        before = self._phase
        self._enter(phase)
        try:
            yield
        finally:
            self._enter(before)

    def steps(self, state: MutableMapping[str, Any], *, until: int) -> Iterator[int]:
        """Restore `state`, then yield the steps still to be done, 1-based, up to and including `until`.

        `state` is what a checkpoint holds: names to modules, optimizers, anything with `state_dict` and
        `load_state_dict`, tensors, plain values. It is restored in place from the newest checkpoint that may be used,
        if there is one. A step is finished when the loop asks for the next one; it is saved when a save is due, after
        the last step, and when a person stops the run. The loop ends when all of that is on durable storage.

        Raises RuntimeError when checkpoints may be used but all of them are damaged or cannot be read (starting from
        scratch is not this rank's to decide), and when the last save failed (a failed save before it does not stop
        training).
        """
        if self._saves is not None:
            raise RuntimeError("steps() was called before: one run has one loop of steps")
        from lastgood.durable import Durable

        if self._here.memory is not None:
            from lastgood.memory import Memory

            self._memory = Memory(self._here, note=self._note, audience=self._audience)
        self._saves = Durable(self._here, self._memory, audience=self._audience, note=self._note)
        return self._train(state, until)

    def close(self) -> None:
        """Wait for the last save: the loop does at its end, but it may have been left by `break`."""
        if self._phase == "done":
            return
        if self._saves is not None:
            self._enter("save")
            self._saves.close()
        if self._memory is not None:
            self._memory.close()
        self._enter("done")

    def _train(self, state: MutableMapping[str, Any], until: int) -> Iterator[int]:
        step = self._restore(state, until)
        self._enter("step")
        # The world that left the copies in memory may have died over this very save. It, and one that is due at once,
        # comes after the steps that the whole recovery waits for: one that is trained again, at most, and a new one.
        owed = step > self._saved_step and self._is_due(step, until)
        if owed and step == until:
            self._save(step, state)
        self._stopped = step < until and self._ordered_to_stop(step)
        known_by = step + 2  # the optimizer has stepped by then, also with the state that it made at its first
        settled = known_by if step > self._saved_step else step
        while step < until and not self._stopped:
            self._faults.bite(step, state)
            step += 1
            self._forget()
            began = time.monotonic()
            self._faults.dawdle()
            yield step
            step_s = time.monotonic() - began
            self._publish(step, step_s)
            if step == known_by:
                shardings.note()
            self._stopped = step < until and self._ordered_to_stop(step)
            owed = owed or self._is_due(step, until)
            waits = step < min(settled, until) and not self._stopped
            is_staged = owed and not waits and self._save(step, state)
            owed = owed and waits
            if self._memory is not None and not is_staged:  # what was staged is a copy
                self._memory.copy(step, state, self.data_index(step + 1), step_s)
        self.close()
        failed = self._saves.failed(step) if self._saves is not None else ""
        if failed:
            raise RuntimeError(f"the last save, of step {step}, failed: {failed}")

    def _restore(self, state: MutableMapping[str, Any], until: int) -> int:
        here = self._here
        self._note(made("entered", until=until))
        self._enter("restoring")
        candidates = here.resume if here.resume is not None else local.candidates(here)
        self._saved_step = candidates[0][1] if candidates else 0
        step = self._remembered(state)
        if step is None:
            found = self._restored(state, candidates) if candidates else None
            if found is None and not here.fresh:
                raise RuntimeError("nothing can be restored: no copies are left in memory, and no checkpoint is usable")
            step = self._saved_step = 0 if found is None else found.step
            self._note(made("restored", checkpoint=None if found is None else found.checkpoint, step=step))
        self._audience.stands_at(step)
        return step

    def _remembered(self, state: MutableMapping[str, Any]) -> int | None:
        """The step of the copies in memory that the ranks took; None when they took none."""
        copied = None if self._memory is None else self._memory.restore(state, above=self._saved_step - 1)
        if copied is None:
            return None
        where = {"copied_in": copied.world, "from_peer": copied.from_peer}
        self._note(made("restored", checkpoint=None, step=copied.step, **where))
        return copied.step

    def _restored(self, state: MutableMapping[str, Any], candidates: Sequence[tuple[str, int]]) -> Restored:
        from lastgood.restoring import restore

        here = self._here
        try:
            found = restore(
                here.checkpoints, candidates, state, rank=here.rank, world_size=here.world_size, note=self._note
            )
        except CheckpointUnreadable as unread:
            raise RuntimeError(
                f"no checkpoint in {here.checkpoints} could be restored, and one may be whole: {unread}"
            ) from unread
        tried = [name for name, _ in candidates]
        if found is None:
            raise RuntimeError(f"none of the checkpoints in {here.checkpoints} could be restored: {', '.join(tried)}")
        if here.resume is None:
            if found.unread:  # its step would be saved under its name, and retention would count it
                older = f"move it away to go on from {found.checkpoint}"
                raise RuntimeError(f"{found.unread[0]}: start again when it can be read, or {older}")
            local.set_aside(here, tried[: tried.index(found.checkpoint)])
        return found

    def _is_due(self, step: int, until: int) -> bool:
        return self._interval.is_due(step) or step == until or self._stopped

    def _save(self, step: int, state: MutableMapping[str, Any]) -> bool:
        """Whether the save was made of a copy in memory."""
        assert self._saves is not None
        self._enter("save")
        if self.supervised:
            self._saves.agree(step, self._interval)
        is_staged = self._saves.save(step, state, self.data_index(step + 1))
        self._enter("step")
        return is_staged

    def _publish(self, step: int, step_s: float) -> None:
        self._audience.row(
            step,
            self.data_index(step),
            self._loss,
            self._grad_norm,
            self._lr,
            self._tokens,
            step_s,
            self._local_loss,
            self._local_grad_norm,
            self._waited_s,
            self._loss_scale,
        )

    def _forget(self) -> None:
        self._loss = self._grad_norm = self._lr = self._tokens = self._local_loss = self._local_grad_norm = None
        self._loss_scale = None
        self._waited_s = 0.0

    def _ordered_to_stop(self, step: int) -> bool:
        # Not ==: an order that comes late is obeyed at the next boundary.
        return 0 <= self._audience.stop_after() <= step

    def _enter(self, phase: str) -> None:
        self._phase = phase
        self._audience.phase(phase)

    def _number(self, value: SupportsFloat) -> float:
        if type(value) is float:
            return value
        # float() of a tensor that needs a gradient warns, .item() does not.
        item = getattr(value, "item", None)
        if item is None:
            return float(value)
        began = time.monotonic()
        number = float(item())
        self._waited_s += time.monotonic() - began
        return number

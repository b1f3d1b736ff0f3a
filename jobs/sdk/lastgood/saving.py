"""How does a rank save its own state, beside its training? What it does where no saver of the node does it.

The step pays for one copy of this rank's shard; a thread then makes a checkpoint of it together with those of the other
ranks (`commit.py`). A rank that dies meanwhile takes the save with it.
"""

from __future__ import annotations

import os
import threading
import time

from lastgood.commit import Commit, Part, Save
from lastgood.files import Files
from lastgood.manifest import Name
from lastgood.notes import Note, made
from lastgood.peers import Peers
from lastgood.snapshot import State, capture
from lastgood.staging import Buffers, StagedPlanner


class Saver:
    """Saves the state of one world, at most one save at a time. Making one is a collective.

    `note` hears `committed` (on the coordinator) and `save_failed` (on the rank that failed), from the saving thread.
    """

    def __init__(
        self,
        folder: str,
        *,
        run: str,
        attempt: int,
        world: int,
        rank: int,
        world_size: int,
        note: Note,
        files: Files | None = None,
    ) -> None:
        self._folder = os.path.abspath(folder)
        self._run = run
        self._attempt = attempt
        self._world = world
        self._note = note
        self._files = files or Files()
        self._peers = Peers(rank, world_size)
        self._buffers: Buffers = {}
        self._thread: threading.Thread | None = None
        self._broken: BaseException | None = None

    def save(self, step: int, state: State, data_index: int) -> float:
        """Copy the state and save it beside training; the seconds that the caller waited.

        Every rank calls it with the same `step`, the last finished one, and `data_index`, that of the next batch.
        Raises what the user's own state raises when it is asked for its parts; never OSError.
        """
        began = time.monotonic()
        self.wait()
        planner = StagedPlanner(self._buffers)
        plan = planner.stage(capture(state, self._peers.rank), is_coordinator=self._peers.coordinates)
        stall_s = time.monotonic() - began
        save = Save(
            folder=self._folder,
            run=self._run,
            name=Name(step=step, attempt=self._attempt, world=self._world),
            data_index=data_index,
            saved_at=time.time(),
            stall_s=stall_s,
        )
        part = Part(plan=plan, planner=planner)
        # A daemon: a process that ends without `wait` leaves an unfinished save behind, and does not hang on it.
        self._thread = threading.Thread(target=self._finish, args=(save, part), name="lastgood-save", daemon=True)
        self._thread.start()
        return stall_s

    @property
    def peers(self) -> Peers:
        """The ranks that save together: to be asked only after `wait`, and before the next save."""
        return self._peers

    def wait(self) -> None:
        """Until no save is on its way."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._broken is not None:
            raise self._broken

    def close(self) -> None:
        """Finish what is on its way and leave the other ranks."""
        self.wait()
        self._peers.leave()

    def _finish(self, save: Save, part: Part) -> None:
        try:
            outcome = Commit(save, lambda: [part], self._peers, self._files).run()
            if outcome.committed is not None:
                self._note(outcome.committed)
            failure = outcome.failure
            if failure is not None and failure.rank == self._peers.rank:
                self._note(made("save_failed", step=save.name.step, why=failure.why, errno=failure.errno))
        except BaseException as error:  # a thread's exception would vanish: the next `wait` raises it
            self._broken = error

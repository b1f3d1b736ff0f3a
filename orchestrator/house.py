"""Which runs live here, and what are they made of? Taken over, put together, begun anew, given up one by one."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from jobs.errors import SpecError
from jobs.spec import Spec
from monitors.clock import Clock
from orchestrator import bulkhead, liverun, revisions, runbooks
from orchestrator.alerts.hook import HookNotifier
from orchestrator.core import events
from orchestrator.core.decide import begin, decide
from orchestrator.core.policy import Policy
from orchestrator.core.state import ENDED, State
from orchestrator.home import Home
from orchestrator.journal import Journal
from orchestrator.liverun import LiveRun
from orchestrator.requests import AskError
from orchestrator.supervisor import RunLoop

log = logging.getLogger(__name__)


class House:
    """All runs of one home."""

    def __init__(self, home: Home, journal: Journal, clock: Clock) -> None:
        self.home = home
        self.journal = journal
        self.clock = clock
        self._notifier = HookNotifier(home)
        self._tasks: set[asyncio.Task[None]] = set()
        # Loops of runs that are over live on for as long as an answer may still come for them.
        self._past: WeakValueDictionary[str, RunLoop] = WeakValueDictionary()
        self.runs: dict[str, LiveRun] = {}
        self.unsupervised: set[str] = set()
        """runs that nothing can be decided about: a fault of ours, or a file that cannot be read"""
        self.changed = asyncio.Event()
        """set when a deadline may have moved"""
        self.leaving = asyncio.Event()
        """set when a person wants no supervisor here"""

    def adopt(self, last_alive: float | None, *, left: bool = False) -> None:
        """Take over every run that is not over, but for those that cannot be."""
        now = self.clock.now()
        started = events.SupervisorStarted(at=now, pid=os.getpid(), last_alive=last_alive, left=left)
        for run in (submission.run for submission in self.journal.runs()):
            if self.journal.phase(run) not in ENDED:
                self.adopt_one(run, started)

    def adopt_one(self, run: str, started: events.SupervisorStarted) -> None:
        """Take a run over; one that cannot be is left alone, and told."""
        with self.bulkhead(run):
            state = replayed(*self.journal.load(run))
            self.unsupervised.discard(run)
            if state is not None and state.phase not in ENDED:
                self._revive(run, state, started)
            bulkhead.clear(self.home, run)

    def bulkhead(self, run: str) -> AbstractContextManager[None]:
        """What goes wrong inside ends the decisions about this run, and no other."""
        return bulkhead.bulkhead(partial(self.give_up, run))

    def give_up(self, run: str, error: Exception) -> None:
        """Decide nothing more about a run: its world trains on, and a person is told.

        That first: the steps heard may be just what the journal refuses.
        """
        log.critical("%s: nothing is decided about it any more", run, exc_info=error, extra={"run": run})
        live = self.runs.pop(run, None)
        self.unsupervised.add(run)
        if live is not None:
            live.loop.retire()
        if why := bulkhead.note(self.home, run, error):
            self._notifier.alert(run, bulkhead.page(run, why))
        if live is not None:
            with bulkhead.bulkhead(partial(_lost, run)):
                live.loop.save_rows()

    def _revive(self, run: str, state: State, started: events.SupervisorStarted) -> None:
        revisions.settle(self.home.run(run), state.revision)
        spec = self.spec(run)
        live = self.assemble(run, spec, state)
        live.loop.resume(started)
        try:
            policy = self.policy(spec)
        except SpecError as error:  # a slip in a page must not leave every run of this home without a supervisor
            log.error("%s goes on under the runbooks it had: %s", run, error, extra={"run": run})
        else:
            self.take_policy(live, policy)

    def take_policy(self, live: LiveRun, policy: Policy) -> None:
        """Let the run know of runbooks that changed."""
        if live.loop.state is not None and policy.version != live.loop.state.policy.version:
            live.loop.take(events.PolicyChanged(at=self.clock.now(), policy=policy))

    def policy_asked(self, run: str) -> Policy:
        """The runbooks as they are now. Raises AskError: a person who resumes can see to a slip in them first."""
        try:
            return self.policy(self.spec(run))
        except SpecError as error:
            raise AskError("usage", str(error)) from None

    def spec(self, run: str) -> Spec:
        """As it was resolved when it was submitted, or changed last."""
        return Spec.model_validate_json((self.home.run(run) / "spec.json").read_text())

    def policy(self, spec: Spec) -> Policy:
        """The runbooks in force for a spec. Raises SpecError."""
        return runbooks.load(Path(spec.recovery.runbooks) if spec.recovery.runbooks else None)

    def assemble(self, run: str, spec: Spec, state: State | None) -> LiveRun:
        """The parts of a run, which lives here from now on."""
        desk = liverun.Desk(
            home=self.home,
            journal=self.journal,
            clock=self.clock,
            notifier=self._notifier,
            spawn=partial(self.spawn, run),
        )
        self.runs[run] = liverun.assembled(run, spec, state, desk)
        return self.runs[run]

    def spawn(self, run: str, work: Coroutine[Any, Any, None]) -> None:
        """Do something for a run in the background."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._done, run))

    def _done(self, run: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.changed.set()
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception) and bulkhead.is_of_one_run(error):
            self.give_up(run, error)
        elif error is not None:
            log.critical("a background task failed", exc_info=error)
            os._exit(70)  # replay is the recovery: the agents start the supervisor anew

    def live(self, run: str) -> LiveRun:
        """A run that is not over. Raises AskError."""
        if run in self.runs:
            return self.runs[run]
        raise AskError("not_running", f"run {run} has ended or does not exist: see `lastgood ls -a`")

    def recorded(self, run: str) -> State:
        """Where a run stands by the journal, over or not. Raises AskError when it does not know it."""
        if all(known.run != run for known in self.journal.runs()):
            raise AskError("not_found", f"no run {run}: see `lastgood ls -a`")
        state = replayed(*self.journal.load(run))
        if state is None:  # a crash cut its submission off
            raise AskError("not_found", f"run {run} was never begun: submit it again")
        return state

    def reopened(self, run: str, state: State) -> LiveRun:
        """A run that was over, put together anew: nothing that is still answered to its old parts counts."""
        known = self.runs.pop(run, None)
        for loop in (self._past.pop(run, None), known.loop if known is not None else None):
            if loop is not None:
                loop.retire()
        revisions.settle(self.home.run(run), state.revision)
        return self.assemble(run, self.spec(run), state)


def _lost(run: str, error: Exception) -> None:
    log.error("%s: the steps heard last are not in the journal: %s", run, error, extra={"run": run})


def replayed(state: State | None, later: list[events.Event]) -> State | None:
    """The state after a snapshot and the events since."""
    for event in later:
        if state is None:
            if isinstance(event, events.RunSubmitted):
                state = begin(event).state
        else:
            state = decide(state, event).state
    return state

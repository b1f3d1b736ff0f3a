"""Which runs live here? Puts a run's parts together, wakes them at their deadlines, answers what people ask."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from jobs import registry
from jobs.agent import orders as o
from jobs.errors import SpecError
from jobs.spec import Spec
from monitors.clock import Clock
from orchestrator import bulkhead, folders, liverun, meaning, requests, runbooks
from orchestrator.alerts import HookNotifier
from orchestrator.core import events
from orchestrator.core.decide import begin, decide
from orchestrator.core.policy import Policy
from orchestrator.core.state import ENDED, State
from orchestrator.home import Home
from orchestrator.journal import Journal, Submission
from orchestrator.liverun import LiveRun
from orchestrator.requests import AskError
from orchestrator.supervisor import RunLoop

log = logging.getLogger(__name__)

ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""for run ids that are typed at 3 a.m.: no i, l, o, 0, 1"""


class Daemon:
    """All runs of one home."""

    def __init__(self, home: Home, journal: Journal, clock: Clock) -> None:
        self._home = home
        self._journal = journal
        self._clock = clock
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
        now = self._clock.now()
        started = events.SupervisorStarted(at=now, pid=os.getpid(), last_alive=last_alive, left=left)
        for run in (submission.run for submission in self._journal.runs()):
            if self._journal.phase(run) not in ENDED:
                self._adopt(run, started)

    def _adopt(self, run: str, started: events.SupervisorStarted) -> None:
        with self._bulkhead(run):
            state = replayed(*self._journal.load(run))
            self.unsupervised.discard(run)
            if state is not None and state.phase not in ENDED:
                self._revive(run, state, started)
            bulkhead.clear(self._home, run)

    def _bulkhead(self, run: str) -> AbstractContextManager[None]:
        return bulkhead.bulkhead(partial(self._give_up, run))

    def _give_up(self, run: str, error: Exception) -> None:
        """Decide nothing more about a run: its world trains on, and a person is told."""
        log.critical("%s: nothing is decided about it any more", run, exc_info=error)
        live = self.runs.pop(run, None)
        self.unsupervised.add(run)
        if live is not None:
            live.loop.retire()
            live.loop.save_rows()
        if why := bulkhead.note(self._home, run, error):
            self._notifier.alert(run, bulkhead.page(run, why))

    def _revive(self, run: str, state: State, started: events.SupervisorStarted) -> None:
        spec = self._spec(run)
        live = self._assemble(run, spec, state)
        live.loop.resume(started)
        try:
            policy = self._policy(spec)
        except SpecError as error:  # a slip in a page must not leave every run of this home without a supervisor
            log.error("%s goes on under the runbooks it had: %s", run, error)
        else:
            self._take_policy(live, policy)

    def _take_policy(self, live: LiveRun, policy: Policy) -> None:
        if live.loop.state is not None and policy.version != live.loop.state.policy.version:
            live.loop.take(events.PolicyChanged(at=self._clock.now(), policy=policy))

    def _policy_asked(self, run: str) -> Policy:
        """The runbooks as they are now. Raises AskError: a person who resumes can see to a slip in them first."""
        try:
            return self._policy(self._spec(run))
        except SpecError as error:
            raise AskError("usage", str(error)) from None

    def _spec(self, run: str) -> Spec:
        return Spec.model_validate_json((self._home.run(run) / "spec.json").read_text())

    def _policy(self, spec: Spec) -> Policy:
        return runbooks.load(Path(spec.recovery.runbooks) if spec.recovery.runbooks else None)

    def _assemble(self, run: str, spec: Spec, state: State | None) -> LiveRun:
        desk = liverun.Desk(
            home=self._home,
            journal=self._journal,
            clock=self._clock,
            notifier=self._notifier,
            spawn=partial(self._spawn, run),
        )
        self.runs[run] = liverun.assembled(run, spec, state, desk)
        return self.runs[run]

    def _spawn(self, run: str, work: Coroutine[Any, Any, None]) -> None:
        """Do something for a run in the background."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._done, run))

    def _done(self, run: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.changed.set()
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception) and bulkhead.is_of_one_run(error):
            self._give_up(run, error)
        elif error is not None:
            log.critical("a background task failed", exc_info=error)
            os._exit(70)  # replay is the recovery: the agents start the supervisor anew

    # Agents

    def hello(self, hello: o.Hello, send: Callable[[bytes], None]) -> o.Refused | None:
        """An agent dials; returns why it is not wanted, if it is not."""
        if hello.run in self.unsupervised:
            send(o.encode(o.Welcome()))  # it trains on: nobody can say that it should not
            return None
        live = self.runs.get(hello.run)
        if live is None or live.loop.state is None:
            return self._stray(hello.run)
        if (attempt := live.loop.state.attempt) != hello.attempt:
            cause = o.Refusal.OVER if hello.attempt < attempt else o.Refusal.UNKNOWN
            return o.Refused(why=f"attempt {attempt} of {hello.run} is the present one", cause=cause)
        now = self._clock.now()
        offset_s = live.agents.connect(hello, send, now)
        live.unseen_since.pop(hello.node, None)
        send(o.encode(o.Welcome()))
        live.agents.pair()
        joined = events.AgentJoined(
            at=now,
            attempt=hello.attempt,
            node=hello.node,
            host=hello.host,
            world=hello.world,
            alive=hello.alive,
            clock_offset_s=offset_s,
        )
        with self._bulkhead(hello.run):
            live.loop.take(joined)
            for started in hello.ranks:
                live.loop.see(started)
            live.loop.repeat_orders()
        self.changed.set()
        return None

    def _stray(self, run: str) -> o.Refused:
        """The refusal of an agent whose run does not go on here: only what is known to be over ends workers at once."""
        phase = self._journal.phase(run)
        if phase is None:
            return o.Refused(why=f"run {run} is not known here", cause=o.Refusal.UNKNOWN)
        return o.Refused(
            why=f"run {run} is over: {phase}", cause=o.Refusal.OVER if phase in ENDED else o.Refusal.UNKNOWN
        )

    def message(self, run: str, node: int, message: o.FromAgent) -> bool:
        """A connected agent says something; False when nobody took it in, and it should be said again."""
        if (live := self.runs.get(run)) is not None:
            with self._bulkhead(run):
                self._take(live, node, message)
        self.changed.set()
        return run not in self.unsupervised

    def _take(self, live: LiveRun, node: int, message: o.FromAgent) -> None:
        match message:
            case o.Report():
                live.loop.see(live.agents.ours(node, message.signal, self._clock.now()))
            case o.StoreOffered():
                live.agents.offered(message.store)
                live.loop.repeat_orders()

    def goodbye(self, run: str, node: int, send: Callable[[bytes], None]) -> None:
        """A connection ended: the node is unseen, which proves nothing."""
        live = self.runs.get(run)
        if live is not None and live.agents.disconnect(node, send):
            live.unseen_since[node] = self._clock.now()

    def save_rows(self) -> None:
        """Give the steps heard to the journal; what was reported until now may be acknowledged then."""
        for live in self.runs.values():
            live.loop.save_rows()

    # Time

    def wake(self) -> None:
        """Wake the runs whose deadline has come, let go of those that are over."""
        now = self._clock.now()
        for run, live in list(self.runs.items()):
            deadline = live.loop.deadline
            if deadline is not None and deadline <= now:
                with self._bulkhead(run):
                    live.loop.wake()
        for run in [run for run, live in self.runs.items() if live.loop.ended]:
            self.runs[run].loop.save_rows()
            self._past[run] = self.runs.pop(run).loop

    def specs(self) -> list[Spec]:
        """Of the runs that go on."""
        return [live.spec for live in self.runs.values()]

    def wait_s(self, most_s: float) -> float:
        """Until the next deadline, at most `most_s`."""
        deadlines = [live.loop.deadline for live in self.runs.values() if live.loop.deadline is not None]
        return max(0.0, min([most_s, *(d - self._clock.now() for d in deadlines)]))

    def find_dead_agents(self) -> None:
        """Of the agents that are not connected: which are dead on a second witness?"""
        for run, live in list(self.runs.items()):
            with self._bulkhead(run):
                self._find_dead_agents(run, live)

    def _find_dead_agents(self, run: str, live: LiveRun) -> None:
        for node, since in list(live.unseen_since.items()):
            state = live.loop.state
            if state is None or node not in state.joined:
                continue
            gone = registry.witnesses(self._home.root, run, state.attempt, node)
            if gone:
                now = self._clock.now()
                words = (f"its connection has been closed for {now - since:.1f} s", *gone)
                live.loop.take(events.AgentGone(at=now, attempt=state.attempt, node=node, witnesses=words))

    # People

    def ask(self, request: requests.Request) -> dict[str, Any]:
        """Do what a person asks. Raises AskError."""
        match request:
            case requests.Ping():
                return {"pid": os.getpid(), "runs": sorted(self.runs)}
            case requests.Submit():
                return {"run": self._submit(_valid(request.spec), request.yaml)}
            case requests.Stop() | requests.Resume() | requests.Drill():
                return self._steered(request)
            case requests.Ranks():
                return self._live(request.run).table(self._clock.now())
            case requests.Shutdown():
                return self._shutdown()

    def _shutdown(self) -> dict[str, Any]:
        """Leave the runs to themselves: they train on, and nobody starts a supervisor until one is asked for."""
        try:
            self._home.off.touch()
        except OSError as error:
            raise AskError("failed", f"the agents cannot be kept from starting it anew: {error}") from None
        self.leaving.set()
        return {"runs": sorted(self.runs)}

    def _submit(self, spec: Spec, yaml: str) -> str:
        run = f"{spec.name}-{''.join(secrets.choice(ALPHABET) for _ in range(5))}"
        now = self._clock.now()
        resolved = spec.model_dump(mode="json")
        folders.refuse_shared(self._home, self._journal, run, resolved)
        try:
            first, policy = meaning.origin_of(spec, now), self._policy(spec)
            self._keep(run, resolved, yaml)
        except SpecError as error:
            raise AskError("usage", str(error)) from None
        except OSError as error:
            raise AskError("failed", f"the run cannot be taken in: {error}") from None
        given = Submission(run=run, name=spec.name, submitted_at=now, spec=resolved, spec_yaml=yaml)
        submitted = events.RunSubmitted(at=now, run=run, plan=meaning.plan_of(spec), policy=policy, origin=first)
        with self._bulkhead(run):
            self._assemble(run, spec, None).loop.begin(given, submitted)
        if self._journal.phase(run) is None:  # what was to be decided first is a fault of ours: it never was
            self.unsupervised.discard(run)
            raise AskError("failed", f"the run was not taken in; see {self._home.log}")
        self.changed.set()
        return run

    def _keep(self, run: str, resolved: dict[str, Any], yaml: str) -> None:
        folder = self._home.run(run)
        folder.mkdir(parents=True)
        (folder / "spec.yaml").write_text(yaml)
        (folder / "spec.json").write_text(json.dumps(resolved, indent=2))

    def _steered(self, request: requests.Stop | requests.Resume | requests.Drill) -> dict[str, Any]:
        run = request.run
        if run in self.unsupervised:
            # What was wrong may have been repaired since.
            self._adopt(run, events.SupervisorStarted(at=self._clock.now(), pid=os.getpid()))
            if isinstance(request, requests.Resume) and run in self.runs:
                return {"run": run}
        if run not in self.unsupervised:
            with self._bulkhead(run):
                return self._steer(request)
        why = bulkhead.unsupervised(self._home.root, run)
        raise AskError("broken", f"nothing can be decided about {run}: {why}; see {self._home.log}")

    def _steer(self, request: requests.Stop | requests.Resume | requests.Drill) -> dict[str, Any]:
        match request:
            case requests.Stop():
                return self._stop(request)
            case requests.Resume():
                return self._resume(request)
            case requests.Drill():
                return self._drill(request)

    def _live(self, run: str) -> LiveRun:
        if run in self.runs:
            return self.runs[run]
        raise AskError("not_running", f"run {run} has ended or does not exist: see `lastgood ls -a`")

    def _stop(self, request: requests.Stop) -> dict[str, Any]:
        live = self.runs.get(request.run) or self._reopened(request.run, self._recorded(request.run))
        live.loop.take(events.StopRequested(at=self._clock.now(), by=request.by, now=request.now))
        self.changed.set()
        return {"run": request.run}

    def _resume(self, request: requests.Resume) -> dict[str, Any]:
        known = self.runs.get(request.run)
        if known is not None and not known.loop.ended:
            raise AskError("running", f"run {request.run} is running: nothing to resume")
        state = self._recorded(request.run)
        requests.refuse_step(state, request.from_step)
        spec = self._spec(request.run).model_dump(mode="json")
        folders.refuse_shared(self._home, self._journal, request.run, spec)
        policy = self._policy_asked(request.run)
        live = self._reopened(request.run, state)
        self._take_policy(live, policy)
        asked = events.ResumeRequested(at=self._clock.now(), by=request.by, from_step=request.from_step)
        live.loop.take(asked)
        live.loop.verify_unread()
        self.changed.set()
        return {"run": request.run}

    def _recorded(self, run: str) -> State:
        if all(known.run != run for known in self._journal.runs()):
            raise AskError("not_found", f"no run {run}: see `lastgood ls -a`")
        state = replayed(*self._journal.load(run))
        if state is None:  # a crash cut its submission off
            raise AskError("not_found", f"run {run} was never begun: submit it again")
        return state

    def _reopened(self, run: str, state: State) -> LiveRun:
        known = self.runs.pop(run, None)
        for loop in (self._past.pop(run, None), known.loop if known is not None else None):
            if loop is not None:
                loop.retire()
        return self._assemble(run, self._spec(run), state)

    def _drill(self, request: requests.Drill) -> dict[str, Any]:
        live = self._live(request.run)
        at = self._clock.now()
        assert live.loop.state is not None
        requests.refuse_drill(live.loop.state, request.drill, request.rank, live.inbox.has_started)
        number = int(at * 1000)  # unique in the run, also across supervisors
        live.loop.take(
            events.DrillRequested(at=at, by=request.by, drill=request.drill, rank=request.rank, number=number)
        )
        return {"run": request.run, "number": number}


def replayed(state: State | None, later: list[events.Event]) -> State | None:
    """The state after a snapshot and the events since."""
    for event in later:
        if state is None:
            if isinstance(event, events.RunSubmitted):
                state = begin(event).state
        else:
            state = decide(state, event).state
    return state


def _valid(spec: dict[str, Any]) -> Spec:
    try:
        return Spec.model_validate(spec)
    except ValueError as error:
        raise AskError("usage", f"the spec is not valid: {error}") from None

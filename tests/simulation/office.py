"""Who supervises? The real loop, core, inbox and detectors in a process that dies at any write and is started again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import cast

from monitors import signals as s
from monitors.clock import Clock
from monitors.watch import Watch, WatchConfig
from orchestrator.core import actions as a
from orchestrator.core import decide, events, invariants
from orchestrator.core.policy import Policy
from orchestrator.core.state import ENDED, Decision, State
from orchestrator.inbox import Inbox
from orchestrator.journal import Journal
from orchestrator.ports import Answer, Ports
from orchestrator.supervisor import RunLoop
from tests.simulation.agent import Agent
from tests.simulation.budgets import limits_of
from tests.simulation.checkers import Checkers
from tests.simulation.cluster import Cluster
from tests.simulation.journal import Crashed, Decide, MemoryJournal
from tests.simulation.knobs import Knobs
from tests.simulation.timeline import Timeline

RUN = "sim"


def decided(state: State | None, event: events.Event) -> Decision:
    """What the real supervisor makes of an event, invariants included."""
    if state is None:
        assert isinstance(event, events.RunSubmitted), event
        decision = decide.begin(event)
    else:
        decision = decide.decide(state, event)
    invariants.check(state, event, decision)
    return decision


class _Loop(RunLoop):
    """The real loop, whose decisions are looked at, and may be made by a core with a planted bug."""

    decider: Decide
    checkers: Checkers

    def _decide(self, before: State | None, event: events.Event) -> Decision:
        decision = self.decider(before, event)
        self.checkers.decided(before, event, decision)
        return decision


@dataclass(slots=True)
class _Ports:
    scheduler: object
    agents: object
    storage: object
    notifier: object


class Office:
    """The supervisor's process, and what starts it again."""

    def __init__(
        self, cluster: Cluster, *, timeline: Timeline, policy: Policy, checkers: Checkers, decider: Decide
    ) -> None:
        knobs = self.knobs = cluster.knobs
        self.dice = Random(f"office {knobs.seed}")
        self.journal = MemoryJournal()
        self.up = False
        self.crashes = 0
        self.pages: list[tuple[float, str]] = []
        self._time = timeline
        self._cluster = cluster
        self._policy = policy
        self._checkers = checkers
        self.journal.recorded = checkers.wishes.decided
        self._decider = decider
        self._life = 0
        self._last_alive = timeline.now()
        self._loop: _Loop | None = None
        self._touched = True
        """its deadline may have moved"""
        self._deadline = float("inf")

    # Its life

    def submit(self) -> None:
        """A person submits the run."""
        self.up = True
        self._loop = self._assembled(None)
        plan = plan_of(self.knobs)
        submitted = events.RunSubmitted(at=self._time.now(), run=RUN, plan=plan, policy=self._policy)
        self.take(submitted)

    def crash(self) -> None:
        """The process is gone; somebody starts it again."""
        self.up = False
        self.crashes += 1
        self._life += 1
        self._last_alive = self._time.now()
        for agent in self._cluster.agents():
            agent.hang_up()
        self._loop = None
        self._touched = True
        down_s = self.dice.choice((2.0, 60.0, 600.0, 3600.0)) * self.dice.uniform(0.5, 1.5)
        self._time.after(down_s, self.start)

    def start(self) -> None:
        """Replay, adopt, go on."""
        if self.up:
            return
        state = self.journal.load(self._decider)
        if state is None:
            self.submit()  # it died before the run was taken in: the person asks again
            return
        self.up = True
        loop = self._loop = self._assembled(state)
        if state.phase not in ENDED:
            started = events.SupervisorStarted(at=self._time.now(), pid=1, last_alive=self._last_alive)
            self._into(lambda: loop.resume(started))
        self._time.after(1.0, self._welcome)

    def _welcome(self) -> None:
        for agent in self._cluster.agents():
            agent.dial()

    def _assembled(self, state: State | None) -> _Loop:
        knobs = self.knobs
        watch = Watch(watch_config(knobs), nodes=knobs.nodes, ranks_per_node=knobs.ranks_per_node)
        watch.recall(self.journal.rows)
        inbox = Inbox(nodes=knobs.nodes, ranks_per_node=knobs.ranks_per_node, watch=watch, folder="/ckpt")
        cluster = self._cluster
        ports = _Ports(_OfLife(self, cluster), cluster, _OfLife(self, cluster), self)
        loop = _Loop(
            run=RUN,
            state=state,
            inbox=inbox,
            journal=cast(Journal, self.journal),
            ports=cast(Ports, ports),
            clock=cast(Clock, self._time),
            look=cluster.look,
            probe=cluster.probe,
        )
        loop.decider, loop.checkers = self._decider, self._checkers
        return loop

    # What reaches it

    @property
    def state(self) -> State | None:
        """As it was last decided, also while the supervisor is away."""
        return self.journal.entries[-1].decision.state if self.journal.entries else None

    @property
    def ended(self) -> bool:
        """Nothing is left to be done."""
        return self._loop is not None and self._loop.ended

    @property
    def deadline(self) -> float:
        """When it wants to be woken; infinity while it is away."""
        if self._touched:
            self._touched = False
            deadline = None if self._loop is None or self._loop.ended else self._loop.deadline
            self._deadline = float("inf") if deadline is None else deadline
        return self._deadline

    def wake(self) -> None:
        """Its deadline has come."""
        assert self._loop is not None
        self._into(self._loop.wake)

    def take(self, event: events.Event) -> bool:
        """An event from outside; False while nobody is there to take it."""
        loop = self._loop
        return loop is not None and self._into(lambda: loop.take(event))

    def hear(self, signal: s.Signal) -> bool:
        """A report of an agent; False when it was not taken in."""
        loop = self._loop
        if loop is None:
            return False
        self._touched = True
        try:
            loop.see(signal)
        except Crashed:
            self.crash()
            return False
        if isinstance(signal, s.StepReported):
            loop.save_rows()
        return True

    def hello(self, agent: Agent) -> bool:
        """An agent dials; False when it is not wanted."""
        loop = self._loop
        assert loop is not None
        state = loop.state
        if state is None or state.attempt != agent.attempt or state.phase in ENDED:
            return False
        training = agent.training
        joined = events.AgentJoined(
            at=self._time.now(), attempt=agent.attempt, node=agent.node, host=self._cluster.host_of(agent),
            world=agent.newest, alive=training is not None,
        )  # fmt: skip

        def welcome() -> None:
            loop.take(joined)
            for started in agent.ranks:
                loop.see(started)
            loop.repeat_orders()

        self._into(welcome)
        return True

    def find_dead(self, agent: Agent) -> bool:
        """Tell of a dead agent; True when nothing is left to be told."""
        state = self.state
        if state is None or state.attempt != agent.attempt or state.phase in ENDED:
            return True
        if not self.up:
            return False
        if agent.node in state.joined:
            gone = events.AgentGone(
                at=self._time.now(), attempt=agent.attempt, node=agent.node, witnesses=("link closed", "no such pid")
            )
            self.take(gone)
        return False

    def _into(self, call: Callable[[], None]) -> bool:
        """Do something inside the process; False when it died of it."""
        self._touched = True
        try:
            call()
        except Crashed:
            self.crash()
            return False
        return True

    # The notifier's port

    def alert(self, run: str, order: a.Alert) -> None:  # noqa: ARG002
        """Tell people."""
        if order.page:
            self.pages.append((self._time.now(), order.text))


class _OfLife:
    """Ports whose answers die with the process that asked."""

    def __init__(self, office: Office, cluster: Cluster) -> None:
        self._office = office
        self._cluster = cluster
        self._life = office._life

    def _mine(self, answer: Answer) -> Answer:
        def tell(event: events.Event) -> None:
            if self._office.up and self._office._life == self._life:
                self._office._into(lambda: answer(event))

        return tell

    def launch(self, order: a.Launch, answer: Answer) -> None:
        """To the scheduler."""
        self._cluster.launch(order, self._mine(answer))

    def end_attempt(self, order: a.EndAttempt, answer: Answer) -> None:
        """To the scheduler."""
        self._cluster.end_attempt(order, self._mine(answer))

    def verify(self, order: a.VerifyCheckpoint, answer: Answer) -> None:
        """To the storage."""
        self._cluster.verify(order, self._mine(answer))

    def delete(self, order: a.DeleteCheckpoint, answer: Answer) -> None:
        """To the storage."""
        self._cluster.delete(order, self._mine(answer))


def plan_of(knobs: Knobs) -> events.Plan:
    """What the spec of this run says."""
    return events.Plan(
        nodes=knobs.nodes,
        ranks_per_node=knobs.ranks_per_node,
        keep=knobs.keep,
        probation_steps=knobs.probation_steps,
        start_timeout_s=start_s(knobs),
        unheard_s=max(900.0, 40 * knobs.step_s),
        copies=knobs.copy_every > 0,
        excludes=knobs.spare_hosts > 0,
        save_every=None if knobs.chooses_interval else knobs.save_every,
        chooses_interval=knobs.chooses_interval,
        limits=limits_of(knobs),
    )


def start_s(knobs: Knobs) -> float:
    """The limit from ordering a world to its first step."""
    return 600.0 + 3 * knobs.startup_s + 12 * knobs.step_s


def watch_config(knobs: Knobs) -> WatchConfig:
    """Detectors for looks as rare as the simulation's."""
    return WatchConfig(
        floor_s=knobs.step_s,
        unlearned_s=12 * knobs.step_s,
        start_s=start_s(knobs),
        unseen_s=3 * knobs.seen_every_s + knobs.lag_s,
    )

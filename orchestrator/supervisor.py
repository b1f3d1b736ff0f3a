"""How does one run live? The loop: event → journal → decide → check → perform.

One thread decides; everything else only feels (signals) and acts (ports), and what comes of an action is the next
event. An event that a handler produces is queued, never handled inside the handler.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from monitors import signals as s
from monitors.clock import Clock
from monitors.detect.probes import ProbeWanted
from monitors.detect.recovery import Resumption
from orchestrator.core import actions, budget, decide, events, invariants, spending, worlds
from orchestrator.core.state import ENDED, CheckpointState, Decision, Phase, State
from orchestrator.inbox import Inbox
from orchestrator.journal import Journal, Submission
from orchestrator.journal.file import fits
from orchestrator.ports import Ports, perform

log = logging.getLogger(__name__)

SNAPSHOT_EVERY = 1000
"""decisions between states that are kept for good; the newest one is always there"""
REPEATED = actions.StartWorld | actions.StopWorld | actions.SaveEvery | actions.StopAfterStep | actions.CapPower
"""what an agent that dials is told again"""
LOOK_EVERY_S = 0.5
"""a rank that falls silent just after a look is looked at again before its lowest limit, 1 s, is over"""
PROBE_EVERY_S = 5.0
"""an order that was lost with a connection is given again; one that is being carried out is not disturbed by it"""


class RunLoop:
    """One run: its state, and the only place that changes it."""

    def __init__(
        self,
        *,
        run: str,
        state: State | None,
        inbox: Inbox,
        journal: Journal,
        ports: Ports,
        clock: Clock,
        look: Callable[[int, tuple[int, ...]], None],
        probe: Callable[[ProbeWanted], None],
    ) -> None:
        self.run = run
        self._stands(state)
        self._inbox = inbox
        self._journal = journal
        self._ports = ports
        self._clock = clock
        self._look = look
        self._probe = probe
        self._asked_at: dict[int | ProbeWanted, float] = {}
        """when the kernel was last asked about a rank, or an agent to measure a device"""
        self._queue: deque[events.Event] = deque()
        self._busy = False
        self._retired = False
        self._told_unfit = False
        self._decided = 0
        self._submission: Submission | None = None
        """of a run that the journal does not have yet"""

    def _stands(self, state: State | None) -> None:
        """What is asked after every signal is the same until the next decision."""
        self.state = state
        self.ended = state is not None and state.phase in ENDED
        """nothing is left to be done for this run"""
        self._silence = None if state is None else _sooner(state.deadline, spending.due(state))
        """when silence means something to the core: a wait that runs out, or a budget that does"""

    @property
    def deadline(self) -> float | None:
        """When silence becomes an event."""
        return _sooner(self._silence, self._inbox.deadline)

    def take(self, event: events.Event) -> None:
        """Handle an event, and all that follow from it."""
        if self._retired:
            return
        self._queue.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._queue:
                self._handle(self._queue.popleft())
        finally:
            self._busy = False

    def begin(self, submission: Submission, event: events.RunSubmitted) -> None:
        """Take the run in: with its first decision, or not at all."""
        self._submission = submission
        self.take(event)

    def see(self, signal: s.Signal) -> None:
        """Handle a signal of an agent; a step that no journal takes is none, and must not come again with each dial."""
        if type(signal) is s.StepReported and not fits(signal):
            self._leave_out(signal)
            return
        for event in self._inbox.see(signal):
            self.take(event)
        self._ask()

    def _leave_out(self, row: s.StepReported) -> None:
        if not self._told_unfit:  # a script may print one with each line
            self._told_unfit = True
            log.warning("%s: left out, as are others like it: %s", self.run, row, extra={"run": self.run})

    def answered(self, event: events.Event) -> None:
        """What came of an order. A checkpoint that the verifier refused is news to the detectors too."""
        if isinstance(event, events.CheckpointRefused):
            known = self.state.checkpoints if self.state is not None else ()
            if all(save.name != event.checkpoint for save in known):
                return  # given up and deleted while it was read
            self.see(s.CheckpointRefused(at=event.at, node=0, checkpoint=event.checkpoint, why=event.why))
        else:
            self.take(event)

    def wake(self) -> None:
        """Silence lasted until a deadline: say so to whoever set it."""
        now = self._clock.now()
        for event in self._inbox.silent(now):
            self.take(event)
        silence = self._silence
        if silence is not None and now >= silence:
            self.take(events.TimePassed(at=now))
        self._ask()

    def save_rows(self) -> None:
        """Give the steps heard to the journal."""
        if self._inbox.rows:
            self._journal.add_rows(self.run, self._inbox.rows)
            self._inbox.rows = []

    def resume(self, event: events.SupervisorStarted) -> None:
        """Take the run over: order again what may not have been carried out, then go on."""
        assert self.state is not None
        trains = self.state.phase is not Phase.STARTING
        spoke = budget.tells_steps(self.state)
        self._inbox.adopted(self.state.world, event.at, speaks=self.state.entered, trains=trains, spoke=spoke)
        for event_id, index, action in self._journal.unmarked(self.run):
            self._perform(event_id, index, action)
        self.verify_unread()
        self.take(event)

    def verify_unread(self) -> None:
        """Have what was saved and not read back yet read back: whoever was at it may be gone."""
        assert self.state is not None
        for save in self.state.checkpoints:
            if save.state is CheckpointState.COMMITTED:
                perform(self.run, actions.VerifyCheckpoint(checkpoint=save.name), self._ports, self.answered)

    def retire(self) -> None:
        """Another loop goes on with the run: what is answered here from now on must not write over its state."""
        self._retired = True

    def repeat_orders(self) -> None:
        """An agent dialled: whatever it should be doing is ordered again."""
        if self.state is None:
            return
        for action in worlds.outstanding(self.state):
            if isinstance(action, REPEATED):
                perform(self.run, action, self._ports, self.answered)

    def _handle(self, event: events.Event) -> None:
        before = self.state
        decision = self._decide(before, event)
        self._decided += 1
        snapshot = self._decided % SNAPSHOT_EVERY == 1 or decision.state.phase in ENDED
        event_id = self._journal.record(
            self.run,
            event,
            decision,
            rows=self._inbox.rows,
            alive_at=self._clock.now(),
            snapshot=snapshot,
            submission=self._submission,
        )
        self._inbox.rows, self._submission = [], None
        self._stands(decision.state)
        if decision.reason:
            where = {"run": self.run, "attempt": decision.state.attempt, "world": decision.state.world}
            log.info("%s %s: %s", self.run, type(event).__name__, decision.reason, extra=where)
        self._follow(before, decision.state)
        self._let_go(before, event, decision)
        for index, action in enumerate(decision.actions):
            self._perform(event_id, index, action)

    def _decide(self, before: State | None, event: events.Event) -> Decision:
        if before is None:
            assert isinstance(event, events.RunSubmitted), event
            decision = decide.begin(event)
        else:
            decision = decide.decide(before, event)
        invariants.check(before, event, decision)
        return decision

    def _follow(self, before: State | None, after: State) -> None:
        if before is not None and after.attempt != before.attempt:
            self._inbox.launched()
        if before is None or after.world != before.world:
            self._asked_at.clear()
            self._inbox.began(after.world, after.since, _resumption(after), spoke=budget.tells_steps(after))

    def _let_go(self, before: State | None, event: events.Event, decision: Decision) -> None:
        """What a person called over is told anew if it goes on."""
        if before is None or not isinstance(event, events.IncidentResolved):
            return
        for one in before.open:
            if one.id in decision.closed:
                self._inbox.resolved(one.incident.kind)

    def _perform(self, event_id: int, index: int, action: actions.Action) -> None:
        perform(self.run, action, self._ports, self.answered)
        self._journal.mark(event_id, index, self._clock.now())

    def _ask(self) -> None:
        """Have a closer look taken at what a detector would like to know more of."""
        if self.state is None or not self._inbox.asks:
            return
        # Each rank for itself: one that falls silent just after another must be looked at before the verdict.
        if ranks := tuple(rank for rank in self._inbox.looks if self._is_due(rank, LOOK_EVERY_S)):
            self._look(self.state.world, ranks)
        for wanted in self._inbox.probes:
            if self._is_due(wanted, PROBE_EVERY_S):
                self._probe(wanted)

    def _is_due(self, what: int | ProbeWanted, every_s: float) -> bool:
        now = self._clock.now()
        due = now - self._asked_at.get(what, float("-inf")) >= every_s
        if due:
            self._asked_at[what] = now
        return due


def _sooner(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _resumption(state: State) -> Resumption:
    """How the world that was just ordered goes on. What copies in memory may not be used for is in doubt."""
    recovery = state.recovery
    if recovery is None:
        return Resumption(skips=state.skips)
    return Resumption(skips=state.skips, doubted=recovery.good_only or recovery.from_disk, asked=recovery.asked)

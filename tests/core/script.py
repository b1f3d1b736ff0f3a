"""A run as a script: events in, decisions out, the invariants checked after each."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from monitors.incidents import Incident, Kind, Subject
from orchestrator import runbooks
from orchestrator.core import actions as a
from orchestrator.core import decide, invariants
from orchestrator.core import events as e
from orchestrator.core.policy import Policy
from orchestrator.core.state import Checkpoint, CheckpointState, Decision, Phase, State

POLICY = runbooks.load()
PLAN = e.Plan(nodes=2, ranks_per_node=1, keep=2, probation_steps=20, skip_margin_steps=8, excludes=True)


def with_response(kind: Kind, **changes: Any) -> Policy:
    """The built-in policy with one response changed."""
    responses = POLICY.responses | {kind: replace(POLICY.responses[kind], **changes)}
    return Policy(version="changed", responses=responses)


@dataclass(slots=True)
class Script:
    """One run; every event comes `gap_s` after the one before."""

    plan: e.Plan = PLAN
    policy: Policy = POLICY
    at: float = 1000.0
    gap_s: float = 1.0
    decisions: list[tuple[e.Event, Decision]] = field(default_factory=list)

    @property
    def state(self) -> State:
        """As it stands."""
        return self.decisions[-1][1].state

    def see(self, event: e.Event) -> Decision:
        """Decide, check, remember."""
        before = self.decisions[-1][1].state if self.decisions else None
        if before is None:
            assert isinstance(event, e.RunSubmitted)
            decision = decide.begin(event)
        else:
            decision = decide.decide(before, event)
        invariants.check(before, event, decision)
        self.decisions.append((event, decision))
        return decision

    def tick(self, seconds: float | None = None) -> float:
        """Time goes on; returns it."""
        self.at += self.gap_s if seconds is None else seconds
        return self.at

    # What usually happens

    def submit(self) -> Decision:
        """It begins."""
        return self.see(e.RunSubmitted(at=self.tick(), run="r", plan=self.plan, policy=self.policy))

    def join(self) -> Decision:
        """The agents of the newest attempt dial in."""
        decisions = [
            self.see(e.AgentJoined(at=self.tick(), attempt=self.state.attempt, node=node, host=f"h{node}"))
            for node in range(self.plan.nodes)
        ]
        return decisions[-1]

    def enter(self, step: int = 0, checkpoint: str | None = None) -> None:
        """The newest world comes to its training loop."""
        world = self.state.world
        self.see(e.WorldEntered(at=self.tick(), world=world))
        self.see(e.WorldRestored(at=self.tick(), world=world, checkpoint=checkpoint, step=step))

    def progress(self, step: int, *, suspect_since: int | None = None) -> Decision:
        """The newest world finished steps."""
        event = e.Progressed(at=self.tick(), world=self.state.world, step=step, suspect_since=suspect_since)
        return self.see(event)

    def train(self, step: int = 1) -> Script:
        """From nothing to a world that trains."""
        self.submit()
        self.join()
        self.enter()
        self.progress(step)
        return self

    def save(self, step: int, *, verify: bool = True, world: int | None = None, at: float | None = None) -> str:
        """A save commits, and is read back."""
        world = self.state.world if world is None else world
        name = f"step-{step:08d}.a1w{world}"
        now = self.tick()
        self.see(
            e.CheckpointCommitted(
                at=now, checkpoint=name, step=step, world=world, saved_at=now if at is None else at, bytes=1, path=name
            )
        )
        if verify:
            self.verify(name)
        return name

    def verify(self, name: str) -> Decision:
        """A save is read back whole."""
        return self.see(e.CheckpointVerified(at=self.tick(), checkpoint=name))

    def incident(self, kind: Kind, **facts: Any) -> Decision:
        """A detector concludes."""
        at = self.tick()
        known: dict[str, Any] = {
            "onset": at, "world": self.state.world, "step": self.state.step, "evidence": ("one", "two"),
            "subject": Subject(node=0, rank=0),
        }  # fmt: skip
        return self.see(e.IncidentDetected(at=at, incident=Incident(kind=kind, at=at, **(known | facts))))

    def stopped(self) -> Decision:
        """No worker of the newest world is left anywhere."""
        world = self.state.world
        return [self.see(e.NodeStopped(at=self.tick(), world=world, node=node)) for node in range(self.plan.nodes)][-1]

    def ended(self) -> Decision:
        """No process of the newest attempt is left."""
        return self.see(e.AttemptEnded(at=self.tick(), attempt=self.state.attempt))

    def wait(self) -> Decision:
        """Silence until the deadline."""
        assert self.state.deadline is not None
        self.at = max(self.at, self.state.deadline)
        return self.see(e.TimePassed(at=self.at))

    def back_off(self) -> None:
        """Wait as long as is to be waited before the next try."""
        while self.state.phase is Phase.BACKING_OFF:
            self.wait()

    def restart(self, step: int = 0, checkpoint: str | None = None) -> None:
        """The next world takes its first step, from a step that it restored."""
        self.stopped()
        self.back_off()
        self.enter(step, checkpoint)
        self.progress(step + 1)

    def checkpoint(self, name: str) -> Checkpoint:
        """One save."""
        return next(c for c in self.state.checkpoints if c.name == name)

    def states(self) -> dict[int, CheckpointState]:
        """Saves by step; of one saved twice, the newer world's."""
        return {c.step: c.state for c in self.state.checkpoints}


def started(decision: Decision) -> a.StartWorld:
    """The world that a decision starts."""
    found = [action for action in decision.actions if isinstance(action, a.StartWorld)]
    assert len(found) == 1, decision
    return found[0]


def kinds(decision: Decision) -> list[str]:
    """The names of the actions."""
    return [type(action).__name__ for action in decision.actions]


def at_phase(phase: Phase) -> Script:
    """A run in this phase, with a history: two worlds, saves, a skipped window."""
    run = Script()
    if phase is Phase.LAUNCHING:
        run.submit()
        return run
    run.train()
    run.progress(30)
    run.save(20)
    if phase is Phase.STARTING:
        run.incident(Kind.HANG)
        run.stopped()
        return run
    steps: dict[Phase, list[object]] = {
        Phase.TRAINING: [],
        Phase.STOPPING_WORLD: [lambda: run.incident(Kind.HANG)],
        Phase.BACKING_OFF: [lambda: _crash(run), lambda: _crash(run)],
        Phase.RELAUNCHING: [lambda: run.see(_gone(run))],
        Phase.FINISHING: [lambda: _finish(run)],
        Phase.STOPPING: [lambda: run.see(e.StopRequested(at=run.tick(), by="p"))],
        Phase.PAUSING: [lambda: run.see(e.PauseRequested(at=run.tick(), by="p"))],
        Phase.PAUSED: [lambda: run.see(e.PauseRequested(at=run.tick(), by="p")), run.stopped, run.ended],
        Phase.HOLDING: [lambda: run.incident(Kind.CRASH_LOOP)],
        Phase.HELD: [lambda: run.incident(Kind.CRASH_LOOP), run.ended],
        Phase.SUCCEEDED: [lambda: _finish(run), run.ended],
        Phase.STOPPED: [lambda: run.see(e.StopRequested(at=run.tick(), by="p", now=True)), run.ended],
    }
    for step in steps[phase]:
        assert callable(step)
        step()
    assert run.state.phase is phase, run.state
    return run


def _crash(run: Script) -> None:
    """Without progress since the one before; the second waits."""
    run.incident(Kind.WORKER_EXCEPTION, fingerprint=f"f{run.at}")
    run.stopped()
    if run.state.phase is Phase.STARTING:
        run.enter(20)


def _gone(run: Script) -> e.AgentGone:
    return e.AgentGone(at=run.tick(), attempt=run.state.attempt, node=1, witnesses=("link closed", "no such pid"))


def _finish(run: Script) -> None:
    for rank in range(run.plan.nodes * run.plan.ranks_per_node):
        run.see(e.RankFinished(at=run.tick(), world=run.state.world, rank=rank))
    run.stopped()

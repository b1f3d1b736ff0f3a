"""Runs to tell stories about: the real core decides, the script says what happens to it and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from monitors.incidents import Blame, Incident, Kind, Subject
from orchestrator.core import decide
from orchestrator.core import events as e
from orchestrator.core.actions import StartWorld
from orchestrator.core.policy import Policy, Response, Rung, Severity
from orchestrator.core.state import Decision, Phase, State
from orchestrator.journal import Entry, Journal

RUN = "gpt-abcde"
T0 = 1_000_000.0
"""when every script begins"""

_RESTART = Response(
    severity=Severity.ERROR,
    blame=Blame.HOST,
    ladder=(Rung.RESTART, Rung.RESTART, Rung.HOLD),
    strikes_max=100,
    window_s=3600.0,
    backoff_s=(0.0,),
)
_OBSERVE = replace(_RESTART, ladder=(Rung.OBSERVE,), strikes_max=0)
_REWIND = replace(_RESTART, ladder=(Rung.REWIND_SKIP,), taints=True, blame=Blame.DATA)
POLICY = Policy(
    version="scripted",
    responses=dict.fromkeys(Kind, _RESTART)
    | dict.fromkeys((Kind.LOSS_SPIKE, Kind.NONFINITE_LOSS), _REWIND)
    | dict.fromkeys(
        (Kind.LOSS_TRANSIENT, Kind.CHECKPOINT_CORRUPT, Kind.SAVE_FAILED, Kind.SUPERVISOR_RESTARTED), _OBSERVE
    )
    | {Kind.CRASH_LOOP: replace(_RESTART, ladder=(Rung.HOLD,), blame=Blame.USER_CODE)}
    | {Kind.LAUNCH_FAILED: replace(_RESTART, ladder=(Rung.RELAUNCH, Rung.HOLD), backoff_s=(5.0,))},
)
PLAN = e.Plan(nodes=1, ranks_per_node=2, probation_steps=5)


def blank(**changes: Any) -> State:
    """A state that is training."""
    state = State(run=RUN, plan=PLAN, policy=POLICY, phase=Phase.TRAINING, reason="world 1 is training", since=T0)
    return replace(state, **changes)


class Script:
    """A run and its clock; `entries` is what a journal would hold of it (and `journal` does, when one is given)."""

    def __init__(self, journal: Journal | None = None, *, run: str = RUN, plan: e.Plan = PLAN) -> None:
        self.now = T0
        self.run = run
        self.entries: list[Entry] = []
        self._journal = journal
        self._state: State | None = None
        if journal is not None:
            journal.submit(run, "gpt", {"name": "gpt"}, "name: gpt\n", T0)
        self.take(e.RunSubmitted(at=T0, run=run, plan=plan, policy=POLICY))

    @property
    def state(self) -> State:
        assert self._state is not None
        return self._state

    def take(self, event: e.Event) -> Decision:
        """Let the core decide, and keep it."""
        decision = decide.begin(event) if isinstance(event, e.RunSubmitted) else decide.decide(self.state, event)
        self._state = decision.state
        entry = len(self.entries) + 1
        if self._journal is not None:
            entry = self._journal.record(self.run, event, decision)
        self.entries.append(
            Entry(
                id=entry,
                event=event,
                phase=decision.state.phase,
                reason=decision.reason,
                actions=decision.actions,
                opened=decision.opened,
                closed=decision.closed,
            )
        )
        return decision

    def wait(self, seconds: float) -> Script:
        self.now += seconds
        return self

    def join(self, wait_s: float = 2.0) -> Script:
        """Every agent dials."""
        self.wait(wait_s)
        self.take(e.Launched(at=self.now, attempt=self.state.attempt, handle=f"local://{self.state.attempt}"))
        for node in range(self.state.plan.nodes):
            self.take(e.AgentJoined(at=self.now, attempt=self.state.attempt, node=node, host=f"host{node}"))
        return self

    def begin(self, step: int, *, start_s: float = 3.0, restore_s: float = 0.5) -> Script:
        """The world enters and restores the state of `step`."""
        world = self.state.world
        name = self.orders()[-1].candidates[0] if step else None
        self.take(e.WorldEntered(at=self.wait(start_s).now, world=world))
        self.take(e.WorldRestored(at=self.wait(restore_s).now, world=world, checkpoint=name, step=step))
        return self

    def train(self, steps: int, step_s: float = 0.1, *, energy: e.EnergyRead | None = None, **spent_s: float) -> Script:
        """Finish steps in one go; `spent_s` is the phase account of the world so far."""
        step = self.state.step + steps
        event = e.Progressed(at=self.wait(steps * step_s).now, world=self.state.world, step=step, step_s=step_s)
        self.take(replace(event, spent_s=spent_s or None, energy=energy))
        return self

    def save(self, *, stall_s: float = 0.0) -> Script:
        """A checkpoint of the present step, committed and verified."""
        state = self.state
        name = f"step-{state.step:08d}.a{state.attempt}w{state.world}"
        self.take(
            e.CheckpointCommitted(
                at=self.now,
                checkpoint=name,
                step=state.step,
                world=state.world,
                saved_at=self.now,
                bytes=1024,
                path=f"/scratch/{name}",
                stall_s=stall_s,
            )
        )
        self.take(e.CheckpointVerified(at=self.now, checkpoint=name))
        return self

    def fail(self, kind: Kind, *, detect_s: float = 0.25, decide_s: float = 0.0, **changes: Any) -> Script:
        """The world fails now, and it is noticed `detect_s` later."""
        onset = self.now
        at = self.wait(detect_s).now
        incident = Incident(
            kind=kind,
            at=at,
            onset=onset,
            world=self.state.world,
            subject=Subject(node=0, rank=1),
            step=self.state.step,
            evidence=("first evidence", "second evidence"),
        )
        self.take(e.IncidentDetected(at=self.wait(decide_s).now, incident=replace(incident, **changes)))
        return self

    def stop(self, wait_s: float = 0.5) -> Script:
        """No worker of the world is left."""
        self.wait(wait_s)
        for node in range(self.state.plan.nodes):
            self.take(e.NodeStopped(at=self.now, world=self.state.world, node=node))
        return self

    def finish(self, wait_s: float = 0.5) -> Script:
        """Every rank ends by itself, then every process."""
        for rank in range(self.state.plan.nodes * self.state.plan.ranks_per_node):
            self.take(e.RankFinished(at=self.now, world=self.state.world, rank=rank))
        self.stop(0.0)
        self.take(e.AttemptEnded(at=self.wait(wait_s).now, attempt=self.state.attempt))
        return self

    def orders(self) -> list[StartWorld]:
        """Every order to start a world so far."""
        return [action for entry in self.entries for action in entry.actions if isinstance(action, StartWorld)]

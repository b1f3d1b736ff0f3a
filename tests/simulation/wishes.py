"""Was what people asked respected? By what they asked, and what was ordered, as the journal has both."""

from __future__ import annotations

from orchestrator.core import actions as a
from orchestrator.core import events as e
from orchestrator.core.asked import BUDGETS
from orchestrator.core.state import ENDED, Decision, Phase, State
from tests.simulation.truth import Truth, Violation

ENDING = frozenset({Phase.FINISHING, Phase.HOLDING, Phase.STOPPING, Phase.PAUSING})


class Wishes:
    """Remembers what people want, apart from the core."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self._given_up: set[str] = set()
        """saves whose deletion was ordered"""
        self._paused = False
        """by a person"""

    def decided(self, before: State | None, event: e.Event, decision: Decision) -> None:
        """Raise Violation when somebody's wish was not respected."""
        if before is not None:
            self._heard(before, event, decision)
        for action in decision.actions:
            match action:
                case a.StartWorld() if before is not None and action.world > before.world:
                    self._begins(action)
                case a.DeleteCheckpoint():
                    self._given_up.add(action.checkpoint)
                case _:
                    pass

    def _heard(self, before: State, event: e.Event, decision: Decision) -> None:
        match event:
            case e.HostCordoned():
                self._cordoned(event.host, event.cordoned)
            case e.RestartRequested(without=int(node)) if before.plan.excludes and before.phase not in ENDED | ENDING:
                if (host := self._truth.hosts.get(before.attempt, {}).get(node)) and node in dict(before.hosts):
                    self._cordoned(host, True)
            case e.CheckpointPinned():
                self._pinned(event.checkpoint, event.pinned)
            case e.PauseRequested() if before.phase not in (ENDED | ENDING) - {Phase.PAUSED, Phase.PAUSING}:
                self._paused = self._paused or event.by not in BUDGETS
            case e.ResumeRequested() if decision.state.attempt > before.attempt:
                if self._paused and event.by in BUDGETS:
                    raise Violation(f"a person paused it, and {event.by} let it go on")
                self._paused = False
            case _:
                if decision.state.phase is Phase.STOPPED:
                    self._paused = False

    def _cordoned(self, host: str, cordoned: bool) -> None:
        (self._truth.cordoned.add if cordoned else self._truth.cordoned.discard)(host)

    def _pinned(self, name: str, pinned: bool) -> None:
        if pinned and name in self._truth.saves and name not in self._given_up:
            self._truth.pinned.add(name)
        elif not pinned:
            self._truth.pinned.discard(name)

    def _begins(self, order: a.StartWorld) -> None:
        given = set(self._truth.hosts[order.attempt].values())
        if wrong := given & self._truth.cordoned:
            raise Violation(f"world {order.world} is to begin on {wrong}, which are cordoned")

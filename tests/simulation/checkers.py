"""Was that right? Judges decisions by the truth of the simulated world, and by nothing the core believes."""

from __future__ import annotations

from collections import Counter

from monitors.incidents import DEPTH, Incident, Kind
from orchestrator.core import events as e
from orchestrator.core.policy import Policy, Rung
from orchestrator.core.state import Decision, Opened, Phase, State
from tests.simulation.budgets import Purse
from tests.simulation.keepers import Keepers
from tests.simulation.knobs import Knobs, Profile
from tests.simulation.truth import Truth, Violation
from tests.simulation.wishes import Wishes

NAMING = frozenset({Kind.WORKER_KILLED, Kind.WORKER_EXCEPTION, Kind.CRASH_LOOP})
LOSS = frozenset({Kind.NONFINITE_LOSS, Kind.LOSS_SPIKE, Kind.LOSS_DIVERGENCE, Kind.RECOVERY_WRONG})
"""true of poisoned weights only: no world here restores anything but what was saved or copied"""
SPOILS = frozenset({Kind.GPU_MEMORY, Kind.HOST_FAULT})
"""what is in memory may be wrong"""


class Checkers:
    """Looks at every decision as it is made."""

    def __init__(self, knobs: Knobs, truth: Truth, policy: Policy, keepers: Keepers) -> None:
        self._knobs = knobs
        self._truth = truth
        self._policy = policy
        self._keepers = keepers
        self.wishes = Wishes(truth)
        self._strikes: dict[Kind, dict[str, float]] = {}
        self.purse = Purse(truth)
        self.incidents: Counter[Kind] = Counter()
        self.recoveries = 0

    def decided(self, before: State | None, event: e.Event, decision: Decision) -> None:
        """Raise Violation when the decision is wrong."""
        self._truth.may_decide(decision.state)
        self.purse.decided(before, event, decision)
        if isinstance(event, e.Progressed) and event.step == 0:
            raise Violation(f"a run that speaks of steps is told as training before its first one: {event}")
        if isinstance(event, e.ResumeRequested) and not _is_pause_over(before, event):
            self._strikes.clear()  # a person looked
            self._resumed(before, decision)
        for opened in decision.opened:
            self._opened(opened, before, event)
            self._counted_once(decision.state, opened)

    def _resumed(self, before: State | None, decision: Decision) -> None:
        if before is not None and decision.state.attempt > before.attempt:
            self._keepers.doubted(before.world)

    def _opened(self, opened: Opened, before: State | None, event: e.Event) -> None:
        incident = opened.incident
        self.incidents[incident.kind] += 1
        if self._knobs.profile is Profile.HEALTHY:
            raise Violation(f"nothing is wrong, and yet: {incident}")
        if incident.kind is Kind.RECOVERY_SLOW and incident.world not in self._truth.slowed:
            raise Violation(f"no step of this world took longer, and yet: {incident}")
        if opened.rung is Rung.OBSERVE:
            return
        self.recoveries += 1
        self._truth.answered[incident.world].append(opened)
        if self._knobs.profile is Profile.BENIGN:
            raise Violation(f"nothing that a run cannot live with, and yet: {incident}")
        refused = isinstance(event, e.HostCordoned) and event.cordoned  # a host of the attempt that is being launched
        if not (refused or self._justified(incident, before)):
            raise Violation(f"a false alarm: {incident}; real faults: {self._truth.faults[incident.world]}")
        self._named(incident)
        self._hardware(incident)
        if incident.kind in LOSS and incident.world in self._truth.poison_of:
            self._truth.known_poisons.add(self._truth.poison_of[incident.world].number)
        if incident.kind in SPOILS and before is not None:
            self._keepers.doubted(before.world)
        self._struck(opened)

    def _justified(self, incident: Incident, before: State | None) -> bool:
        truth = self._truth
        if incident.kind in LOSS:
            return incident.world in truth.poison_of
        if incident.kind in DEPTH and self._knobs.hardware:
            return True  # judged by what broke, which may have been in the world before
        attempt = before.attempt if before else 0
        excuses = truth.attempt_faults[attempt]
        if incident.kind is Kind.LAUNCH_FAILED:  # an agent that cannot dial may as well not be there
            cordoned = truth.cordoned.intersection(truth.hosts.get(attempt, {}).values())  # since it was launched
            return bool(excuses) or bool(cordoned) or attempt in truth.lost_links
        if incident.kind is Kind.AGENT_LOST:
            return bool(excuses)
        return bool(truth.faults[incident.world]) or bool(excuses)

    def _named(self, incident: Incident) -> None:
        """Whoever is named without doubt did it; victims are not named."""
        named, culprits = incident.subject.rank, self._truth.culprits[incident.world]
        sure = incident.kind in NAMING and incident.confidence == 1.0
        if sure and named not in culprits:
            raise Violation(f"rank {named} is named and innocent, the culprits being {culprits}: {incident}")

    def _hardware(self, incident: Incident) -> None:
        """What is told of hardware is so."""
        if incident.kind not in DEPTH:
            return
        if self._knobs.profile is Profile.HARDWARE:
            self._truth.may_blame(incident)
        elif incident.subject.node not in self._truth.odd_nodes:
            raise Violation(f"nothing of node {incident.subject.node} is odd: {incident}")

    def _struck(self, opened: Opened) -> None:
        """3: counted anew, without the core's memory; what is told again under its old name takes its own place."""
        incident = opened.incident
        response = self._policy.responses[incident.kind]
        for known in self._strikes.values():
            known.pop(opened.id, None)
        times = self._strikes.setdefault(incident.kind, {})
        times[opened.id] = incident.at
        recent = sum(1 for at in times.values() if at > incident.at - response.window_s)
        if recent > response.strikes_max and opened.rung is not Rung.HOLD:
            raise Violation(f"{incident.kind} was answered {recent} times in {response.window_s} s")

    def _counted_once(self, state: State, opened: Opened) -> None:
        """Each incident that was answered is one strike, of the kind that it was told as last."""
        if self._knobs.profile is not Profile.HARDWARE or opened.rung is Rung.OBSERVE:
            return
        newest = opened.incident.at - 1000.0
        counted = Counter(strike.kind for strike in state.strikes if strike.at > newest)
        answered = {kind: sum(at > newest for at in times.values()) for kind, times in self._strikes.items()}
        if +counted != +Counter(answered):
            raise Violation(f"strikes {counted}, and what was answered is {answered}: {opened}")


def _is_pause_over(before: State | None, event: e.ResumeRequested) -> bool:
    """Nobody looked at anything: it goes on where it was."""
    return before is not None and before.phase is Phase.PAUSED and event.from_step is None

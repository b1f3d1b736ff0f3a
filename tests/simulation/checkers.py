"""Was that right? Judges decisions by the truth of the simulated world, and by nothing the core believes."""

from __future__ import annotations

from collections import Counter

from monitors.incidents import Incident, Kind
from orchestrator.core import events as e
from orchestrator.core.policy import Policy, Rung
from orchestrator.core.state import Decision, Opened, State
from tests.simulation.knobs import Knobs, Profile
from tests.simulation.truth import Truth, Violation

NAMING = frozenset({Kind.WORKER_KILLED, Kind.WORKER_EXCEPTION, Kind.CRASH_LOOP})
LOSS = frozenset({Kind.NONFINITE_LOSS, Kind.LOSS_SPIKE, Kind.LOSS_DIVERGENCE})


class Checkers:
    """Looks at every decision as it is made."""

    def __init__(self, knobs: Knobs, truth: Truth, policy: Policy) -> None:
        self._knobs = knobs
        self._truth = truth
        self._policy = policy
        self._strikes: dict[Kind, list[float]] = {}
        self.incidents: Counter[Kind] = Counter()
        self.recoveries = 0

    def decided(self, before: State | None, event: e.Event, decision: Decision) -> None:
        """Raise Violation when the decision is wrong."""
        self._truth.may_decide(decision.state)
        if isinstance(event, e.ResumeRequested):
            self._strikes.clear()  # a person looked
        for opened in decision.opened:
            self._opened(opened, before)

    def _opened(self, opened: Opened, before: State | None) -> None:
        incident = opened.incident
        self.incidents[incident.kind] += 1
        if self._knobs.profile is Profile.HEALTHY:
            raise Violation(f"nothing is wrong, and yet: {incident}")
        if opened.rung is Rung.OBSERVE:
            return
        self.recoveries += 1
        if self._knobs.profile is Profile.BENIGN:
            raise Violation(f"nothing that a run cannot live with, and yet: {incident}")
        if not self._justified(incident, before):
            raise Violation(f"a false alarm: {incident}; real faults: {self._truth.faults[incident.world]}")
        self._named(incident)
        if incident.kind in LOSS and incident.world in self._truth.poison_of:
            self._truth.known_poisons.add(self._truth.poison_of[incident.world].number)
        if opened.rung is not Rung.HOLD:
            self._struck(incident)

    def _justified(self, incident: Incident, before: State | None) -> bool:
        truth = self._truth
        if incident.kind in LOSS:
            return incident.world in truth.poison_of
        attempt = before.attempt if before else 0
        excuses = truth.attempt_faults[attempt]
        if incident.kind is Kind.LAUNCH_FAILED:  # an agent that cannot dial may as well not be there
            return bool(excuses) or attempt in truth.lost_links
        if incident.kind is Kind.AGENT_LOST:
            return bool(excuses)
        return bool(truth.faults[incident.world]) or bool(excuses)

    def _named(self, incident: Incident) -> None:
        """Whoever is named without doubt did it; victims are not named."""
        named, culprits = incident.subject.rank, self._truth.culprits[incident.world]
        sure = incident.kind in NAMING and incident.confidence == 1.0
        if sure and named not in culprits:
            raise Violation(f"rank {named} is named and innocent, the culprits being {culprits}: {incident}")

    def _struck(self, incident: Incident) -> None:
        """3: counted anew, without the core's memory."""
        response = self._policy.responses[incident.kind]
        times = self._strikes.setdefault(incident.kind, [])
        times.append(incident.at)
        recent = sum(1 for at in times if at > incident.at - response.window_s)
        if recent > response.strikes_max:
            raise Violation(f"{incident.kind} was answered {recent} times in {response.window_s} s")

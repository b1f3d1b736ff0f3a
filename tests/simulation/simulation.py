"""Does a run survive this seed? Safety first, everything failing; then liveness, nothing failing any more."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from orchestrator import runbooks
from orchestrator.core.state import ENDED, Phase, State
from tests.simulation.breakage import Breakage
from tests.simulation.budgets import balanced
from tests.simulation.checkers import Checkers
from tests.simulation.cluster import Cluster
from tests.simulation.faults import Faults
from tests.simulation.journal import Decide
from tests.simulation.knobs import DAY_S, Knobs, Profile, drawn
from tests.simulation.office import Office, decided
from tests.simulation.people import People
from tests.simulation.timeline import EPOCH_S, Timeline
from tests.simulation.truth import Truth, Violation

LIVENESS_S = 2 * DAY_S
"""for what is under way when faults stop, beyond the time that the steps left to do take"""
WAKES_MAX = 1000
"""in a row at the same moment: more is a deadline that never moves"""
POLICY = runbooks.load()


class Stuck(Exception):
    """Nothing fails any more, and yet the run does not come to an end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a seed went."""

    knobs: Knobs
    state: State
    days: float
    worlds: int
    recoveries: int
    crashes: int
    decisions: int
    budgets_spent: int
    incidents: dict[str, int]
    journal: Callable[[], str]
    """the whole journal as text"""

    @property
    def digest(self) -> str:
        """Equal for equal journals."""
        return hashlib.sha256(self.journal().encode()).hexdigest()


class Simulation:
    """One world, from one seed."""

    def __init__(self, knobs: Knobs, decider: Decide = decided) -> None:
        self.knobs = knobs
        self.time = Timeline()
        self.truth = Truth()
        self.cluster = Cluster(knobs, self.time, self.truth)
        self.checkers = Checkers(knobs, self.truth, POLICY, self.cluster.keepers)
        self.office = Office(self.cluster, timeline=self.time, policy=POLICY, checkers=self.checkers, decider=decider)
        self.cluster.office = self.office
        self.faults = Faults(knobs, self.time, self.cluster, self.office)
        self.breakage = Breakage(knobs, self.time, self.cluster, self.office)
        self.people = People(knobs, self.time, self.cluster, self.office)

    def run(self) -> Result:
        """Raises Violation, Stuck, or whatever the code under test raised."""
        _collect_seldom()
        self.faults.begin()
        self.breakage.begin()
        self.people.begin()
        self.office.submit()
        self._until(EPOCH_S + self.knobs.days * DAY_S)
        if not self._over():
            self.faults.stop()
            self.breakage.stop()
            self.people.stop()
            bound_s = LIVENESS_S + 2.5 * self.knobs.steps * self.knobs.step_s
            self._until(self.time.now() + bound_s)
        return self._judged()

    def forget(self) -> None:
        """Let go of the journal, nearly all that it holds: the world is a knot that only the collector unties."""
        self.office.journal.entries.clear()

    def _until(self, end: float) -> None:
        office, time = self.office, self.time
        entries, wakes, decided, up = office.journal.entries, 0, -1, False
        while time.at < end:
            # Nothing else ends it, and most of what happens is neither.
            if decided != len(entries) or up != office.up:
                decided, up = len(entries), office.up
                self.faults.care()
                self.people.care()
                if self._over():
                    return
            deadline = office.deadline
            if deadline >= time.next_at:
                time.step()
                continue
            wakes = wakes + 1 if deadline <= time.at else 0
            if wakes > WAKES_MAX:
                raise Stuck(f"the deadline {deadline} is past and does not move: {office.state}")
            time.advance(min(max(deadline, time.at), time.next_at))
            office.wake()

    def _over(self) -> bool:
        office = self.office
        if not office.up or not office.ended:
            return False
        assert office.state is not None
        return office.state.phase is Phase.SUCCEEDED or not self.cluster.failing

    def _judged(self) -> Result:
        state = self.office.state
        assert state is not None
        if state.phase not in ENDED:
            raise Stuck(f"still {state.phase} after {self._days():.1f} days: {state.reason}")
        if self.cluster.living_worlds():
            raise Violation(f"{state.phase}, and workers of {self.cluster.living_worlds()} live")
        if state.phase is Phase.HELD and not any(at >= state.since - DAY_S for at, _ in self.office.pages):
            raise Violation(f"held, and nobody was told: {state.reason}")
        if state.phase is Phase.SUCCEEDED:
            self._complete(state)
        if not self.office.crashes:  # else it was replayed at every crash
            assert self.office.journal.load(self.office._decider) == state
        if self.knobs.budget_share:
            balanced(self.office.journal.entries, state)
        return Result(
            knobs=self.knobs,
            state=state,
            days=self._days(),
            worlds=state.world,
            recoveries=self.checkers.recoveries,
            crashes=self.office.crashes,
            decisions=len(self.office.journal.entries),
            budgets_spent=self.checkers.purse.spent,
            incidents={str(kind): n for kind, n in sorted(self.checkers.incidents.items())},
            journal=self.office.journal.lines,
        )

    def _complete(self, state: State) -> None:
        """The last save holds every step once, and nothing bad."""
        weights = [save.weights for save in self.truth.saves.values() if save.weights.step == self.knobs.steps]
        if not weights and not self.knobs.rates.get("fail_saves"):
            raise Violation(f"succeeded at step {state.best_step} without a save of step {self.knobs.steps}")
        if self.knobs.profile in (Profile.HEALTHY, Profile.BENIGN) and state.world != 1:
            raise Violation(f"nothing ended a world, and yet there were {state.world}")
        if weights and weights[-1].poison is not None:
            raise Violation(f"succeeded with {weights[-1].poison}")

    def _days(self) -> float:
        return (self.time.now() - EPOCH_S) / DAY_S


def simulated(seed: int, *, days: float | None = None, profile: Profile | None = None) -> Result:
    """Run one seed."""
    return Simulation(drawn(seed, days, profile)).run()


@cache
def _collect_seldom() -> None:
    """Frozen values make no cycles, and looking for them takes a tenth of the time: seldom, and not at what stays.

    A run makes some 12 objects for each entry of its journal, which is to be forgotten before there are many of them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(500_000, 50, 1000)
